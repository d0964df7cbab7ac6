"""What became of the latest direct readings: in memory, bounded, for people who ask where one is, or who follow them.

Nothing of a direct reading is stored. Its octets are here while it is under way, and longer only while somebody
follows: a look at the news (`since`) begins that, and `FOLLOWED_S` without one end it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.envelope import StoredNotification

__all__ = ["FOLLOWED_S", "MAX_NEWS", "MAX_READINGS", "DirectReading", "DirectRecord"]

MAX_READINGS: Final = 10_000
"""Some 0.5 KB each."""
MAX_NEWS: Final = 1_000
"""Ended ones with their octets."""
FOLLOWED_S: Final = 5.0


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
    payload: bytes
    """Empty when it has ended."""
    published_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    """Why the NIC has to keep it; empty: somebody has taken it, or that is not known yet."""


class DirectRecord:
    """See the module's text."""

    def __init__(self) -> None:
        self._readings: deque[DirectReading] = deque(maxlen=MAX_READINGS)
        self._news: deque[tuple[DirectReading, bytes]] = deque(maxlen=MAX_NEWS)
        self._last = 0
        """Number of the newest of the news."""
        self._followed_until_s = 0.0

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
            notification.payload,
        )
        self._readings.append(reading)
        return reading

    def end(self, reading: DirectReading, reason: str, now_s: float) -> None:
        """Somebody has taken a reading, or (with a reason) the NIC has to keep it."""
        if now_s < self._followed_until_s:
            self._news.append((reading, reading.payload))
            self._last += 1
        else:
            self._news.clear()
        reading.ended_at, reading.reason, reading.payload = now_s, reason, b""

    def since(self, number: int | None, limit: int, now_s: float) -> dict[str, object]:
        """What has ended after a number, the oldest first; None: nothing, only which number is the last.

        `skipped`: so many were too many.
        """
        self._followed_until_s = now_s + FOLLOWED_S
        count = 0 if number is None else max(0, self._last - number)
        shown = list(self._news)[-min(count, limit) :] if count else []
        return {
            "last": self._last,
            "skipped": count - len(shown),
            "notifications": [
                {
                    "key": reading.key,
                    "device": reading.device,
                    "tenant": reading.tenant,
                    "path": reading.path,
                    "time": reading.sampled_at,
                    "received": reading.received_at,
                    "ended": reading.ended_at,
                    "state": "refused" if reading.reason else "acknowledged",
                    "reason": reading.reason or None,
                    "payload": payload.hex(),
                }
                for reading, payload in shown
            ],
        }

    def find(self, device: str, key: str | None) -> Iterator[DirectReading]:
        """The readings of a device, or those of one key, the newest first."""
        return (each for each in reversed(self._readings) if each.device == device and key in (None, each.key))
