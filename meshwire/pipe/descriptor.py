"""A Pipe over a file descriptor: non-blocking reads and writes driven by the loop (pty, serial port)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from meshwire.pipe.base import HIGH_WATER_OCTETS
from meshwire.pipe.inbox import Inbox

__all__ = ["DescriptorPipe"]

_READ_OCTETS: Final = 65_536

_OUTGOING_LIMIT_OCTETS: Final = 256 * 1024
"""A line that nobody reads loses octets beyond this, as a UART with nobody at the other end does; they are counted."""


class DescriptorPipe:
    """Octets over one descriptor that the loop can wait for.

    Args:
        fd: open descriptor; made non-blocking here, closed by `close`.
        name: for logs and messages.
        close: gives the descriptor back; called exactly once.
    """

    def __init__(self, fd: int, name: str, close: Callable[[], None]) -> None:
        self.name = name
        self.on_attention: Callable[[], None] | None = None
        self.octets_dropped = 0
        self._fd = fd
        self._close = close
        self._closed = False
        self._inbox = Inbox()
        self._outgoing = bytearray()
        self._drained: list[asyncio.Future[None]] = []
        self._writing = False
        self._reading = False
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._resume_reading()

    async def read(self) -> bytes:
        data = await self._inbox.get()
        if not self._inbox.hung_up:
            self._resume_reading()
        return data

    def write(self, data: bytes) -> None:
        if self._inbox.hung_up:
            return
        room = _OUTGOING_LIMIT_OCTETS - len(self._outgoing)
        self.octets_dropped += max(0, len(data) - room)
        self._outgoing += data[:room]
        if not self._writing:
            self._flush()

    async def drain(self) -> None:
        while len(self._outgoing) > HIGH_WATER_OCTETS and not self._inbox.hung_up:
            waiter = self._loop.create_future()
            self._drained.append(waiter)
            await waiter

    async def aclose(self) -> None:
        self._hang_up()
        if not self._closed:
            self._closed = True
            self._close()

    def pulse_attention(self) -> None:
        """No wake line on a bare descriptor."""

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_OCTETS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # EIO: the master of a pty, or the USB device behind a tty, is gone.
            data = b""
        if not data:
            self._hang_up()
            return
        self._inbox.put(data)
        if len(self._inbox) > HIGH_WATER_OCTETS:
            self._pause_reading()

    def _flush(self) -> None:
        try:
            del self._outgoing[: os.write(self._fd, self._outgoing)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._hang_up()
            return
        self._watch_writing(bool(self._outgoing))
        if len(self._outgoing) <= HIGH_WATER_OCTETS:
            self._wake_drained()

    def _watch_writing(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._flush)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._fd)
        self._writing = wanted

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _hang_up(self) -> None:
        if self._inbox.hung_up:
            return
        with suppress(RuntimeError):  # the loop may be closing
            self._pause_reading()
            self._watch_writing(False)
        self._outgoing.clear()
        self._inbox.hang_up()
        self._wake_drained()

    def _wake_drained(self) -> None:
        for waiter in self._drained:
            if not waiter.done():
                waiter.set_result(None)
        self._drained.clear()
