"""Times in buckets of two per cent: any number of them in a few hundred integers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

__all__ = ["Histogram"]

_STEP: Final = math.log(1.02)
_SMALLEST_S: Final = 1e-6


class Histogram:
    """Counts times in seconds and gives percentiles, at most two per cent too high."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.longest_s = max(self.longest_s, seconds)
        self._buckets[math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / _STEP)] += 1

    def percentile_s(self, per_cent: float) -> float:
        """The time within which so many per cent stayed; 0 when there are none."""
        left = math.ceil(self.count * per_cent / 100)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(_SMALLEST_S * math.exp(bucket * _STEP), self.longest_s)
        return 0.0
