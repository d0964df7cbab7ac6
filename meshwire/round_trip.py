"""How long answers took, without keeping each of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RoundTrips"]


@dataclass(slots=True)
class RoundTrips:
    """Times from a request to its response, in seconds."""

    count: int = 0
    last_s: float = 0.0
    least_s: float = float("inf")
    most_s: float = 0.0
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.last_s = seconds
        self.least_s = min(self.least_s, seconds)
        self.most_s = max(self.most_s, seconds)
        self.total_s += seconds

    @property
    def mean_s(self) -> float:
        """The mean; 0 before the first."""
        return self.total_s / self.count if self.count else 0.0
