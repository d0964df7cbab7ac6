"""How much comes in: means and the busiest minute of the last hour, from which an outbox can be sized."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Rate", "RateMeter", "total_rate"]

MINUTE_S: Final = 60.0
MINUTES: Final = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """What came in of late."""

    per_s: float
    """Notifications a second, mean of the time looked at."""
    peak_per_s: float
    """The same in the busiest minute."""
    octets_each: float
    """Octets in the outbox for each, 0.0: none came."""
    over_s: float
    """The time looked at: at most an hour."""


class RateMeter:
    """Looks at two counters now and then.

    Args:
        now_s: a monotonic time, seconds.
    """

    def __init__(self, now_s: float) -> None:
        self._samples: deque[tuple[float, int, int]] = deque([(now_s, 0, 0)], maxlen=MINUTES + 1)
        self._latest = (now_s, 0, 0)

    def sample(self, now_s: float, count: int, octets: int) -> None:
        """Note the counters: notifications stored and their octets since start."""
        self._latest = (now_s, count, octets)
        if now_s - self._samples[-1][0] >= MINUTE_S:
            self._samples.append(self._latest)

    def rate(self) -> Rate:
        """What the samples say."""
        points = [*self._samples]
        if points[-1] != self._latest:
            points.append(self._latest)
        (since, count, octets), (until, last_count, last_octets) = points[0], points[-1]
        seconds, stored = max(until - since, 1e-9), last_count - count
        pairs = list(itertools.pairwise(points))
        # The last, unfinished minute counts as a whole one: a burst of a second is no rate.
        peak = max([(b[1] - a[1]) / max(b[0] - a[0], MINUTE_S) for a, b in pairs], default=0.0)
        mean = stored / seconds
        return Rate(mean, max(peak, mean), (last_octets - octets) / stored if stored else 0.0, seconds)


def total_rate(rates: Sequence[object]) -> dict[str, float]:
    """The sum of what several lanes report (`perS`, `peakPerS`, `octetsEach`, `overS`)."""
    known = [rate for rate in rates if isinstance(rate, Mapping)]
    per_s = sum(float(rate["perS"]) for rate in known)
    octets = sum(float(rate["octetsEach"]) * float(rate["perS"]) for rate in known)
    return {
        "perS": round(per_s, 3),
        "peakPerS": round(sum(float(rate["peakPerS"]) for rate in known), 3),
        "octetsEach": round(octets / per_s, 1) if per_s else 0.0,
        "overS": max((float(rate["overS"]) for rate in known), default=0.0),
    }
