"""FrameWatch: the frames on the board's line, kept for whoever watches, and only as long as somebody does.

Does: tap the line while a lease runs, make records of what passes, number them, keep the newest within bounds, hand
them out in batches that fit one CoAP message. Does not: delay or change an octet of the line. A lease ends by itself;
then nothing is kept and the line has no tap. Whoever reads renews it, so watching needs no farewell.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from meshwire.capture.batch import encode_batch, encode_record
from meshwire.capture.record import Record, Side
from meshwire.capture.recorder import Recorder
from nic_sim.board_line import BoardLine

__all__ = ["DEFAULT_LEASE_S", "LONGEST_LEASE_S", "FrameRing", "FrameWatch"]

DEFAULT_LEASE_S: Final = 30.0
LONGEST_LEASE_S: Final = 300.0
MAX_RING_OCTETS: Final = 65_536
BATCH_OCTETS: Final = 1000
"""Of one answer: with its options it fits one datagram of a mesh, without Block2."""
MAX_BATCH: Final = 200


class FrameRing:
    """Encoded records, the newest `max_octets` of them; numbers begin at 1 and go on for the ring's life."""

    def __init__(self, max_octets: int = MAX_RING_OCTETS) -> None:
        self._max_octets = max_octets
        self._records: deque[tuple[int, bytes]] = deque()
        self._octets = 0
        self._number = 0

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


class FrameWatch:
    """See the module.

    Args:
        line: to the board; gets the tap.
        unix_time: Unix seconds.
    """

    def __init__(self, line: BoardLine, unix_time: Callable[[], float]) -> None:
        self._line = line
        self._unix_time = unix_time
        self._ring = FrameRing()
        self._recorder: Recorder | None = None
        self._until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether somebody watches."""
        return self._recorder is not None

    def read(self, after: int, lease_s: float) -> bytes:
        """A batch of what came after a number; begins or renews the lease.

        Args:
            after: the last number that the reader has; 0: none.
            lease_s: how long to go on without being asked again, 1 to `LONGEST_LEASE_S`.
        """
        loop = asyncio.get_running_loop()
        if self._recorder is None:
            self._recorder = Recorder([self._ring.put])
            self._recorder.event(Side.NIC, "watching begins", self._now_ns())
            self._line.tap = self
        self._recorder.silence(self._now_ns())
        until_s = loop.time() + lease_s
        if until_s > self._until_s:
            self._until_s = until_s
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(until_s, self.end)
        return self._ring.batch(after)

    def end(self) -> None:
        """Stop: no tap, nothing kept."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._recorder, self._until_s, self._line.tap = None, None, 0.0, None
        self._ring.clear()

    # ---- told by the line (meshwire.link.LineTap)

    def octets(self, outgoing: bool, data: bytes) -> None:
        if self._recorder is not None:
            self._recorder.heard(Side.NIC if outgoing else Side.BOARD, data, self._now_ns())

    def event(self, outgoing: bool, note: str) -> None:
        if self._recorder is not None:
            self._recorder.event(Side.NIC if outgoing else Side.BOARD, note, self._now_ns())

    def _now_ns(self) -> int:
        return int(self._unix_time() * 1e9)
