"""What the broker tells of itself, shared by all who look: asked at most about once a second, with rates.

A hundred open pages on the same question cost the broker what one costs.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gateway.operations.desk import BrokerDesk, Page, Topics
from gateway.operations.rates import Rates
from gateway.operations.records import AddressRow

__all__ = ["Look", "Watch"]

FRESH_S: Final = 1.0
MOST_QUESTIONS: Final = 200
"""Remembered, with their rates; the longest unused is forgotten."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Look(Generic[ResultT]):
    """An answer, and messages a second by row: in and out, or of a topic."""

    result: ResultT
    rates: Mapping[str, tuple[float, ...]]


@dataclass(slots=True)
class _Question:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    meter: Rates = field(default_factory=Rates)
    look: Look[Any] | None = None
    asked_at: float = 0.0


class Watch:
    """See the module.

    Args:
        desk: asks the broker; what it raises, our methods raise.
        now_s: monotonic time.
    """

    def __init__(self, desk: BrokerDesk, now_s: Callable[[], float] = time.monotonic) -> None:
        self.desk = desk
        self._now_s = now_s
        self._questions: OrderedDict[tuple[str, ...], _Question] = OrderedDict()

    async def clients(self, tenant: str | None, find: str) -> Look[Page]:
        """Connections, with rates in and out."""

        def counts(page: Page) -> dict[str, tuple[int, ...]]:
            return {row.key: (row.received or 0, row.sent or 0) for row in page.clients if row.received is not None}

        return await self._look(("clients", tenant or "", find), lambda: self.desk.clients(tenant, find), counts)

    async def topics(self, tenant: str, find: str) -> Look[Topics]:
        """Topics, with their rate."""

        def counts(topics: Topics) -> dict[str, tuple[int, ...]]:
            return {row.topic: (row.messages,) for row in topics.topics}

        return await self._look(("topics", tenant, find), lambda: self.desk.topics(tenant, find), counts)

    async def addresses(self, tenant: str | None, *, now: bool = False) -> Look[Sequence[AddressRow]]:
        """Addresses, with rates in and out; `now`: the broker is asked in any case."""

        def counts(rows: Sequence[AddressRow]) -> dict[str, tuple[int, ...]]:
            return {row.key: (row.received, row.delivered) for row in rows}

        key = ("addresses", tenant or "")
        if now and key in self._questions:
            self._questions[key].look = None
        return await self._look(key, lambda: self.desk.addresses(tenant), counts)

    def changed(self) -> None:
        """Something was changed by us: the next look is a new one."""
        for question in self._questions.values():
            question.look = None

    async def _look(
        self,
        key: tuple[str, ...],
        ask: Callable[[], Awaitable[ResultT]],
        counts: Callable[[ResultT], Mapping[str, tuple[int, ...]]],
    ) -> Look[ResultT]:
        question = self._questions.setdefault(key, _Question())
        self._questions.move_to_end(key)
        if len(self._questions) > MOST_QUESTIONS:
            self._questions.popitem(last=False)
        async with question.lock:
            if question.look is None or self._now_s() - question.asked_at >= FRESH_S:
                result = await ask()
                question.asked_at = self._now_s()
                question.look = Look(result, question.meter.of(counts(result), question.asked_at))
            return question.look
