"""Reading into one buffer that stays: asyncio's own way takes 256 KiB of new memory for each read, however small."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["BufferedReader"]

OCTETS: Final = 64 << 10


class BufferedReader(asyncio.BufferedProtocol):
    """Hands everything of a transport on to a protocol.

    Args:
        inner: the protocol.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._buffer = memoryview(bytearray(OCTETS))
        self.connection_made = inner.connection_made  # type: ignore[method-assign]
        self.connection_lost = inner.connection_lost  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self._inner.data_received(bytes(self._buffer[:nbytes]))
