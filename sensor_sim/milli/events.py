"""What a Milli board tells its driver beside octets: the wake line, and its own death."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BoardReset", "MilliEvent", "WakePulse"]


@dataclass(frozen=True, slots=True)
class WakePulse:
    """The wake line went LOW: the board wants attention."""

    width_s: float | None
    """How long it stays LOW, in seconds; None when the board forgets to let go of it."""


@dataclass(frozen=True, slots=True)
class BoardReset:
    """The board crashed and started again: registrations, settings and clock are lost."""

    reason: str
    """Which never-send rule the peer broke (dialect G, last row)."""


MilliEvent = WakePulse | BoardReset
