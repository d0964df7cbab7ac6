"""A recorded session, played at a fresh board and at a fresh NIC, agrees; whatever is changed is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE_S
from typer.testing import CliRunner

from hardware.capture.tap import TappedPipe
from hardware.replay.command import replay_app
from hardware.replay.compare import DEFAULT_MASKS, Mask, Translation, differences
from hardware.replay.line import FrameLine
from hardware.replay.player import Settings, Verdict, play_board, play_nic
from hardware.replay.recording import Turn, load_turns
from meshwire.capture.errors import CaptureError
from meshwire.capture.file import open_capture
from meshwire.capture.record import Side
from meshwire.capture.recorder import Recorder
from meshwire.coap.message import ACK, CON, NON, Message, encode
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind, information
from meshwire.hdlc.events import DataReceived, Event
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import STANDARD
from meshwire.link import Link
from meshwire.pipe import MemoryPipe, Pipe, memory_pair
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

STATION = Address(1)
MASKED = ("--ignore", "value", "--ignore", "observe")
SETTINGS = Settings(DEFAULT_MASKS | {Mask.VALUE}, answer_timeout_s=5, longest_pause_s=2)


def get(mid: int, token: bytes, observe: bool = False) -> bytes:
    options = [(URI_PATH, b"arduino"), (URI_PATH, b"temp"), (URI_QUERY, b"sens")]
    return encode(Message(CON, 1, mid, token, ((OBSERVE, b""), *options) if observe else tuple(options)))


@asynccontextmanager
async def board(near: MemoryPipe) -> AsyncIterator[SensorBoard]:
    async def open_pipe() -> Pipe:
        return near

    board = SensorBoard("standard", (SensorSpec("temp", "22.5"),), open_pipe, period_s=1)

    task = asyncio.create_task(board.run())
    try:
        yield board
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def be_a_nic(pipe: Pipe, *, mid: int, token: bytes, again: bool = False) -> None:
    """Register an observation and wait for its first notification; `again`: ask once more."""

    async def open_pipe() -> Pipe:
        return pipe

    link = Link(open_pipe, PrimaryStation(STANDARD), name="board")
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    def listen(event: Event) -> None:
        if isinstance(event, DataReceived):
            heard.put_nowait(event.sdu)

    link.subscribe(listen)
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await heard.get()  # the board's boot message
            link.send(get(mid, token, observe=True))
            for _ in range(2):
                await heard.get()
            if again:
                link.send(get(mid + 1, token + b"x"))
                await heard.get()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "session.pcapng"

    async def record() -> None:
        near, far = memory_pair()
        capture = open_capture(path)
        async with board(near):
            await be_a_nic(TappedPipe(far, Recorder([capture]), close=capture.close), mid=10, token=b"\xaa")

    asyncio.run(record())
    return path


def differing(verdicts: list[Verdict]) -> list[str]:
    return [difference for verdict in verdicts for difference in verdict.differences]


async def test_a_fresh_board_agrees_with_the_recording(recording: Path) -> None:
    near, far = memory_pair()
    async with board(near):
        verdicts = [each async for each in play_nic(FrameLine(far), load_turns(recording), SETTINGS)]
    assert differing(verdicts) == []
    assert any(v.came is not None and v.came.control.kind is FrameKind.I for v in verdicts)


async def test_a_fresh_nic_agrees_with_the_recording_under_other_message_ids(recording: Path) -> None:
    near, far = memory_pair()
    nic = asyncio.create_task(be_a_nic(far, mid=700, token=b"\xbb\xcc"))
    verdicts = [each async for each in play_board(FrameLine(near), load_turns(recording), SETTINGS)]
    assert differing([v for v in verdicts if v.came is not None]) == []
    await asyncio.wait_for(nic, PATIENCE_S)  # it got its answer and its notification, both by its own token


async def test_a_board_that_says_something_else_is_told(recording: Path) -> None:
    def other(turn: Turn) -> Turn:
        answers = []
        for step in turn.answers:
            assert step.frame is not None
            if step.frame.info[-1:] == b"F":
                step = replace(step, frame=replace(step.frame, info=step.frame.info[:-1] + b"C"))
            answers.append(step)
        return Turn(turn.asked, tuple(answers))

    near, far = memory_pair()
    changed = tuple(map(other, load_turns(recording)))
    settings = replace(SETTINGS, masks=DEFAULT_MASKS | {Mask.TIME})
    async with board(near):
        verdicts = [each async for each in play_nic(FrameLine(far), changed, settings)]
    assert any(difference.startswith("payload: recorded") for difference in differing(verdicts))


async def test_a_silent_board_is_told(recording: Path) -> None:
    _, far = memory_pair()
    turns = load_turns(recording)[:1]
    verdicts = [e async for e in play_nic(FrameLine(far), turns, replace(SETTINGS, answer_timeout_s=0.01))]
    assert differing(verdicts) == ["nothing came"]


FRAME = Frame(STATION, STATION, information(0, 0, True), get(1, b"\x01"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda f: replace(f, control=information(1, 0, True)), "N(S)"),
        (lambda f: replace(f, control=information(0, 1, True)), "N(R)"),
        (lambda f: replace(f, control=information(0, 0, False)), "P/F"),
        (lambda f: replace(f, control=ControlField(FrameKind.UA, poll_final=True)), "frame"),
        (lambda f: replace(f, source=Address(2)), "addresses"),
        (lambda f: replace(f, segmented=True), "segmentation"),
        (lambda f: replace(f, info=get(1, b"\x01", observe=True)), "options"),
        (lambda f: replace(f, info=get(1, b"\x01") + b"\xffx"), "payload"),
        (lambda f: replace(f, info=b"\xff"), "information"),
    ],
)
def test_each_field_that_differs_is_named(change: Callable[[Frame], Frame], word: str) -> None:
    found = differences(FRAME, change(FRAME), DEFAULT_MASKS)
    assert any(each.startswith(f"{word}: recorded") for each in found), found
    assert differences(FRAME, FRAME, ()) == ()


def answer(mtype: int, mid: int, token: bytes, payload: bytes, observe: bytes | None = None) -> Frame:
    options = () if observe is None else ((OBSERVE, observe),)
    return replace(FRAME, info=encode(Message(mtype, 0x45, mid, token, options, payload)))


def test_masks() -> None:
    one = answer(NON, 5, b"t", b"1700000005,72.50,F", b"\x03")
    two = answer(NON, 6, b"t", b"1700000099,72.50,F", b"\x04")
    assert len(differences(one, two, ())) == 3
    assert differences(one, two, {Mask.MID, Mask.TIME, Mask.OBSERVE}) == ()
    assert differences(one, answer(NON, 5, b"t", b"1700000005,72.51,F", b"\x03"), {Mask.VALUE}) == ()
    assert differences(answer(ACK, 5, b"t", b""), answer(ACK, 6, b"t", b""), {Mask.MID}), "an ACK repeats our own"


def test_answers_follow_the_requests_of_today() -> None:
    translation = Translation()
    translation.learn(FRAME, replace(FRAME, info=get(900, b"\x99")))
    assert translation.apply(answer(ACK, 1, b"\x01", b"v")) == answer(ACK, 900, b"\x99", b"v")
    notification = answer(NON, 1, b"\x01", b"v", b"\x05")
    assert translation.apply(notification) == answer(NON, 1, b"\x99", b"v", b"\x05"), "its own message ID"
    assert translation.apply(FRAME) == FRAME


def test_a_nic_that_leaves_something_out_is_met_again_later(recording: Path) -> None:
    async def play() -> list[Verdict]:
        near, far = memory_pair()
        turns = tuple(turn for turn in load_turns(recording) if not turn.is_idle_poll)
        for position in (0, 2):
            frame = turns[position].asked.frame
            assert frame is not None
            far.write(encode_frame(frame))
        settings = replace(SETTINGS, answer_timeout_s=0.05)
        return [each async for each in play_board(FrameLine(near), turns[:3], settings)]

    verdicts = asyncio.run(play())
    assert [verdict.differences for verdict in verdicts] == [(), ("left out",), ()]


def test_the_command_tells_and_ends_by_the_result(recording: Path, tmp_path: Path) -> None:
    good = CliRunner().invoke(
        replay_app,
        [str(recording), "--as", "nic", "--port", "sim://standard?sensor=temp&period=1", "-v", *MASKED],
    )
    assert good.exit_code == 0, good.output
    assert "agrees" in good.output and "0 differ" in good.output and "2.05" in good.output
    bad = CliRunner().invoke(
        replay_app, [str(recording), "--as", "nic", "--port", "sim://milli-1.4.8?sensor=temp", "--timeout", "0.6"]
    )
    assert bad.exit_code == 1, bad.output
    assert "differs  packet" in bad.output and "information: recorded" in bad.output


def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="MW-CAP-002"):
        load_turns(tmp_path / "absent.pcapng")
    with open_capture(tmp_path / "empty.pcapng") as capture:
        Recorder([capture]).heard(Side.BOARD, encode_frame(FRAME), 1)
    with pytest.raises(CaptureError, match="MW-CAP-003"):
        load_turns(tmp_path / "empty.pcapng")
