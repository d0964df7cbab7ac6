"""How busy the broker is: events per minute, as moving averages over 1, 5 and 15 minutes, reckoned like Mosquitto's."""

from math import exp
from typing import Final

__all__ = ["Load"]

_PERIODS_S: Final = {"1min": 60.0, "5min": 300.0, "15min": 900.0}


class Load:
    """The averages of one counter, which begins at 0."""

    __slots__ = ("_count", "averages")

    def __init__(self) -> None:
        self._count = 0
        self.averages = dict.fromkeys(_PERIODS_S, 0.0)
        """Events per minute by period: `1min`, `5min`, `15min`."""

    def update(self, count: int, elapsed_s: float) -> None:
        """The counter stands at `count`, `elapsed_s` (above 0) after the last call."""
        per_minute = (count - self._count) * 60.0 / elapsed_s
        self._count = count
        for period, period_s in _PERIODS_S.items():
            weight = exp(-elapsed_s / period_s)
            self.averages[period] = per_minute + weight * (self.averages[period] - per_minute)
