"""SDUs longer than an information field: cut into I frames with the segmentation bit, and put together again.

IEC 62056-46, 6.4.1: the bit is 1 in every frame of an SDU but the last. Frames arrive in order (the station sees
to that), so putting together is appending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwire.hdlc.errors import SduError


@dataclass(frozen=True, slots=True)
class Segment:
    """One information field of an SDU."""

    handle: int
    info: bytes
    last: bool
    """False: the segmentation bit is set, more follows."""


def split_sdu(handle: int, sdu: bytes, max_info_octets: int) -> tuple[Segment, ...]:
    """Cut ``sdu`` (1 octet or more) into information fields of at most ``max_info_octets``."""
    starts = range(0, len(sdu), max_info_octets)
    final = len(sdu) - max_info_octets
    return tuple(Segment(handle, sdu[start : start + max_info_octets], start >= final) for start in starts)


class Reassembler:
    """Collects segments into SDUs of at most ``max_sdu_octets``; holds no more than that."""

    def __init__(self, max_sdu_octets: int) -> None:
        self._max: Final = max_sdu_octets
        self._parts: list[bytes] = []
        self._octets = 0

    @property
    def held_octets(self) -> int:
        """Octets of an SDU whose end has not come."""
        return self._octets

    def add(self, info: bytes, segmented: bool) -> bytes | None:
        """Take the next information field; return the SDU that it completes, if any.

        Raises SduError, and forgets what it held, when the SDU grows beyond the limit.
        """
        octets = self._octets + len(info)
        if octets > self._max:
            self.clear()
            raise SduError(octets, self._max)
        if not segmented and not self._parts:
            return info
        self._parts.append(info)
        self._octets = octets
        if segmented:
            return None
        sdu = b"".join(self._parts)
        self.clear()
        return sdu

    def clear(self) -> None:
        """Forget an SDU whose end will not come."""
        self._parts.clear()
        self._octets = 0
