"""One timer wheel for everything that waits: whole ticks, each with the list of those that are due in it.

Does: hand out what is due, in the order of ticks and, within a tick, of setting. Does not: read a clock, forget an
entry before its tick (who has changed its mind compares the time when its turn comes).
"""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

__all__ = ["TimerWheel"]

T = TypeVar("T")


class TimerWheel(Generic[T]):
    """See the module's text.

    Args:
        tick_s: resolution in seconds; nothing comes before its time, and at most this much after it.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, list[T]] = {}
        self._ticks: list[int] = []

    def set(self, item: T, at: float) -> None:
        """Let `item` be due at `at` seconds."""
        tick = math.ceil(at / self._tick_s)
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = [item]
            heapq.heappush(self._ticks, tick)
        else:
            slot.append(item)

    def next_at(self) -> float | None:
        """When the next item is due; None: nothing waits."""
        return self._ticks[0] * self._tick_s if self._ticks else None

    def due(self, now: float, limit: int) -> list[T]:
        """Take out what is due at `now`, at most `limit` items."""
        items: list[T] = []
        while self._ticks and self._ticks[0] * self._tick_s <= now and len(items) < limit:
            tick, room = self._ticks[0], limit - len(items)
            slot = self._slots[tick]
            items += slot[:room]
            if len(slot) > room:
                self._slots[tick] = slot[room:]
            else:
                del self._slots[tick]
                heapq.heappop(self._ticks)
        return items

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))
