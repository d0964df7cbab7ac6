"""The last readings of a board, kept in memory: what `/sys/log` serves, long enough to need block-wise transfer."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Journal"]

_KEPT_READINGS: Final = 100


class Journal:
    """A ring of readings; the oldest gives way."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_READINGS)

    def note(self, epoch: int, device_type: str, record: bytes) -> None:
        """Keep one reading, taken at `epoch` (Unix seconds)."""
        self._lines.append(f"{epoch},{device_type},{record.hex()}\n")

    def text(self) -> str:
        """One line a reading, oldest first: epoch, device type, record in hex."""
        return "".join(self._lines)
