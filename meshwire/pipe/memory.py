"""Two Pipe ends joined in memory, wake line included: for tests, and for boards that live in the NIC's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshwire.pipe.base import HIGH_WATER_OCTETS
from meshwire.pipe.inbox import Inbox

__all__ = ["MemoryPipe", "memory_pair"]


class MemoryPipe:
    """One end of `memory_pair`. What is written here is read at the other end, and the wake line crosses over too."""

    def __init__(self, name: str, inbox: Inbox, outbox: Inbox) -> None:
        self.name = name
        self.on_attention: Callable[[], None] | None = None
        self._inbox = inbox
        self._outbox = outbox
        self._peer: MemoryPipe | None = None

    async def read(self) -> bytes:
        return await self._inbox.get()

    def write(self, data: bytes) -> None:
        self._outbox.put(data)

    async def drain(self) -> None:
        await self._outbox.room(HIGH_WATER_OCTETS)

    async def aclose(self) -> None:
        self._outbox.hang_up()
        self._inbox.hang_up()

    def pulse_attention(self) -> None:
        """The other end's `on_attention` is called in the next turn of the loop, as an interrupt would come."""
        if self._peer is not None and not self._outbox.hung_up:
            asyncio.get_running_loop().call_soon(self._peer._attend)

    def join(self, peer: MemoryPipe) -> None:
        """Lay the wake line to the other end."""
        self._peer = peer

    def _attend(self) -> None:
        if self.on_attention is not None and not self._inbox.hung_up:
            self.on_attention()


def memory_pair(name: str = "memory") -> tuple[MemoryPipe, MemoryPipe]:
    """Two joined ends; closing either hangs up both."""
    a_to_b, b_to_a = Inbox(), Inbox()
    a = MemoryPipe(f"{name}/a", b_to_a, a_to_b)
    b = MemoryPipe(f"{name}/b", a_to_b, b_to_a)
    a.join(b)
    b.join(a)
    return a, b
