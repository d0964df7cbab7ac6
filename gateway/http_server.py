"""Serving an ASGI application in the gateway's own event loop: uvicorn without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.addresses import Address
from gateway.errors import AddressInUseError

__all__ = ["HttpServer", "bind_http"]

_GOODBYE_S: Final = 2
"""So long open requests may take to end when the gateway stops, and clients to read a refusal, in seconds."""
_SWALLOWED_OCTETS: Final = 16 << 20
"""A client that has been refused may send so much more before it reads."""


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
    """Answers what is no HTTP by a problem document (RFC 9457), and lets the client read an answer to a request that it
    is still sending: closing at once would reset the connection, and the answer would be lost with it (RFC 9112
    section 9.6).
    """

    _line: asyncio.Transport
    _swallowed: int | None = None
    """Octets of a client that is being left; None: it is not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._line = transport
        super().connection_made(_Door(transport, self._leave))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._swallowed is None:
            super().data_received(data)
            return
        self._swallowed += len(data)
        if self._swallowed > _SWALLOWED_OCTETS:
            self._line.abort()

    def _leave(self) -> None:
        if self._swallowed is not None:
            return
        if self.conn.their_state not in (h11.SEND_BODY, h11.ERROR) or self._line.is_closing():
            self._line.close()
            return
        self._swallowed = 0
        self._line.resume_reading()
        self._line.write_eof()
        self.loop.call_later(_GOODBYE_S, self._line.close)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:
            # The application's answer to a request whose body went wrong would come too late.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(self._status(sys.exception()), msg)
        self.transport.close()

    def _status(self, error: BaseException | None) -> HTTPStatus:
        status = HTTPStatus(getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST))
        is_long = status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return HTTPStatus.REQUEST_URI_TOO_LONG if is_long and b"\n" not in self.conn.trailing_data[0] else status

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        octets = json.dumps(document).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(octets)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=status.value, headers=headers, reason=status.phrase.encode()),
            h11.Data(data=octets),
            h11.EndOfMessage(),
        ):
            self._line.write(self.conn.send(event) or b"")


class _Door:
    """A transport that is left by way of `leave`."""

    def __init__(self, transport: asyncio.Transport, leave: Callable[[], None]) -> None:
        self._transport = transport
        self.close = leave

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


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
