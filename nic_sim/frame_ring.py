"""FrameRing: what passed on a line, kept within bounds and handed out in batches that fit one CoAP message."""

from __future__ import annotations

from collections import deque
from typing import Final

from meshwire.capture.batch import encode_batch, encode_record
from meshwire.capture.record import Record

__all__ = ["BATCH_OCTETS", "FrameRing"]

MAX_RING_OCTETS: Final = 65_536
BATCH_OCTETS: Final = 1000
"""Of one answer: with its options it fits one datagram of a mesh, without Block2."""
MAX_BATCH: Final = 200


class FrameRing:
    """Encoded records, the newest of them; their numbers go on for the ring's life.

    Args:
        max_octets: that are kept.
        last: the number before the first one.
    """

    def __init__(self, max_octets: int = MAX_RING_OCTETS, *, last: int = 0) -> None:
        self._max_octets = max_octets
        self._records: deque[tuple[int, bytes]] = deque()
        self._octets = 0
        self._number = last

    def put(self, record: Record) -> None:
        """Keep a record; the oldest give way."""
        self._number += 1
        encoded = encode_record(self._number, record)
        self._records.append((self._number, encoded))
        self._octets += len(encoded)
        while self._octets > self._max_octets and len(self._records) > 1:
            self._octets -= len(self._records.popleft()[1])

    def batch(self, after: int) -> bytes:
        """The oldest records with numbers above `after`, one at least where there is any.

        Args:
            after: the last number that is known; one that was never given (of an earlier life) counts as none.
        """
        after = after if after <= self._number else 0
        chosen: list[bytes] = []
        octets = 0
        for number, encoded in self._records:
            if number <= after:
                continue
            octets += len(encoded)
            if chosen and (octets > BATCH_OCTETS or len(chosen) == MAX_BATCH):
                break
            chosen.append(encoded)
        return encode_batch(chosen)

    def clear(self) -> None:
        """Let go of all records; numbers go on."""
        self._records.clear()
        self._octets = 0
