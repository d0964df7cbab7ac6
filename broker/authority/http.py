"""As much HTTP/1.1 server as a broker's hook needs (RFC 9112), in one file.

Does: keep-alive, one request after the other on a connection, bounded heads and bodies, bounded connections and
waiting times, head and body of an answer in **one** write with TCP_NODELAY. Two writes cost a delayed ACK, 44 ms, for
each call of RabbitMQ's client.
Does not: TLS, chunked bodies (411), ranges, HTTP/2, more than one request of a connection at a time.
The caller owes: a handler that answers every request; what it raises becomes 500 without a word of why.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog

__all__ = ["Bounds", "Handler", "HttpConnection", "Request", "Response"]

_log = structlog.get_logger()

HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case, `target` is as sent."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    """Address of the caller."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"

    def octets(self, *, keep_alive: bool) -> bytes:
        """Head and body, to be written at once."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        head = (
            f"HTTP/1.1 {self.status} {phrase}\r\ncontent-type: {self.content_type}\r\n"
            f"content-length: {len(self.body)}\r\nconnection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one caller may cost. Octets, seconds, counts."""

    max_head_octets: int = 16_384
    max_body_octets: int = 1_048_576
    idle_timeout_s: float = 75.0
    """Between two requests, and for the first one."""
    max_connections: int = 1_024


Handler = Callable[[Request], Awaitable[Response]]


class RequestRefused(Exception):
    """A request that can't be read; the connection ends with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and headers."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body_octets: int = 0
    keep_alive: bool = True


def parse_head(data: bytes, bounds: Bounds) -> Head:
    """Reads the head without its empty line (RFC 9112 section 3).

    Raises:
        RequestRefused: 400 malformed, 411 without a plain length, 413 too long a body, 505 other version.
    """
    lines = data.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3:
        raise RequestRefused(400)
    if words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise RequestRefused(505)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers:
            raise RequestRefused(400)
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise RequestRefused(411)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise RequestRefused(400)
    if len(length) > 12 or int(length) > bounds.max_body_octets:
        raise RequestRefused(413)
    said = headers.get("connection", "keep-alive" if words[2] == "HTTP/1.1" else "close").lower()
    return Head(words[0], words[1], headers, int(length), said != "close")


class HttpConnection(asyncio.Protocol):
    """One caller's connection.

    Args:
        handler: answers requests.
        bounds: limits.
        open_connections: shared by all connections of a server.
    """

    def __init__(self, handler: Handler, bounds: Bounds, open_connections: "set[HttpConnection]") -> None:
        self._handler = handler
        self._bounds = bounds
        self._open = open_connections
        self._buffer = bytearray()
        self._head: Head | None = None
        self._answering: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._open) >= self._bounds.max_connections:
            transport.abort()
            return
        self._open.add(self)
        self._peer = str((transport.get_extra_info("peername") or ("",))[0])
        plug = transport.get_extra_info("socket")
        if plug is not None and plug.family in (socket.AF_INET, socket.AF_INET6):
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering is None:
            self._advance()
        elif len(self._buffer) > self._bounds.max_head_octets + self._bounds.max_body_octets:
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        self._cancel_timer()
        if self._answering is not None:
            self._answering.cancel()

    def close(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def _rest(self) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(self._bounds.idle_timeout_s, self._transport.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advance(self) -> None:
        """Takes the next request off the buffer, if it is whole, and has it answered."""
        try:
            request = self._next_request()
        except RequestRefused as refused:
            self._transport.write(Response(refused.status).octets(keep_alive=False))
            self._transport.close()
            return
        if request is not None:
            self._cancel_timer()
            self._answering = asyncio.get_running_loop().create_task(self._answer(*request))

    def _next_request(self) -> tuple[Request, bool] | None:
        if self._head is None:
            end = self._buffer.find(HEAD_END)
            if (len(self._buffer) if end < 0 else end) > self._bounds.max_head_octets:
                raise RequestRefused(431)
            if end < 0:
                return None
            self._head = parse_head(bytes(self._buffer[:end]), self._bounds)
            del self._buffer[: end + len(HEAD_END)]
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = self._head
        if len(self._buffer) < head.body_octets:
            return None
        body = bytes(self._buffer[: head.body_octets])
        del self._buffer[: head.body_octets]
        self._head = None
        return Request(head.method, head.target, head.headers, body, self._peer), head.keep_alive

    async def _answer(self, request: Request, keep_alive: bool) -> None:
        try:
            response = await self._handler(request)
        except Exception:
            _log.exception("a hook's handler failed")
            response, keep_alive = Response(500), False
        self._answering = None
        if self._transport.is_closing():
            return
        self._transport.write(response.octets(keep_alive=keep_alive))
        if not keep_alive:
            self._transport.close()
            return
        with contextlib.suppress(RuntimeError):
            self._transport.resume_reading()
        self._rest()
        self._advance()
