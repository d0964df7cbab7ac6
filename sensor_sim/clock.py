"""The board's real-time clock: what the board believes the time is, as a function of the time that the driver passes.

A Milli board's clock starts near 1999-11-30 at each boot and is wrong until the NIC sets it (dialect B.6). Nothing
here reads a clock: `now` is any steadily growing number of seconds.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MILLI_BOOT_EPOCH", "BoardClock"]

MILLI_BOOT_EPOCH: Final = 943_920_000
"""1999-11-30T00:00:00Z in Unix seconds."""

_ROUNDING_S: Final = 1e-6
"""Sums of large and small floats miss a full second by less than this."""


class BoardClock:
    """A settable clock of one-second resolution that runs along `now`.

    Args:
        epoch_s: Unix seconds that the clock shows at `now`.
        now: seconds of the driver's clock.
    """

    def __init__(self, epoch_s: float, now: float) -> None:
        self._offset_s = epoch_s - now

    def set(self, epoch_s: float, now: float) -> None:
        """Make the clock show `epoch_s` (Unix seconds) at `now`."""
        self._offset_s = epoch_s - now

    def time_s(self, now: float) -> float:
        """Unix seconds with fractions; what the board's timers run by."""
        return now + self._offset_s

    def epoch(self, now: float) -> int:
        """Whole Unix seconds, as the board prints them."""
        return int(self.time_s(now) + _ROUNDING_S)

    def moment(self, time_s: float) -> float:
        """The `now` at which the clock will show `time_s`, if nobody sets it before."""
        return time_s - self._offset_s

    def reached(self, time_s: float, now: float) -> bool:
        """Whether the clock shows `time_s` or later."""
        return self.time_s(now) + _ROUNDING_S >= time_s
