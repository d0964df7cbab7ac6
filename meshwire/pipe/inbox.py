"""The waiting room between a callback that gets octets and a coroutine that reads them."""

from __future__ import annotations

import asyncio

__all__ = ["Inbox"]


class Inbox:
    """Octets that came in and wait for their one reader; writers can wait until there is room again."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._hung_up = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._octets)

    @property
    def hung_up(self) -> bool:
        """Nothing more will come; what is here can still be read."""
        return self._hung_up

    def put(self, data: bytes) -> None:
        """Add octets; after `hang_up` they are lost, as on a line that is cut."""
        if data and not self._hung_up:
            self._octets += data
            self._wake_reader()

    def hang_up(self) -> None:
        """The line is gone: the reader gets what is left, then `b""`."""
        self._hung_up = True
        self._wake_reader()
        self._wake_writers()

    async def get(self) -> bytes:
        """All octets there are, waiting for the first; `b""` after `hang_up`.

        Raises:
            RuntimeError: somebody else is reading already.
        """
        if self._reader is not None:
            raise RuntimeError("a pipe has one reader at a time")
        while not self._octets and not self._hung_up:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = bytes(self._octets)
        self._octets.clear()
        self._wake_writers()
        return data

    async def room(self, limit_octets: int) -> None:
        """Wait until no more than `limit_octets` are unread, or the line is gone."""
        while len(self._octets) > limit_octets and not self._hung_up:
            waiter = asyncio.get_running_loop().create_future()
            self._writers.append(waiter)
            await waiter

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writers(self) -> None:
        for waiter in self._writers:
            if not waiter.done():
                waiter.set_result(None)
        self._writers.clear()
