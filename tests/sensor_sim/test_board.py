"""SensorBoard assembled: wake line, crash log, settings, and a Milli board behind a Link on a memory pipe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from patience import PATIENCE_S

from meshwire.pipe import MemoryPipe, Pipe, RateLimitedPipe, memory_pair
from sensor_sim.board import PROFILES, SensorBoard, pty_opener
from sensor_sim.errors import BoardSettingsError
from sensor_sim.milli.frame import UA_PARAMETERS, build_frame
from sensor_sim.spec import SensorSpec

TEMP = [SensorSpec("temp", "22.5", 0)]


async def never() -> Pipe:
    raise AssertionError("not opened")


@asynccontextmanager
async def running(profile: str, **settings: Any) -> AsyncIterator[tuple[SensorBoard, MemoryPipe]]:
    near, far = memory_pair()

    async def open_pipe() -> Pipe:
        return near

    board = SensorBoard(profile, TEMP, open_pipe, **settings)
    task = asyncio.create_task(board.run())
    try:
        async with asyncio.timeout(100):
            yield board, far
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert board.link is None


async def ask(line: MemoryPipe, octets: bytes) -> bytes:
    line.write(octets)
    return await asyncio.wait_for(line.read(), PATIENCE_S)


async def test_a_milli_board_answers_and_pulses_its_wake_line() -> None:
    woken = asyncio.Event()
    async with running("milli-1.4.8") as (board, line):
        line.on_attention = woken.set
        await asyncio.wait_for(woken.wait(), PATIENCE_S)  # the boot pulse
        assert await ask(line, build_frame(0x93)) == build_frame(0x63, UA_PARAMETERS)
        register = bytes.fromhex("420101 00c0de 60 57") + b"arduino" + b"\x04temp" + b"\x44sens"
        assert (await ask(line, build_frame(0x10, register)))[9] == 0x43
        assert await ask(line, build_frame(0x53)) == build_frame(0x63)
        assert board.observers() == 1
        woken.clear()
        assert board.push("temp") and not board.push("temp"), "the slot has room for one"
        await asyncio.wait_for(woken.wait(), PATIENCE_S)
        assert not board.push("echo")


async def test_a_crash_is_remembered_with_its_reason() -> None:
    async with running("milli-1.4.5") as (board, line):
        await ask(line, build_frame(0x93))
        line.write(build_frame(0x10, bytes.fromhex("40010001 b3 737973 05 7374617473")))  # GET /sys/stats
        assert await ask_until_answered(line, build_frame(0x11)) == build_frame(0x0F), "disconnected after the reset"
        (reason,) = board.resets
        assert "/sys/stats without query" in reason


async def ask_until_answered(line: MemoryPipe, octets: bytes) -> bytes:
    """The board is silent after a crash; keep quiet longer than its 400 ms before the next frame."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.read(), 0.6)
    return await ask(line, octets)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SensorBoard("milli-9", TEMP, never), "profile"),
        (lambda: SensorBoard("standard", [], never), "0 sensors"),
        (lambda: SensorBoard("standard", TEMP * 2, never), "twice"),
        (lambda: SensorBoard("standard", TEMP, never, classifier="x" * 16), "classifier"),
        (lambda: SensorBoard("standard", TEMP, never, classifier="a/b"), "classifier"),
        (lambda: SensorBoard("milli-1.4.5", TEMP, never, classifier="rl78"), "built in"),
        (lambda: SensorBoard("milli-1.4.8", TEMP, never, boot_delay_s=17), "boot delay"),
        (lambda: SensorBoard("milli-1.4.8", TEMP, never, period_s=-1), "period"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], SensorBoard], words: str) -> None:
    with pytest.raises(BoardSettingsError) as caught:
        make()
    assert words in caught.value.what


def test_profiles() -> None:
    assert PROFILES == ("milli-1.4.8", "milli-1.4.5", "standard")
    for profile in PROFILES:
        board = SensorBoard(profile, TEMP, never)
        assert board.observers() == 0 and not board.push("temp")


async def test_a_pty_keeps_the_line_rate() -> None:
    opened = []
    pipe = await pty_opener(on_open=opened.append)()
    try:
        assert isinstance(pipe, RateLimitedPipe) and pipe.baud == 38400
        assert opened[0].peer_path.startswith("/dev/")
    finally:
        await pipe.aclose()
