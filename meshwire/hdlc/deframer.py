"""Finds frames in a stream of octets, and frames again after noise. The only holder of octets not yet decided upon.

Does:     takes octets in any cut, returns frames and, with a reason, everything it threw away; skips flags between
          frames, accepts one flag as the end of a frame and the start of the next; holds at most one frame's octets.
Does not: raise; judge addresses or control fields; know the time.
Caller owes: ``idle()`` when the line was silent for longer than a sender pauses inside a frame, so that the rest of a
          frame that will never come does not hide the next one.

How it decides. There is no transparency, so a flag octet may be a flag, information or noise. A candidate flag is
believed once a header with a good HCS follows; only then is its length waited for. If a flag stands where the length
says, the frame ends there, and a bad FCS costs that frame alone. If not, octets were lost or inserted, and the search
goes on right after the candidate, so that nothing behind the damage is lost. There is no loop over octets in Python:
flags are found with ``bytes.find``, check sequences are computed in C.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from meshwire.hdlc.crc import RESIDUE, continue_crc
from meshwire.hdlc.errors import DiscardReason, FrameError
from meshwire.hdlc.frame import FLAG, FLAG_OCTET, MAX_LENGTH, MIN_LENGTH, Frame, Header, read_header, verified_headers


@dataclass(frozen=True, slots=True)
class Discarded:
    """Octets that were thrown away; their number is ``len(octets)``."""

    reason: DiscardReason
    octets: bytes


@dataclass(slots=True)
class DeframerCounts:
    """What a deframer has seen since it was made."""

    frames: int = 0
    discarded: dict[DiscardReason, int] = field(default_factory=dict)
    """Times octets were thrown away, by reason."""
    discarded_octets: int = 0


class Deframer:
    """See the module. ``max_length`` limits what a length sub-field may say: 7 to 2047 octets between the flags."""

    def __init__(self, max_length: int = MAX_LENGTH) -> None:
        self.counts = DeframerCounts()
        self._max_length: Final = max_length
        self._held = bytearray()
        self._wanted = 0  # octets that must be held before looking again can change anything
        self._ended_with_flag = False  # the last octet was a closing flag, which may open the next frame too
        self._header_octets = MIN_LENGTH  # how long the last header was: the next one is probably as long

    @property
    def held_octets(self) -> int:
        """Octets received and not decided upon yet; never more than one frame with its flags."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Frame | Discarded]:
        """Take the next octets of the line; return what they completed, in the order of the line."""
        held = self._held
        if held:
            held += data
            if len(held) < self._wanted:
                return []
            data = bytes(held)
            held.clear()
        elif self._ended_with_flag and data and data[0] != FLAG_OCTET:
            data = FLAG + data
        elif not data:
            return []
        self._ended_with_flag = False
        found: list[Frame | Discarded] = []
        self._search(data, found)
        return found

    def idle(self) -> list[Frame | Discarded]:
        """Decide upon what is held as if no octet followed: call it after silence on the line."""
        found: list[Frame | Discarded] = []
        while self._held:
            data = bytes(self._held)
            self._held.clear()
            following = self._discard(DiscardReason.TRUNCATED, data, 0, found)
            self._search(data[following:], found)
        self._ended_with_flag = False
        return found

    def reset(self) -> None:
        """Forget what is held without a word: the line itself was lost."""
        self._held.clear()
        self._ended_with_flag = False

    def _search(self, data: bytes, found: list[Frame | Discarded]) -> None:
        """Take ``data`` apart; what is left undecided at its end is held."""
        size = len(data)
        start = 0
        while start < size:
            flag = data.find(FLAG, start)
            if flag != start:
                start = self._skip_noise(data, start, flag if flag >= 0 else size, found)
                continue
            begin = start + 1
            if begin < size and data[begin] == FLAG_OCTET:  # flags between frames carry nothing
                start = begin
                continue
            try:
                header = verified_headers.get(data[begin : begin + self._header_octets]) or read_header(data, begin)
                if header is None:
                    self._hold(data, start, size - start + 1)
                    return
                end = begin + header.length
                if header.length > self._max_length:
                    raise FrameError(DiscardReason.LENGTH)
                if end >= size:
                    self._hold(data, start, header.length + 2)
                    return
                if data[end] != FLAG_OCTET:
                    raise FrameError(DiscardReason.UNCLOSED)
            except FrameError as error:
                start = self._discard(error.reason, data, start, found)
            else:
                start = self._close(data, begin, header, found)

    def _close(self, data: bytes, begin: int, header: Header, found: list[Frame | Discarded]) -> int:
        """Take the frame between the flags around ``begin``; return where the search goes on."""
        end = begin + header.length
        information = begin + header.octets
        info = b""
        if information != end:
            if continue_crc(data[information:end], RESIDUE) != RESIDUE:
                self._note(Discarded(DiscardReason.FCS, data[begin - 1 : end]), found)
                return end
            info = data[information : end - 2]
        found.append(Frame(header.destination, header.source, header.control, info, header.segmented))
        self.counts.frames += 1
        self._header_octets = header.octets
        if end + 1 == len(data):
            self._ended_with_flag = True
        elif data[end + 1] != FLAG_OCTET:
            return end  # this flag may open the next frame as well
        return end + 1

    def _hold(self, data: bytes, start: int, wanted: int) -> None:
        self._held += data[start:]
        self._wanted = wanted

    def _skip_noise(self, data: bytes, start: int, end: int, found: list[Frame | Discarded]) -> int:
        self._note(Discarded(DiscardReason.NOISE, data[start:end]), found)
        return end

    def _discard(self, reason: DiscardReason, data: bytes, flag: int, found: list[Frame | Discarded]) -> int:
        """Throw away the octets from a flag that opens no frame to the next flag; return where that is."""
        following = data.find(FLAG, flag + 1)
        end = following if following >= 0 else len(data)
        # A flag that closed the frame before and opens none is no loss worth a word when nothing follows it.
        if end - flag > 1:
            self._note(Discarded(reason, data[flag:end]), found)
        return end

    def _note(self, discarded: Discarded, found: list[Frame | Discarded]) -> None:
        counts = self.counts
        counts.discarded[discarded.reason] = counts.discarded.get(discarded.reason, 0) + 1
        counts.discarded_octets += len(discarded.octets)
        found.append(discarded)
