"""Virtual time: what is to happen, in the order of its times and, at one time, in the order of asking."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["Agenda"]


class Agenda:
    """See the module's text. Times are seconds from the begin of the scenario."""

    __slots__ = ("_asked", "_entries", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._asked = 0
        self._entries: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` at `time_s`, or at once when that has passed."""
        self._asked += 1
        heapq.heappush(self._entries, (max(time_s, self.now), self._asked, action, arguments))

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` in `delay_s` seconds."""
        self.at(self.now + delay_s, action, *arguments)

    def next_at(self) -> float | None:
        """When something happens next."""
        return self._entries[0][0] if self._entries else None

    def run_until(self, end_s: float) -> None:
        """Let everything happen up to and including `end_s`."""
        entries = self._entries
        while entries and entries[0][0] <= end_s:
            self.now, _, action, arguments = heapq.heappop(entries)
            action(*arguments)
        self.now = end_s
