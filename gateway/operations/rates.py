"""Messages a second, from counters that are looked at now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["Rates"]

SHORTEST_S: Final = 0.5
"""Counters that are looked at again sooner give the rates of the look before."""
LONGEST_S: Final = 30.0
"""After so long without a look a rate would be of another time."""


class Rates:
    """Rates of one group of rows, such as a tenant's topics. A row's counters are a tuple; a counter that has fallen
    begins anew.
    """

    def __init__(self) -> None:
        self._counts: Mapping[str, tuple[int, ...]] = {}
        self._at: float | None = None
        self._rates: dict[str, tuple[float, ...]] = {}

    def of(self, counts: Mapping[str, tuple[int, ...]], now_s: float) -> Mapping[str, tuple[float, ...]]:
        """Rates by row; a row that is new has none yet.

        Args:
            counts: of all rows, now.
            now_s: monotonic time.
        """
        elapsed_s = None if self._at is None else now_s - self._at
        if elapsed_s is not None and elapsed_s < SHORTEST_S:
            return self._rates
        known = {} if elapsed_s is None or elapsed_s > LONGEST_S else self._counts
        self._rates = {
            key: tuple(max(0.0, (new - old) / (elapsed_s or 1.0)) for new, old in zip(row, known[key], strict=True))
            for key, row in counts.items()
            if key in known
        }
        self._counts, self._at = counts, now_s
        return self._rates
