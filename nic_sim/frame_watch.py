"""FrameWatch: the frames on the board's line, kept for whoever watches, and only as long as somebody does.

Does: tap the line while a lease runs, make records of what passes, number them, keep the newest within bounds, hand
them out in batches that fit one CoAP message. Does not: delay or change an octet of the line. A lease ends by itself;
then nothing is kept and the line has no tap. Whoever reads renews it, so watching needs no farewell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from meshwire.capture.record import Side
from meshwire.capture.recorder import Recorder
from nic_sim.board_line import BoardLine
from nic_sim.frame_ring import FrameRing

__all__ = ["DEFAULT_LEASE_S", "LONGEST_LEASE_S", "FrameWatch"]

DEFAULT_LEASE_S: Final = 30.0
LONGEST_LEASE_S: Final = 300.0


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
