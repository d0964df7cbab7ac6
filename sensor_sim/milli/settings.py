"""How one Milli board is built, and what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from sensor_sim.errors import BoardSettingsError
from sensor_sim.milli.profile import MILLI_1_4_8, MilliProfile

__all__ = ["MilliCounters", "MilliSettings"]

_MAX_NAME_CHARACTERS: Final = 15
_LONGEST_BOOT_S: Final = 16.0


@dataclass(frozen=True, slots=True)
class MilliSettings:
    """How one board is built.

    Attributes:
        profile: the firmware version.
        classifier: first path segment of the sensors, 1 to 15 characters; 1.4.5 knows only `arduino`.
        period_s: seconds between notifications of a sensor not named in `periods_s`.
        periods_s: the same by device type; 0 for push only.
        boot_delay_s: seconds after power-up before the board serves its UART, 0 to 16.
        reading_time_s: how long a sensor read holds up the answer (a DHT takes up to 0.25 s).
    """

    profile: MilliProfile = MILLI_1_4_8
    classifier: str = "arduino"
    period_s: float = 60.0
    periods_s: dict[str, float] = field(default_factory=dict)
    boot_delay_s: float = 0.0
    reading_time_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.classifier) <= _MAX_NAME_CHARACTERS or not self.classifier.isascii():
            raise BoardSettingsError(f"classifier {self.classifier!r}", fix="use 1 to 15 ASCII characters")
        if self.classifier != "arduino" and not self.profile.free_classifier:
            raise BoardSettingsError(f"{self.profile.name} has the classifier built in", fix="use `arduino`")
        if not 0 <= self.boot_delay_s <= _LONGEST_BOOT_S:
            raise BoardSettingsError(
                f"a boot delay of {self.boot_delay_s} s", fix=f"use 0 to {_LONGEST_BOOT_S:g} seconds"
            )


@dataclass(slots=True)
class MilliCounters:
    """What the board did, for people and tests; counted over resets."""

    octets_in: int = 0
    octets_out: int = 0
    frames_in: int = 0
    frames_out: int = 0
    notifications: int = 0
    notifications_skipped: int = 0
    resets: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Whole buffers thrown away, by reason."""
