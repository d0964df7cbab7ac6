"""The two halves of sequence numbering: what was sent and may be lost, and what is expected next.

IEC 62056-46, 6.4.4: go-back-N with numbers modulo 8. Both stations own one of each.

SendWindow    queue of SDUs -> segments -> V(S), V(A), the frames between them; handles of what was never acknowledged.
ReceiveWindow V(R) and the SDU that is being put together.

Laws
1. Frames V(A) to V(S)-1 have been on the line and are kept until an N(R) acknowledges them.
2. An N(R) outside V(A) to (highest number ever sent)+1 moves nothing; the station must reject it.
3. ``rewind`` makes the next frame V(A) again: called when the turn comes back, because all that was sent before it has
   by then arrived or been lost (checkpointing), and on no other occasion.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Final

from meshwire.hdlc.control import MODULUS
from meshwire.hdlc.errors import SduError, SendQueueFull
from meshwire.hdlc.segmentation import Reassembler, Segment, split_sdu


class SendWindow:
    """SDUs on their way out. ``max_sdu_octets`` and ``max_queued`` bound what ``push`` takes."""

    def __init__(self, max_sdu_octets: int, max_queued: int) -> None:
        self._max_sdu_octets: Final = max_sdu_octets
        self._max_queued: Final = max_queued
        self._handles = itertools.count(1)
        self._queue: deque[tuple[int, bytes]] = deque()
        self._segments: deque[Segment] = deque()  # of the SDU at hand, not on the line yet
        self._on_line: deque[Segment] = deque()  # sent at least once; the first has the number V(A)
        self._acknowledged = 0  # V(A)
        self._cursor = 0  # V(S) - V(A)
        self.window = 1
        self.max_info_octets = 128

    @property
    def queued(self) -> int:
        """SDUs of which no octet was sent yet."""
        return len(self._queue)

    @property
    def empty(self) -> bool:
        """Whether every SDU was acknowledged."""
        return not (self._queue or self._segments or self._on_line)

    @property
    def send_number(self) -> int:
        """V(S), the number of the next frame."""
        return (self._acknowledged + self._cursor) % MODULUS

    @property
    def has_next(self) -> bool:
        """Whether ``take`` would give a frame."""
        if self._cursor < len(self._on_line):
            return True
        return bool(self._queue or self._segments) and len(self._on_line) < self.window

    @property
    def next_is_repeated(self) -> bool:
        """Whether the next frame was on the line before."""
        return self._cursor < len(self._on_line)

    def push(self, sdu: bytes) -> int:
        """Queue ``sdu``; return its handle. Raises SduError, SendQueueFull."""
        if not 1 <= len(sdu) <= self._max_sdu_octets:
            raise SduError(len(sdu), self._max_sdu_octets)
        if len(self._queue) >= self._max_queued:
            raise SendQueueFull(self._max_queued)
        handle = next(self._handles)
        self._queue.append((handle, bytes(sdu)))
        return handle

    def restart(self, window: int, max_info_octets: int) -> None:
        """A new link: numbers begin at 0. Whatever was on the line must have been reported before."""
        self.window = window
        self.max_info_octets = max_info_octets
        self._acknowledged = self._cursor = 0
        self._segments.clear()
        self._on_line.clear()

    def take(self) -> tuple[int, Segment]:
        """Return N(S) and content of the next frame; ``has_next`` must be true."""
        number = self.send_number
        if self._cursor == len(self._on_line):
            if not self._segments:
                self._segments.extend(split_sdu(*self._queue.popleft(), self.max_info_octets))
            self._on_line.append(self._segments.popleft())
        segment = self._on_line[self._cursor]
        self._cursor += 1
        return number, segment

    def may_acknowledge(self, nr: int) -> bool:
        """Whether ``nr`` lies within what was sent (law 2)."""
        return (nr - self._acknowledged) % MODULUS <= len(self._on_line)

    def acknowledge(self, nr: int) -> None:
        """The peer has every frame before ``nr``."""
        count = (nr - self._acknowledged) % MODULUS
        for _ in range(min(count, len(self._on_line))):
            self._on_line.popleft()
        self._acknowledged = nr
        self._cursor = max(0, self._cursor - count)

    def rewind(self) -> None:
        """Begin again with the first unacknowledged frame (law 3)."""
        self._cursor = 0

    def next_queued(self) -> tuple[int, bytes] | None:
        """Return handle and octets of the oldest SDU that was not begun."""
        return self._queue[0] if self._queue else None

    def take_queued(self) -> tuple[int, bytes]:
        """Remove the oldest SDU that was not begun, to be sent outside of the window or to be reported."""
        return self._queue.popleft()

    def report_begun(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give up every SDU that was begun; return handles (surely not whole at the peer, maybe whole there)."""
        uncertain = [segment.handle for segment in self._on_line if segment.last]
        begun = dict.fromkeys(segment.handle for segment in (*self._on_line, *self._segments))
        self._on_line.clear()
        self._segments.clear()
        self._cursor = 0
        return tuple(handle for handle in begun if handle not in uncertain), tuple(uncertain)

    def report_all(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give up every SDU; return handles as ``report_begun`` does."""
        unsent, uncertain = self.report_begun()
        unsent += tuple(handle for handle, _ in self._queue)
        self._queue.clear()
        return unsent, uncertain


class ReceiveWindow:
    """What comes in: V(R), and the beginning of an SDU of at most ``max_sdu_octets``."""

    def __init__(self, max_sdu_octets: int) -> None:
        self._reassembler = Reassembler(max_sdu_octets)
        self._max_sdu_octets: Final = max_sdu_octets
        self.expected = 0
        """V(R), the N(S) that is taken next."""

    def restart(self) -> None:
        """A new link: V(R) is 0, a half SDU is forgotten."""
        self.expected = 0
        self._reassembler.clear()

    def fits(self, info: bytes) -> bool:
        """Whether the SDU at hand may grow by ``info``."""
        return self._reassembler.held_octets + len(info) <= self._max_sdu_octets

    def take(self, info: bytes, segmented: bool) -> bytes | None:
        """Take the information of the frame numbered V(R); return the SDU that it completes."""
        self.expected = (self.expected + 1) % MODULUS
        return self._reassembler.add(info, segmented)
