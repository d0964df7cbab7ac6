"""What a probe found out, as values; and the one judgement: what does that, which came back, mean?

Pure. `judge` is the table that everything else follows: a board, a station that refuses, somebody else, noise, nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hardware.holders import Holder
from hardware.probe_line import Heard
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.frame import Frame

__all__ = ["Attempt", "BoardFacts", "Finding", "PortReport", "Transport", "check_errors", "judge", "weightiest"]

_CHECK_REASONS: Final = frozenset(
    {DiscardReason.HCS, DiscardReason.FCS, DiscardReason.UNCLOSED, DiscardReason.TRUNCATED, DiscardReason.LENGTH}
)
"""Discards that began like a frame: the rate is right, or nearly, and octets were damaged."""
_TEXT_SHARE: Final = 0.9
_LEAST_TEXT: Final = 8
"""Octets below which readable characters are chance."""


class Finding(StrEnum):
    """What answered, heaviest last."""

    NOT_OPENED = "not opened"
    HELD = "held by another process"
    HUNG_UP = "hung up"
    SILENCE = "silence"
    GARBAGE = "garbage"
    DAMAGED = "damaged frames"
    TEXT = "text"
    ECHO = "our own echo"
    OTHER_FRAMES = "frames, but no answer"
    REFUSED = "a station that refuses (DM)"
    BOARD = "board"


_WEIGHT: Final = {finding: weight for weight, finding in enumerate(Finding)}


class Transport(StrEnum):
    """What kind of line it is: what can be wrong with it depends on that."""

    SERIAL = "serial"
    PTY = "pty"
    NETWORK = "network"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One question, or one spell of listening, and what came.

    Args:
        baud: bits a second; None on a line that has no rate.
        question: what was sent, in words; "listened" for nothing.
        finding: what that means.
        heard: what came.
    """

    baud: int | None
    question: str
    finding: Finding
    heard: Heard


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What a board that answered says of itself.

    Args:
        firmware: milli-1.4.8, milli-1.4.5, milli-VERSION, standard or other.
        profile: which `--profile` fits: milli or standard.
        version_text: the answer to GET /, as text.
        links: the answer to GET /.well-known/core, as text.
        answer_s: how long UA took.
        parameters: what UA offers, in words.
        pending: the message that waited in the board, in words; empty for none.
        released: DISC was sent and answered; False where a waiting message would have been lost by it.
    """

    firmware: str
    profile: str
    version_text: str
    links: str
    answer_s: float
    parameters: str
    pending: str = ""
    released: bool = True


@dataclass(frozen=True, slots=True)
class PortReport:
    """One port: what was tried, what was found.

    Args:
        port: as the user wrote it, or its stable name.
        transport: kind of line.
        finding: the weightiest of all attempts, or why none was made.
        attempts: in order.
        baud: rate at which it was found.
        board: where a board answered.
        holders: processes that have it open.
        reason: the message of a port that could not be opened.
        exit_code: what a command about this port alone ends with.
        uart_errors: framing errors, overruns, parity errors and breaks that the driver counted meanwhile; None where it
            does not count.
    """

    port: str
    transport: Transport
    finding: Finding
    attempts: tuple[Attempt, ...] = ()
    baud: int | None = None
    board: BoardFacts | None = None
    holders: tuple[Holder, ...] = ()
    reason: str = ""
    exit_code: int = 4
    uart_errors: dict[str, int] | None = field(default=None)

    @property
    def octets_seen(self) -> int:
        """Octets that came, in all attempts."""
        return sum(len(attempt.heard.octets) for attempt in self.attempts)

    @property
    def first_octets(self) -> bytes:
        """The first octets that came."""
        return next((attempt.heard.octets for attempt in self.attempts if attempt.heard.octets), b"")

    @property
    def rates(self) -> tuple[int, ...]:
        """The rates tried, in order; empty on a line that has none."""
        return tuple(dict.fromkeys(attempt.baud for attempt in self.attempts if attempt.baud is not None))


def check_errors(heard: Heard) -> int:
    """How many frames began well and were damaged."""
    return sum(item.reason in _CHECK_REASONS for item in heard.discarded)


def judge(heard: Heard, question: Frame | None) -> Finding:
    """What an answer means.

    Args:
        heard: what came.
        question: the SNRM that was sent; None for listening.
    """
    if heard.frames:
        return _judge_frames(heard.frames, question)
    if heard.hung_up:
        return Finding.HUNG_UP
    if not heard.octets:
        return Finding.SILENCE
    if _is_text(heard.octets):
        return Finding.TEXT
    return Finding.DAMAGED if check_errors(heard) else Finding.GARBAGE


def _judge_frames(frames: tuple[Frame, ...], question: Frame | None) -> Finding:
    kinds = {frame.control.kind for frame in frames}
    if question is not None and FrameKind.UA in kinds:
        return Finding.BOARD
    if question is not None and FrameKind.DM in kinds:
        return Finding.REFUSED
    return Finding.ECHO if question is not None and set(frames) == {question} else Finding.OTHER_FRAMES


def _is_text(octets: bytes) -> bool:
    readable = sum(32 <= octet < 127 or octet in b"\r\n\t" for octet in octets)
    return len(octets) >= _LEAST_TEXT and readable >= _TEXT_SHARE * len(octets)


def weightiest(attempts: tuple[Attempt, ...]) -> Finding:
    """The finding that says most about a port; silence for no attempt."""
    return max((attempt.finding for attempt in attempts), key=_WEIGHT.__getitem__, default=Finding.SILENCE)
