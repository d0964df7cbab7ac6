"""A bad line, made on purpose and repeatable: damaged, lost and doubled octets, delays, stalls, a broken wire.

`fault+PORT?ber=&drop=&dup=&delay_ms=&stall_s=&cut=` ends here.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from meshwire.pipe.base import Pipe
from meshwire.pipe.scheduled import ScheduledPipe

__all__ = ["FaultCounts", "FaultPlan", "FaultyLine", "FaultyPipe"]


CUTS: Final = ("", "out", "in", "both")
"""Directions in which a line may be broken."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How bad the line is; the same in both directions.

    Args:
        ber: damaged octets, as a share of all octets (0 … 1); each has exactly one bit turned over.
        drop: lost octets, as a share (0 … 1).
        dup: doubled octets, as a share (0 … 1).
        delay_s: every octet arrives this much later.
        stall_s: how long the line stands still when it stalls; 0 means it never does.
        stall_rate: stalls, as a share of all octets (0 … 1).
        cut: `out` or `in`: nothing gets through in that direction (a half-open line); `both`: in neither. As seen from
            the end that has the port open.
        seed: the same seed and the same octets give the same faults.

    Raises:
        ValueError: a share outside 0 … 1, a negative time, another direction.
    """

    ber: float = 0.0
    drop: float = 0.0
    dup: float = 0.0
    delay_s: float = 0.0
    stall_s: float = 0.0
    stall_rate: float = 0.001
    cut: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ber", "drop", "dup", "stall_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share of all octets, 0 to 1, not {getattr(self, name)}")
        for name in ("delay_s", "stall_s"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a time in seconds, 0 or above, not {getattr(self, name)}")
        if self.cut not in CUTS:
            raise ValueError(f"cut is {', '.join(filter(None, CUTS))} or empty, not {self.cut}")


@dataclass(slots=True)
class FaultCounts:
    """What was done to the line so far, in octets (stalls: in times)."""

    octets: int = 0
    damaged: int = 0
    dropped: int = 0
    doubled: int = 0
    stalls: int = 0


class _Hits:
    """Which of the coming octets are hit, at a given rate: geometric gaps, so that an octet spared costs nothing."""

    def __init__(self, random: Random, rate: float) -> None:
        self._random = random
        self._rate = rate
        self._gap = self._next_gap()

    def among(self, count: int) -> Iterator[int]:
        """Indexes, ascending, of the octets hit among the next `count`."""
        index = self._gap
        while index < count:
            yield int(index)
            index += 1 + self._next_gap()
        self._gap = index - count

    def _next_gap(self) -> float:
        if self._rate <= 0.0:
            return math.inf
        if self._rate >= 1.0:
            return 0
        return int(math.log(1.0 - self._random.random()) / math.log1p(-self._rate))


class FaultyLine:
    """One direction of a bad line, pure.

    Args:
        plan: how bad; `change` replaces it while octets are on the way.
        salt: tells the two directions of one pipe apart: `out` or `in`, and `cut` looks at it.
    """

    def __init__(self, plan: FaultPlan, salt: str = "") -> None:
        self.counts = FaultCounts()
        self._direction = salt
        self._random = Random(f"{plan.seed}/{salt}")
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._length = 0
        self._clear_at_s = -math.inf
        self.change(plan)

    def __len__(self) -> int:
        return self._length

    def change(self, plan: FaultPlan) -> None:
        """From the next octet on, the line is as bad as `plan` says (its seed is not looked at)."""
        self._plan = plan
        self._damage = _Hits(self._random, plan.ber)
        self._drop = _Hits(self._random, plan.drop)
        self._double = _Hits(self._random, plan.dup)
        self._stall = _Hits(self._random, plan.stall_rate if plan.stall_s > 0 else 0.0)

    def stall(self, now: float, duration_s: float) -> None:
        """Stand still from `now` on for `duration_s` seconds; nothing is lost."""
        self.counts.stalls += 1
        self._clear_at_s = max(self._clear_at_s, now) + duration_s

    def add(self, data: bytes, now: float) -> None:
        start = 0
        for index in self._stall.among(len(data)):
            self._send(data[start:index], now)
            self.stall(now, self._plan.stall_s)
            start = index
        self._send(data[start:], now)

    def due(self, now: float) -> bytes:
        arrived = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            arrived.append(self._on_the_way.popleft()[1])
        data = b"".join(arrived)
        self._length -= len(data)
        return data

    def next_at(self) -> float | None:
        return self._on_the_way[0][0] if self._on_the_way else None

    def _send(self, data: bytes, now: float) -> None:
        spoilt = self._spoil(data)
        if spoilt:
            self._clear_at_s = max(self._clear_at_s, now + self._plan.delay_s)
            self._on_the_way.append((self._clear_at_s, spoilt))
            self._length += len(spoilt)

    def _spoil(self, data: bytes) -> bytes:
        """Damage, lose and double octets of `data`; which ones is drawn over the octets that were sent."""
        self.counts.octets += len(data)
        if self._plan.cut in (self._direction or "both", "both"):
            self.counts.dropped += len(data)
            return b""
        spoilt = bytearray(data)
        for index in self._damage.among(len(data)):
            spoilt[index] ^= 1 << self._random.randrange(8)
            self.counts.damaged += 1
        edits = [(index, 0) for index in self._drop.among(len(data))]
        edits += [(index, 2) for index in self._double.among(len(data))]
        for index, copies in sorted(edits, reverse=True):
            spoilt[index : index + 1] = spoilt[index : index + 1] * copies
            self.counts.dropped += copies == 0
            self.counts.doubled += copies == 2
        return bytes(spoilt)


class FaultyPipe(ScheduledPipe):
    """A Pipe with faults in both directions, by one plan that may be changed while it runs.

    Args:
        pipe: the good line; closed with this one.
        plan: how bad to make it.
    """

    def __init__(self, pipe: Pipe, plan: FaultPlan) -> None:
        self.outgoing = FaultyLine(plan, "out")
        self.incoming = FaultyLine(plan, "in")
        super().__init__(pipe, self.outgoing, self.incoming)
        self._plan = plan

    @property
    def plan(self) -> FaultPlan:
        """How bad the line is; assign another to change it."""
        return self._plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        self._plan = plan
        self.outgoing.change(plan)
        self.incoming.change(plan)

    def stall(self, duration_s: float) -> None:
        """Both directions stand still from now on for `duration_s` seconds; nothing is lost."""
        if not 0.0 <= duration_s < math.inf:
            raise ValueError(f"a stall lasts 0 seconds or more, not {duration_s}")
        now = asyncio.get_running_loop().time()
        self.outgoing.stall(now, duration_s)
        self.incoming.stall(now, duration_s)
