"""What a NIC measures about itself: battery, radio signal, temperature. Simulated, repeatable for a given seed.

Pure: `unix_s` comes in. A battery that lasts ten years, a radio link that breathes with the time of day, a case that
warms up at noon; small noise from a hash, so that two reads of the same second agree.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final

__all__ = ["Battery", "Instruments", "Signal"]

BATTERY_LIFE_S: Final = 10 * 365.25 * 86_400
FULL_MILLIVOLTS: Final = 3650
EMPTY_MILLIVOLTS: Final = 2900
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Battery:
    """State of charge."""

    percent: float
    millivolts: int


@dataclass(frozen=True, slots=True)
class Signal:
    """The last hop as the radio hears it."""

    rssi_dbm: int
    link_quality: int
    """0 to 255."""


class Instruments:
    """The instruments of one NIC.

    Args:
        seed: equal seeds give equal readings.
        installed_s: Unix seconds of when the battery was new.
    """

    def __init__(self, seed: str, installed_s: float) -> None:
        self._seed = seed
        self._installed_s = installed_s

    def battery(self, unix_s: float) -> Battery:
        used = min(max((unix_s - self._installed_s) / BATTERY_LIFE_S, 0.0), 1.0)
        millivolts = FULL_MILLIVOLTS - used * (FULL_MILLIVOLTS - EMPTY_MILLIVOLTS)
        return Battery(round(100 * (1 - used), 2), round(millivolts + 4 * self._noise("battery", unix_s)))

    def signal(self, unix_s: float) -> Signal:
        base_dbm = -62 - 20 * abs(self._noise("place", 0.0))
        rssi_dbm = base_dbm + 3 * math.sin(2 * math.pi * unix_s / DAY_S) + 2 * self._noise("signal", unix_s)
        return Signal(round(rssi_dbm), max(0, min(255, round((rssi_dbm + 110) * 4))))

    def temperature_c(self, unix_s: float) -> float:
        return round(24 - 4 * math.cos(2 * math.pi * unix_s / DAY_S) + 0.2 * self._noise("case", unix_s), 1)

    def _noise(self, what: str, unix_s: float) -> float:
        """Between -1 and 1, the same within one second."""
        digest = hashlib.blake2s(f"{self._seed}/{what}/{int(unix_s)}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 0x7FFFFFFF - 1
