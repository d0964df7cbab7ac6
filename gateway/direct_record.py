"""What became of the latest direct readings: in memory, bounded, for people who ask where one is.

Nothing of a direct reading is stored; its octets are not here either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.envelope import StoredNotification

__all__ = ["MAX_READINGS", "DirectReading", "DirectRecord"]

MAX_READINGS: Final = 10_000
"""Some 0.5 KB each."""


@dataclass(slots=True)
class DirectReading:
    """One reading; times are Unix seconds."""

    key: str
    device: str
    tenant: str
    path: str
    octets: int
    """Of the payload."""
    sampled_at: float
    received_at: float
    published_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    """Why the NIC has to keep it; empty: somebody has taken it, or that is not known yet."""


class DirectRecord:
    """See the module's text."""

    def __init__(self) -> None:
        self._readings: deque[DirectReading] = deque(maxlen=MAX_READINGS)

    def begin(self, stored: StoredNotification, now_s: float) -> DirectReading:
        """A reading has come."""
        notification = stored.notification
        reading = DirectReading(
            notification.key,
            notification.device.value,
            stored.tenant.value,
            notification.path,
            len(notification.payload),
            notification.time_s,
            now_s,
        )
        self._readings.append(reading)
        return reading

    def find(self, device: str, key: str | None) -> Iterator[DirectReading]:
        """The readings of a device, or those of one key, the newest first."""
        return (each for each in reversed(self._readings) if each.device == device and key in (None, each.key))
