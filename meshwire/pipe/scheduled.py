"""A wrapper that lets octets through by a schedule: what the line-rate and the fault wrapper have in common.

This file does the I/O (one timer a direction, one task that reads on); which octets are due when is decided by the two
`Schedule` objects, which are pure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from meshwire.pipe.base import HIGH_WATER_OCTETS, Pipe
from meshwire.pipe.inbox import Inbox

__all__ = ["Schedule", "ScheduledPipe"]


class Schedule(Protocol):
    """One direction of a line: octets go in at a time, and come out at a time. Pure; `now` in seconds of any clock."""

    def add(self, data: bytes, now: float) -> None:
        """Octets enter the line."""
        ...

    def due(self, now: float) -> bytes:
        """The octets that have arrived at the far end since the last call."""
        ...

    def next_at(self) -> float | None:
        """When to call `due` again; None while the line is empty."""
        ...

    def __len__(self) -> int:
        """Octets on the way."""
        ...


class _Direction:
    """One schedule with its one timer."""

    def __init__(self, schedule: Schedule, deliver: Callable[[bytes], None]) -> None:
        self._schedule = schedule
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    def add(self, data: bytes) -> None:
        if not self._closed:
            self._schedule.add(data, self._loop.time())
            if self._timer is None:
                self._advance()

    async def room(self, limit_octets: int) -> None:
        """Wait until no more than `limit_octets` are on the way."""
        while len(self._schedule) > limit_octets and not self._closed:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _advance(self) -> None:
        self._timer = None
        if due := self._schedule.due(self._loop.time()):
            self._deliver(due)
        if self._closed:
            return
        next_at = self._schedule.next_at()
        if next_at is not None:
            self._timer = self._loop.call_at(next_at, self._advance)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class ScheduledPipe:
    """A Pipe behind two schedules; the wake line passes through untouched.

    Args:
        pipe: what really carries the octets; closed with this one.
        outgoing: schedule of what is written.
        incoming: schedule of what is read.
    """

    def __init__(self, pipe: Pipe, outgoing: Schedule, incoming: Schedule) -> None:
        self.name = pipe.name
        self.inner = pipe
        self._inbox = Inbox()
        self._out = _Direction(outgoing, pipe.write)
        self._in = _Direction(incoming, self._inbox.put)
        self._pump: asyncio.Task[None] | None = None

    @property
    def on_attention(self) -> Callable[[], None] | None:
        return self.inner.on_attention

    @on_attention.setter
    def on_attention(self, callback: Callable[[], None] | None) -> None:
        self.inner.on_attention = callback

    async def read(self) -> bytes:
        if self._pump is None and not self._inbox.hung_up:
            self._pump = asyncio.get_running_loop().create_task(self._read_on(), name=f"{self.name} incoming")
        return await self._inbox.get()

    def write(self, data: bytes) -> None:
        self._out.add(data)

    async def drain(self) -> None:
        await self._out.room(HIGH_WATER_OCTETS)
        await self.inner.drain()

    async def aclose(self) -> None:
        self._out.close()
        self._in.close()
        self._inbox.hang_up()
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None
        await self.inner.aclose()

    def pulse_attention(self) -> None:
        self.inner.pulse_attention()

    async def _read_on(self) -> None:
        """Feed the incoming schedule while the line stands; what is on the way still arrives after a hang-up."""
        try:
            while data := await self.inner.read():
                self._in.add(data)
                await self._in.room(HIGH_WATER_OCTETS)
                await self._inbox.room(HIGH_WATER_OCTETS)
            await self._in.room(0)
        finally:
            self._inbox.hang_up()
