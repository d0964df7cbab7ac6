"""Recording: the frames of a capture file in order, as turns. One turn is a frame of ours or theirs and its answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshwire.capture.errors import CaptureError, CaptureProblem
from meshwire.capture.pcapng import Direction, LinkType, read_packets
from meshwire.capture.record import Side
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.frame import Frame

__all__ = ["Step", "Turn", "load_turns"]

_SENDERS = {Direction.OUTBOUND: Side.NIC, Direction.INBOUND: Side.BOARD}


@dataclass(frozen=True, slots=True)
class Step:
    """What one side sent.

    Args:
        number: packet number in the file, from 1, as Wireshark counts.
        at_s: when, in seconds since the capture began.
        sender: who.
        octets: as on the line.
        frame: taken apart; None for noise and damaged frames.
    """

    number: int
    at_s: float
    sender: Side
    octets: bytes
    frame: Frame | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What the NIC sent, and what the board said until the NIC sent again."""

    asked: Step
    answers: tuple[Step, ...] = ()

    @property
    def is_idle_poll(self) -> bool:
        """RR answered by RR: how many there are depends on timing alone."""
        frames = (self.asked.frame, *(answer.frame for answer in self.answers))
        return len(frames) == 2 and all(frame is not None and frame.control.kind is FrameKind.RR for frame in frames)


def load_turns(path: Path) -> tuple[Turn, ...]:
    """The turns of a capture file.

    Raises:
        CaptureError: MW-CAP-002 no pcapng file, MW-CAP-003 nothing in it that can be replayed.
    """
    try:
        turns = _turns(_steps(path))
    except OSError as error:
        raise CaptureError(
            CaptureProblem.NOT_A_CAPTURE, f"cannot read {path}", evidence=error.strerror or str(error)
        ) from None
    if not turns:
        raise CaptureError(
            CaptureProblem.NOTHING_TO_REPLAY,
            f"nothing to replay in {path}",
            evidence=f"no frame of a NIC on an interface of link type {LinkType.USER0.value}",
            fix="record with `meshwire capture --peer` or tap+PORT",
        )
    return turns


def _steps(path: Path) -> list[Step]:
    steps: list[Step] = []
    began_ns: int | None = None
    with path.open("rb") as stream:
        for number, packet in enumerate(read_packets(stream), 1):
            began_ns = packet.at_ns if began_ns is None else began_ns
            sender = _SENDERS.get(packet.direction)
            if packet.interface.link_type == LinkType.USER0 and sender is not None and packet.octets:
                found = Deframer().feed(packet.octets)
                frame = found[0] if len(found) == 1 and isinstance(found[0], Frame) else None
                steps.append(Step(number, (packet.at_ns - began_ns) / 1e9, sender, packet.octets, frame))
    return steps


def _turns(steps: list[Step]) -> tuple[Turn, ...]:
    """What the board is recorded to have said before the NIC first spoke belongs to no turn."""
    turns: list[Turn] = []
    for step in steps:
        if step.sender is Side.NIC:
            turns.append(Turn(step))
        elif turns and step.frame is not None:
            turns[-1] = Turn(turns[-1].asked, (*turns[-1].answers, step))
    return tuple(turns)
