"""MQTT over WebSocket (MQTT 5.0 section 6, RFC 6455), client side: in the clothes of a transport, so that what speaks
MQTT notices no difference.

Does: the opening handshake with sub-protocol `mqtt`, masked binary frames, ping, close. Does not: TLS (the transport
below has it), extensions.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from typing import Final, cast

__all__ = ["WebSocketClient", "WebSocketRefused", "masked"]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_HEAD_OCTETS: Final = 16_384
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class WebSocketRefused(ConnectionError):
    """The server does not open a WebSocket, or breaks its rules."""


def opening(host: str, path: str, key: str) -> bytes:
    """The client's handshake (RFC 6455 section 4.1)."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode()


def judge(head: bytes, key: str) -> None:
    """Whether the server's answer opens the WebSocket; raises WebSocketRefused."""
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = status.split(" ", 2)
    if not parts[0].startswith("HTTP/"):
        raise WebSocketRefused("what answers is no HTTP server")
    if parts[1:2] != ["101"]:
        raise WebSocketRefused(f"the server answers {' '.join(parts[1:])} in place of 101 Switching Protocols")
    expected = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    if headers.get("sec-websocket-accept") != expected:
        raise WebSocketRefused("the server's Sec-WebSocket-Accept does not fit our key")
    if headers.get("sec-websocket-protocol", "mqtt") != "mqtt":
        raise WebSocketRefused(f"the server speaks {headers['sec-websocket-protocol']}, not mqtt")


def masked(opcode: int, payload: bytes) -> bytes:
    """One final frame of a client (RFC 6455 sections 5.2 and 5.3)."""
    mask, length = secrets.token_bytes(4), len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65_536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + length.to_bytes(8, "big")
    key = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return head + mask + mixed.to_bytes(length, "little")


class WebSocketClient(asyncio.Protocol):
    """What the event loop sees.

    Args:
        inner: speaks MQTT; connected once the server has opened the WebSocket.
        host: for the header `Host`.
        path: of the request.
    """

    def __init__(self, inner: asyncio.Protocol, host: str, path: str) -> None:
        self._inner = inner
        self._host = host
        self._path = path
        self._key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._is_open = False
        self._refusal: WebSocketRefused | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(opening(self._host, self._path, self._key))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            if self._is_open or self._opened():
                plain = self._payloads()
                if plain:
                    self._inner.data_received(plain)
        except WebSocketRefused as refusal:
            self._refusal = refusal
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(self._refusal or exc)
        self._transport = None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _opened(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_OCTETS:
                raise WebSocketRefused("the server's answer has no end")
            return False
        judge(bytes(self._buffer[:end]), self._key)
        del self._buffer[: end + 4]
        self._is_open = True
        assert self._transport is not None
        self._inner.connection_made(_Framed(self._transport))
        return True

    def _payloads(self) -> bytes:
        """MQTT octets of all whole frames that are there; frame boundaries mean nothing [MQTT-6.0.0-2]."""
        parts: list[bytes] = []
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode in (_BINARY, _CONTINUATION):
                parts.append(payload)
            elif opcode == _TEXT:
                raise WebSocketRefused("the server sent a text frame [MQTT-6.0.0-1]")
            elif self._transport is not None:
                if opcode == _PING:
                    self._transport.write(masked(_PONG, payload))
                elif opcode == _CLOSE:
                    self._transport.write(masked(_CLOSE, payload[:2]))
                    self._transport.close()
        return b"".join(parts)

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if buffer[0] & 0x70 or buffer[1] & 0x80:
            raise WebSocketRefused("the server breaks the rules of WebSocket frames")
        opcode, length, start = buffer[0] & 0x0F, buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        payload = bytes(buffer[start : start + length])
        del buffer[: start + length]
        return opcode, payload


class _Framed(asyncio.Transport):
    """Each write is one binary frame; closing says good-bye first."""

    def __init__(self, under: asyncio.Transport) -> None:
        super().__init__()
        self._under = under

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._under.write(masked(_BINARY, bytes(data)))

    def close(self) -> None:
        if not self._under.is_closing():
            self._under.write(masked(_CLOSE, b"\x03\xe8"))
        self._under.close()

    def abort(self) -> None:
        self._under.abort()

    def is_closing(self) -> bool:
        return self._under.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._under.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._under.pause_reading()

    def resume_reading(self) -> None:
        self._under.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._under.get_write_buffer_size()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._under.get_extra_info(name, default)
