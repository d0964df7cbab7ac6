"""Serving an ASGI application in the gateway's own event loop: uvicorn without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.addresses import Address
from gateway.errors import AddressInUseError

__all__ = ["HttpServer", "bind_http"]

_GOODBYE_S: Final = 2
"""Open requests may take so long to end when the gateway stops, in seconds."""


def bind_http(address: Address) -> socket.socket:
    """A TCP socket at `address`, port 0 for any; raises AddressInUseError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=128)
    except OSError as error:
        raise AddressInUseError(
            "the HTTP port can't be bound",
            evidence=f"{address}: {error.strerror or error}",
            fix="stop the program that holds the port, or choose another: gateway.http",
        ) from None
    # Connections inherit it. asyncio does not set it here: such a socket does not say that its protocol is TCP. Without
    # it every answer, written as head and body, waits for a delayed acknowledgement: 44 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _Server(uvicorn.Server):
    """Signals are the process's business, and this is only one task of it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Answers what is no HTTP by a problem document (RFC 9457), as everything else is answered."""

    def send_400_response(self, msg: str) -> None:
        document = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": msg}
        octets = json.dumps(document).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(octets)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=octets),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class HttpServer:
    """One application on one socket.

    Args:
        app: an ASGI application.
        sock: bound and listening; closed at the end.
    """

    def __init__(self, app: Callable[..., Any], sock: socket.socket) -> None:
        self._sock = sock
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_GOODBYE_S,
            )
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._sock]), name="http")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            await serving
            raise
        finally:
            self._sock.close()
