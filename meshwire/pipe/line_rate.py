"""The line rate of a UART on a carrier that has none: octets leave and arrive at baud / 10 a second.

A pty and a memory pipe deliver at once, so a simulator would promise what no wire can keep. 8N1: ten bit times an octet
(start bit, eight data bits, stop bit).
"""

from __future__ import annotations

from typing import Final

from meshwire.pipe.base import Pipe
from meshwire.pipe.scheduled import ScheduledPipe

__all__ = ["BITS_PER_OCTET", "LineRate", "RateLimitedPipe"]

BITS_PER_OCTET: Final = 10

_CHUNK_S: Final = 0.002
"""Inside a long burst octets are handed over this often; its last octet is always handed over at its own time."""


class LineRate:
    """One direction of a UART, pure. An octet arrives when its stop bit has; the schedule is absolute.

    A timer that fires late delivers everything that has arrived by then, and the next octet still starts where the last
    one ended: lateness never lowers the rate of a burst.

    Args:
        baud: bits a second, above 0.
    """

    def __init__(self, baud: float) -> None:
        if baud <= 0:
            raise ValueError(f"a line rate is above 0 baud, not {baud}")
        self._octet_s = BITS_PER_OCTET / baud
        self._chunk_octets = max(1, int(_CHUNK_S / self._octet_s))
        self._octets = bytearray()
        self._free_at_s = 0.0

    def __len__(self) -> int:
        return len(self._octets)

    def add(self, data: bytes, now: float) -> None:
        if not self._octets:
            self._free_at_s = max(self._free_at_s, now)
        self._octets += data

    def due(self, now: float) -> bytes:
        # A thousandth of an octet's time forgives the rounding of the clock's arithmetic.
        count = min(len(self._octets), int((now - self._free_at_s) / self._octet_s + 0.001))
        if count <= 0:
            return b""
        arrived = bytes(self._octets[:count])
        del self._octets[:count]
        self._free_at_s += count * self._octet_s
        return arrived

    def next_at(self) -> float | None:
        if not self._octets:
            return None
        return self._free_at_s + min(len(self._octets), self._chunk_octets) * self._octet_s


class RateLimitedPipe(ScheduledPipe):
    """A Pipe whose octets travel at `baud` in both directions (full duplex).

    Wrap one end of a pair only: wrapping both delays each octet twice.

    Args:
        pipe: the carrier; closed with this one.
        baud: bits a second, above 0.
    """

    def __init__(self, pipe: Pipe, baud: float) -> None:
        super().__init__(pipe, LineRate(baud), LineRate(baud))
        self.baud = baud
