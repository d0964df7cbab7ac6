"""A WebSocket connection in the clothes of a transport, so that `Connection` speaks MQTT over it as over TCP."""

import asyncio
from typing import cast

from broker.websocket import WebSocket, binary_header

__all__ = ["WebSocketProtocol"]


class WebSocketProtocol(asyncio.Protocol):
    """What the event loop sees: octets of HTTP and frames.

    Args:
        inner: what speaks MQTT; it is connected from the first moment, so its limits for silent connections hold for
            the handshake as well.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._socket = WebSocket()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(_FramedTransport(self._transport, self._socket))

    def data_received(self, data: bytes) -> None:
        plain = self._socket.receive(data)
        self._send_answers()
        if plain:
            self._inner.data_received(plain)
        if self._socket.is_finished and self._transport is not None:
            self._transport.close()

    def _send_answers(self) -> None:
        output = self._socket.take_output()
        if output and self._transport is not None:
            self._transport.write(output)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self._transport = None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class _FramedTransport(asyncio.Transport):
    """Each write is one binary frame; closing says good-bye first."""

    def __init__(self, under: asyncio.Transport, websocket: WebSocket) -> None:
        super().__init__()
        self._under = under
        self._websocket = websocket

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._websocket.is_open:
            self._under.write(binary_header(len(data)) + data)

    def close(self) -> None:
        if not self._under.is_closing():
            self._websocket.close()
            output = self._websocket.take_output()
            if output:
                self._under.write(output)
        self._under.close()

    def abort(self) -> None:
        self._under.abort()

    def is_closing(self) -> bool:
        return self._under.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._under.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._under.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._under.pause_reading()

    def resume_reading(self) -> None:
        self._under.resume_reading()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._under.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._under.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError("a WebSocket keeps its protocol")

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._under.get_write_buffer_limits()

    def __repr__(self) -> str:
        return f"<WebSocket over {self._under!r}>"
