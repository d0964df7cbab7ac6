"""Serving an ASGI application in the gateway's own event loop: uvicorn without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.addresses import Address
from gateway.api.front import HEADERS
from gateway.errors import AddressInUseError

__all__ = ["HttpServer", "bind_http"]

_GOODBYE_S: Final = 2
"""So long open requests may take to end when the gateway stops, and clients to read a refusal, in seconds."""
_SWALLOWED_OCTETS: Final = 16 << 20
"""A client that has been refused may send so much more before it reads."""
PATIENCE_S: Final = 30.0
"""So long a client may take for a request's head, and for each piece of its body."""
MAX_CONNECTIONS: Final = 500
"""Each is a descriptor, and the outbox needs some, too; all event streams and live pages that there may be fit in."""


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


_RETRY_AFTER: Final = {"Retry-After": "10"}
_LONGEST_WORDS: Final = 200
_AT_REST: Final = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
"""Of a connection that waits for a request."""


class _Server(uvicorn.Server):
    """Signals are the process's business, and this is only one task of it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Answers what is no HTTP by a problem document (RFC 9457), and lets the client read an answer to a request that it
    is still sending: closing at once would reset the connection, and the answer would be lost with it (RFC 9112
    section 9.6). Who takes too long for a request is left, and so is whoever comes when too many are there.
    """

    _line: asyncio.Transport
    _swallowed: int | None = None
    """Octets of a client that is being left; None: it is not."""
    _due: asyncio.TimerHandle | None = None
    """When what is missing of a request has to be there."""

    def __init__(self, *arguments: Any, patience_s: float, max_connections: int, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience_s = patience_s
        self._max_connections = max_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._line = transport
        super().connection_made(_Door(transport, self._leave))  # type: ignore[arg-type]
        if len(self.connections) > self._max_connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open", _RETRY_AFTER)
            self._line.close()
            return
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect()

    def data_received(self, data: bytes) -> None:
        if self._swallowed is None:
            super().data_received(data)
            self._expect(has_come=True)
            return
        self._swallowed += len(data)
        if self._swallowed > _SWALLOWED_OCTETS:
            self._line.abort()

    # --- what has to come

    def _expect(self, *, has_come: bool = False) -> None:
        """Wait for what is missing; a head as a whole, of a body (`has_come`) the next piece."""
        is_head, is_body = self.conn.states == _AT_REST, self.conn.their_state is h11.SEND_BODY
        if not is_head or (is_body and has_come):
            self._expect_nothing()
        if (is_head or is_body) and self._due is None and not self._line.is_closing():
            self._due = self.loop.call_later(self._patience_s, self._too_late)

    def _expect_nothing(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_late(self) -> None:
        self._due = None
        if self.conn.their_state is h11.SEND_BODY and self.flow.read_paused:
            self._expect()  # it is we who do not read
            return
        self._end(HTTPStatus.REQUEST_TIMEOUT, f"nothing of the request has come for {self._patience_s:g} s")

    # --- the end

    def _leave(self) -> None:
        self._expect_nothing()
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
        error = sys.exception()
        self._end(self._status(error), f"this is no HTTP request that can be read: {error or msg}"[:_LONGEST_WORDS])

    def _end(self, status: HTTPStatus, detail: str) -> None:
        if self.cycle is not None:
            # The application's answer to a request whose body went wrong would come too late.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(status, detail)
        self.transport.close()

    def _status(self, error: BaseException | None) -> HTTPStatus:
        status = HTTPStatus(getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST))
        is_long = status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return HTTPStatus.REQUEST_URI_TOO_LONG if is_long and b"\n" not in self.conn.trailing_data[0] else status

    def _refuse(self, status: HTTPStatus, detail: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
        document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        octets = json.dumps(document).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(octets)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in {**HEADERS, **more}.items()),
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
        patience_s: how long a client may take for a request's head, and for each piece of its body, in seconds.
        max_connections: at once.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        sock: socket.socket,
        *,
        patience_s: float = PATIENCE_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._sock = sock
        self._server = _Server(
            uvicorn.Config(
                app,
                http=partial(_Protocol, patience_s=patience_s, max_connections=max_connections),  # type: ignore[arg-type]
                ws="none",
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
