"""The two players. Each goes through the turns of a recording and yields a Verdict for every frame that it compares.

`play_nic` speaks the recorded lines of the NIC and compares the board's answers; the recorded pauses are kept, so that
a board has the time it had. `play_board` waits for the NIC and answers as recorded; when the NIC has left something out
it goes on at the place in the recording where the NIC is.

Idle polls (RR answered by RR) depend on timing alone. As the NIC, of a run of equal polls the last is sent, and it is
repeated while the board has not yet the information that it had. As the board, polls beyond the recording are answered
by RR.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hardware.replay.compare import Mask, Translation, differences
from hardware.replay.line import FrameLine
from hardware.replay.recording import Step, Turn
from meshwire.hdlc.control import MODULUS, FrameKind, information, supervisory
from meshwire.hdlc.frame import Frame, encode_frame

__all__ = ["Settings", "Verdict", "play_board", "play_nic"]

_REPEATED_POLL_S: Final = 0.1
_SILENCE_S: Final = 0.5
"""How long an answer may not come where none was recorded."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to play.

    Args:
        masks: what may differ.
        answer_timeout_s: longest wait for a frame.
        longest_pause_s: recorded pauses are shortened to this.
    """

    masks: Collection[Mask]
    answer_timeout_s: float = 3.0
    longest_pause_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One recorded frame of the other side, and what came in its place.

    Args:
        step: as recorded; None for a frame that the recording does not have.
        came: None when nothing came.
        differences: empty when they agree.
    """

    step: Step | None
    came: Frame | None
    differences: tuple[str, ...] = ()


async def play_nic(line: FrameLine, turns: tuple[Turn, ...], settings: Settings) -> AsyncIterator[Verdict]:
    """Be the NIC of the recording."""
    translation = Translation()
    spoken_at_s = turns[0].asked.at_s
    for turn in _without_repeated_polls(turns):
        await asyncio.sleep(max(0.0, min(turn.asked.at_s - spoken_at_s, settings.longest_pause_s)))
        asked = turn.asked.octets if turn.asked.frame is None else encode_frame(translation.apply(turn.asked.frame))
        line.send(asked)
        for step in turn.answers:
            came = await _answer(line, step, asked, settings)
            yield _judge(step, came, translation, settings)
        unexpected = await line.receive(_SILENCE_S) if not turn.answers and _wants_answer(turn, turns) else None
        if unexpected is not None:
            yield Verdict(None, unexpected, ("recorded silence",))
        spoken_at_s = (turn.answers or (turn.asked,))[-1].at_s


def _without_repeated_polls(turns: Sequence[Turn]) -> list[Turn]:
    followers = [*turns[1:], None]
    return [
        turn
        for turn, next_turn in zip(turns, followers, strict=True)
        if not (turn.is_idle_poll and next_turn is not None and turn.asked.octets == next_turn.asked.octets)
    ]


def _wants_answer(turn: Turn, turns: Sequence[Turn]) -> bool:
    """A frame without P is one of several, answered after the last; what followed the last turn was not recorded."""
    return turn is not turns[-1] and (turn.asked.frame is None or turn.asked.frame.control.poll_final)


async def _answer(line: FrameLine, step: Step, asked: bytes, settings: Settings) -> Frame | None:
    came = await line.receive(settings.answer_timeout_s)
    deadline = asyncio.get_running_loop().time() + settings.longest_pause_s
    while _is_early(step, came) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_REPEATED_POLL_S)
        line.send(asked)
        came = await line.receive(settings.answer_timeout_s)
    return came


def _is_early(step: Step, came: Frame | None) -> bool:
    """The board has not yet what it had in the recording."""
    recorded = step.frame
    return (
        recorded is not None
        and came is not None
        and recorded.control.kind is FrameKind.I
        and came.control.kind is FrameKind.RR
        and recorded.control.nr == came.control.nr
    )


def _judge(step: Step, came: Frame | None, translation: Translation, settings: Settings) -> Verdict:
    assert step.frame is not None
    if came is None:
        return Verdict(step, None, ("nothing came",))
    found = differences(translation.apply(step.frame), came, settings.masks)
    translation.learn(step.frame, came)
    return Verdict(step, came, found)


async def play_board(line: FrameLine, turns: tuple[Turn, ...], settings: Settings) -> AsyncIterator[Verdict]:
    """Be the board of the recording. Ends when all turns were played, or the NIC falls silent."""
    player = _BoardPlayer(line, settings)
    left = deque(turn for turn in turns if turn.asked.frame is not None and not turn.is_idle_poll)
    while left:
        came = await player.next_frame(left[0])
        for _ in range(_left_out(left, came, player.translation, settings)):
            yield Verdict(left.popleft().asked, None, ("left out",))
        turn = left.popleft()
        yield _judge(turn.asked, came, player.translation, settings)
        if came is None:
            return
        player.answer(turn)


def _left_out(turns: Sequence[Turn], came: Frame | None, translation: Translation, settings: Settings) -> int:
    """How many turns lie before the first one that `came` agrees with; 0 when there is none."""
    for position, turn in enumerate(turns):
        recorded = turn.asked.frame
        if came is None or recorded is None:
            continue
        if not differences(translation.apply(recorded), came, settings.masks):
            return position
    return 0


class _BoardPlayer:
    """What a board has to know besides the recording: V(R), because idle polls are answered by it."""

    def __init__(self, line: FrameLine, settings: Settings) -> None:
        self.translation = Translation()
        self._line = line
        self._settings = settings
        self._expected_ns = 0

    async def next_frame(self, turn: Turn) -> Frame | None:
        """The NIC's next frame that is more than an idle poll."""
        while (came := await self._line.receive(self._settings.answer_timeout_s)) is not None:
            kind = came.control.kind
            recorded = turn.asked.frame
            if kind is FrameKind.RR and (recorded is None or recorded.control.kind is not FrameKind.RR):
                control = supervisory(FrameKind.RR, self._expected_ns, True)
                self._line.send(encode_frame(Frame(came.source, came.destination, control)))
                continue
            if kind is FrameKind.SNRM:
                self._expected_ns = 0
            elif kind is FrameKind.I and came.control.ns == self._expected_ns:
                self._expected_ns = (self._expected_ns + 1) % MODULUS
            return came
        return None

    def answer(self, turn: Turn) -> None:
        """The recorded answers, in the message IDs, tokens and N(R) of today."""
        for step in turn.answers:
            assert step.frame is not None
            frame = self.translation.apply(step.frame)
            control = frame.control
            if control.kind is FrameKind.I:
                frame = replace(frame, control=information(control.ns, self._expected_ns, control.poll_final))
            elif control.kind in (FrameKind.RR, FrameKind.RNR):
                frame = replace(frame, control=supervisory(control.kind, self._expected_ns, control.poll_final))
            self._line.send(encode_frame(frame))
