"""When a board that says nothing becomes an alarm, and when it is reset. Pure: `now` comes in, decisions go out.

The window is the longest time in which at least one CoAP message of the board is expected (a reading, the answer to
something): frames alone say that its link lives, not its application.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["SilenceWatch", "Step"]


class Step(Enum):
    """What is due."""

    ALARM = "alarm"
    RESET = "reset"


class SilenceWatch:
    """The silence of one board.

    Args:
        silent_after_s: the expected-activity window, in seconds; None: no alarm of its own (a reset still raises one).
        reset_after_s: silence after which the board is reset, and again after each further such time; None: never.
        now: when the watch begins; a board gets one window to say its first word.
    """

    def __init__(self, silent_after_s: float | None, reset_after_s: float | None, now: float) -> None:
        self._window_s = silent_after_s if silent_after_s is not None else reset_after_s
        self._reset_after_s = reset_after_s
        self._heard_at = now
        self._reset_base = now
        self.alarmed = False
        """An alarm stands."""
        self.alarms = 0
        self.resets = 0

    def silent_for_s(self, now: float) -> float:
        """Seconds since the board's last word, or since the watch began."""
        return now - self._heard_at

    def heard(self, now: float) -> bool:
        """The board has said something; True when that ends an alarm."""
        ended, self.alarmed = self.alarmed, False
        self._heard_at = self._reset_base = now
        return ended

    def next_deadline(self) -> float | None:
        """When `due` has something to say if the board stays silent; None: never."""
        deadlines = []
        if self._window_s is not None and not self.alarmed:
            deadlines.append(self._heard_at + self._window_s)
        if self._reset_after_s is not None:
            deadlines.append(self._reset_base + self._reset_after_s)
        return min(deadlines, default=None)

    def due(self, now: float) -> list[Step]:
        """The steps that are due at `now`, each told once: the alarm first."""
        steps = []
        resets = self._reset_after_s is not None and now >= self._reset_base + self._reset_after_s
        late = self._window_s is not None and now >= self._heard_at + self._window_s
        if not self.alarmed and (late or resets):
            self.alarmed = True
            self.alarms += 1
            steps.append(Step.ALARM)
        if resets:
            self._reset_base = now
            self.resets += 1
            steps.append(Step.RESET)
        return steps
