"""A TCP connection as a Pipe (a terminal server, a simulator in another process)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["TcpPipe", "open_tcp"]

_READ_OCTETS: Final = 65_536


class TcpPipe:
    """Octets over one connected stream."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self.on_attention: Callable[[], None] | None = None
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(_READ_OCTETS)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        with suppress(OSError):
            await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def pulse_attention(self) -> None:
        """A TCP stream has no wake line."""


async def open_tcp(host: str, port: int) -> TcpPipe:
    """Connect to `host`:`port`.

    Raises:
        OSError: no connection.
    """
    reader, writer = await asyncio.open_connection(host, port)
    connected = writer.get_extra_info("socket")
    if isinstance(connected, socket.socket):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return TcpPipe(f"tcp://{host}:{port}", reader, writer)
