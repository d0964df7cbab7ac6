"""When the answer to a question is overdue: the one timer arithmetic of a primary.

Until the first octet of the answer comes, the time-out covers the question's way over the line, the peer's delay, and a
whole window on its way back, because a pipe may hand out an answer only when it is complete. Once octets come, it is
one silence after the last of them. Noise could put that off for ever; therefore an answer may go on for no longer than
a few times the line time of the longest one.
"""

from __future__ import annotations

from typing import Final

from meshwire.hdlc.profile import LinkProfile

_LONGEST_ANSWERS: Final = 4
"""Line times of the longest answer after which it is cut. Above 1: a line may be slower than the profile thinks."""


class AnswerClock:
    """Works out time-outs for one line; ``now`` in seconds."""

    def __init__(self, profile: LinkProfile) -> None:
        self._profile: Final = profile
        self._line_free_at = 0.0
        self._pending_octets = 0
        self._latest = 0.0

    def add_octets(self, octets: int) -> None:
        """So many octets of a question were handed out."""
        self._pending_octets += octets

    def question_ends(self, now: float, frames: int) -> float:
        """The question is complete; return when its answer of at most so many frames is overdue."""
        self._line_free_at = max(now, self._line_free_at) + self._profile.line_time_s(self._pending_octets)
        self._pending_octets = 0
        first_octet = self._line_free_at + self._profile.answer_timeout_s
        answer_s = self._profile.answer_line_time_s(frames)
        self._latest = first_octet + _LONGEST_ANSWERS * answer_s
        return first_octet + answer_s

    def octets_came(self, now: float, silence_s: float) -> float:
        """Octets came; return when ``silence_s`` without another one ends."""
        return min(now + silence_s, max(self._latest, now))

    def reset(self) -> None:
        """The line was lost, and with it what was on its way."""
        self._line_free_at = 0.0
        self._pending_octets = 0
