"""What became of every reading and of every command, and how long it took."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Ledger", "ReadingKey"]

ReadingKey = tuple[str, int, int]
"""MAC, epoch and Observe number."""
WAITING: Final = "waiting-at-nic"
"""Its NIC still has it: the gateway could not be reached until the end."""


@dataclass(slots=True)
class Ledger:
    """See the module's text. A reading is made once, and then stored, or lost for a reason, or still waits."""

    made: int = 0
    stored: int = 0
    """At the gateway, each counted once."""
    repeated: int = 0
    """At the gateway once more; must not be."""
    lost: Counter[str] = field(default_factory=Counter)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    """From the board to the gateway's store, in the order of storing."""
    commands: Counter[str] = field(default_factory=Counter)
    """By their final events."""
    ordered: int = 0
    open: dict[ReadingKey, float] = field(default_factory=dict)
    """Made and neither stored nor lost, with the time."""
    _done: set[ReadingKey] = field(default_factory=set)

    def make(self, key: ReadingKey, now: float) -> None:
        """A board has taken a reading."""
        self.made += 1
        self.open[key] = now

    def store(self, key: ReadingKey, now: float) -> None:
        """The gateway has it."""
        made_at = self.open.pop(key, None)
        if made_at is None:
            self.repeated += key in self._done
            return
        self._done.add(key)
        self.stored += 1
        self.latencies_s.append(now - made_at)

    def lose(self, key: ReadingKey, reason: str) -> None:
        """It was given up; nothing when it has been stored all the same."""
        if self.open.pop(key, None) is not None:
            self.lost[reason] += 1

    def is_stored(self, key: ReadingKey) -> bool:
        """Whether the gateway has had it."""
        return key in self._done

    def close(self, waiting: set[ReadingKey]) -> None:
        """The end: what NICs still have is accounted for; the rest stays open."""
        for key in [key for key in self.open if key in waiting]:
            self.lose(key, WAITING)

    def latency_s(self, share: float) -> float:
        """A quantile of the latencies: 0.5 the median, 0.99 what one in a hundred exceeds."""
        if not self.latencies_s:
            return 0.0
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
