"""Recorder: octets of both directions in, Records out. Pure but for its sinks; `at_ns` is any clock in nanoseconds.

Does: deframe each direction by itself, put segmented SDUs together, say what came again. Does not: change, delay or
judge a single octet of the line. The caller owes: octets in the order in which they were seen, and `silence` now and
then, so that a frame that was broken off is told before the next octets come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meshwire.capture.record import Record, Side
from meshwire.hdlc.control import MODULUS, FrameKind
from meshwire.hdlc.deframer import Deframer, Discarded
from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.frame import FLAG, Frame, encode_frame

__all__ = ["Recorder", "Sink"]

Sink = Callable[[Record], None]

OCTET_TIMEOUT_NS: Final = 400_000_000
"""Silence inside a frame after which it is told as broken off: what Milli boards allow, the slowest receivers known."""


class Recorder:
    """See the module.

    Args:
        sinks: each gets every Record, in order.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._ways = {side: _Way(side) for side in Side}

    def heard(self, sender: Side, data: bytes, at_ns: int) -> None:
        """Octets passed by."""
        self.silence(at_ns)
        way = self._ways[sender]
        way.heard_at_ns = at_ns
        self._take(way, way.deframer.feed(data), at_ns)

    def silence(self, at_ns: int) -> None:
        """Tell what was broken off by now."""
        for way in self._ways.values():
            if way.deframer.held_octets and at_ns - way.heard_at_ns > OCTET_TIMEOUT_NS:
                self._take(way, way.deframer.idle(), way.heard_at_ns)

    def finish(self) -> None:
        """Tell what is held: nothing follows (end of the capture, lost port)."""
        for way in self._ways.values():
            self._take(way, way.deframer.idle(), way.heard_at_ns)

    def event(self, sender: Side, note: str, at_ns: int) -> None:
        """Something happened beside the octets: a pulse on the wake line, a lost port."""
        self._tell(Record(at_ns, sender, b"", note=note))

    def _take(self, way: _Way, found: list[Frame | Discarded], at_ns: int) -> None:
        for item in found:
            if isinstance(item, Discarded):
                self._tell(_discarded(way.side, item, at_ns))
                continue
            if item.control.kind is FrameKind.SNRM:
                for each in self._ways.values():
                    each.restart()
            sdu, note = way.take(item)
            self._tell(Record(at_ns, way.side, encode_frame(item), item, sdu=sdu, note=note))

    def _tell(self, record: Record) -> None:
        for sink in self._sinks:
            sink(record)


def _discarded(sender: Side, item: Discarded, at_ns: int) -> Record:
    # The deframer leaves the flag that closed a frame with a bad FCS to the next one; here it is shown with its frame.
    octets = item.octets + FLAG if item.reason is DiscardReason.FCS else item.octets
    return Record(at_ns, sender, octets, reason=item.reason)


class _Way:
    """One direction: its deframer, and the SDU that is being put together."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.deframer = Deframer()
        self.heard_at_ns = 0
        self._last_ns: int | None = None
        self._segments = bytearray()

    def restart(self) -> None:
        """A new link: numbers begin at 0, an unfinished SDU is given up."""
        self._last_ns = None
        self._segments.clear()

    def take(self, frame: Frame) -> tuple[bytes, str]:
        """The SDU that the frame completes (empty: none), and a note.

        A frame that came again and carries a whole SDU is shown with it: a Milli board executes it once more.
        """
        control = frame.control
        if control.kind is not FrameKind.I:
            return b"", ""
        again = control.ns == self._last_ns
        gap = not again and self._last_ns is not None and control.ns != (self._last_ns + 1) % MODULUS
        note = "this N(S) came before" if again else "N(S) out of sequence" if gap else ""
        if frame.segmented or self._segments:
            return self._take_segment(frame, again or gap), note
        self._last_ns = control.ns
        return frame.info, note

    def _take_segment(self, frame: Frame, unexpected: bool) -> bytes:
        if unexpected:
            return b""
        self._last_ns = frame.control.ns
        self._segments += frame.info
        if frame.segmented:
            return b""
        sdu = bytes(self._segments)
        self._segments.clear()
        return sdu
