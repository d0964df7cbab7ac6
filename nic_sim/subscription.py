"""One CoAP client's interest in an Observation: the notifications it still has to get, the newest few."""

from __future__ import annotations

import asyncio
from typing import Final

from meshwire.coap.message import Message
from nic_sim.observation import Observation

__all__ = ["Subscription"]

MAX_PENDING: Final = 8
"""A client that is slower than its board gets the newest; the oldest is dropped and counted (RFC 7641 section 1.3)."""


class Subscription:
    """A bounded queue of (Observe number towards clients, the board's message)."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.dropped = 0
        self._queue: asyncio.Queue[tuple[int, Message]] = asyncio.Queue(MAX_PENDING)

    def put(self, number: int, message: Message) -> None:
        """Queue one notification; never blocks."""
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait((number, message))

    def clear(self) -> None:
        """Forget what is queued."""
        while not self._queue.empty():
            self._queue.get_nowait()

    async def get(self) -> tuple[int, Message]:
        """Wait for the next notification."""
        return await self._queue.get()
