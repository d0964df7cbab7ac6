"""Output of a shell that prints nothing and measures how long the board takes to begin an answer."""

from __future__ import annotations

from hardware.shell.board import Answer
from hardware.shell.tap import Direction, Seen
from meshwire.coap.message import Message
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.link_stats import LinkStats

__all__ = ["TurnAround"]

_BITS_PER_OCTET = 10


class TurnAround:
    """Measures from the end of our frame on the line to the beginning of the answer.

    Args:
        baud: line rate: what our octets and the answer's spend on the line is no pause of the board.
    """

    def __init__(self, baud: int) -> None:
        self.hex_shown = False
        self.shortest_s = float("inf")
        self._baud = baud
        self._left_at: float | None = None

    def frame(self, seen: Seen) -> None:
        """Take a frame of either direction."""
        if not isinstance(seen.item, Frame):
            return
        line_s = len(encode_frame(seen.item)) * _BITS_PER_OCTET / self._baud
        if seen.direction is Direction.OUT:
            self._left_at = seen.at_s + line_s
        elif self._left_at is not None:
            self.shortest_s = min(self.shortest_s, max(0.0, seen.at_s - line_s - self._left_at))
            self._left_at = None

    def measured_s(self) -> float:
        """The shortest pause; 0 before the first."""
        return 0.0 if self.shortest_s == float("inf") else self.shortest_s

    def answer(self, target: str, answer: Answer) -> None:
        """Nothing."""

    def unasked(self, message: Message, target: str | None) -> None:
        """Nothing."""

    def board_time(self, unix_s: int, answer: Answer) -> None:
        """Nothing."""

    def stats(self, stats: LinkStats) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def error(self, text: str, code: str) -> None:
        """Nothing."""
