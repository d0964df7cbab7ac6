"""What is learned from a board plays like that board: same paths, formats, octets and rhythm, in made-up time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jumping_loop import JumpingLoop

from hardware.learn.learner import Learner, LearnSettings
from hardware.learn.turn_around import TurnAround
from hardware.shell import shell as shell_module
from hardware.shell.shell import Shell, ShellSettings
from meshwire.cli import main
from meshwire.learned_board import LearnedBoard, LearnedResource, LearnedSensor
from meshwire.pipe import Pipe, RateLimitedPipe, memory_pair
from sensor_sim.board import SensorBoard
from sensor_sim.errors import BoardSettingsError
from sensor_sim.recorded import load_learned
from sensor_sim.spec import SensorSpec

MakeBoard = Callable[[Callable[[], Awaitable[Pipe]], Callable[[], float]], SensorBoard]


def learn(make: MakeBoard, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[LearnedBoard, list[str]]:
    """Learn a board in made-up time: what was learned, and what was said of it."""
    told: list[str] = []

    async def scenario() -> LearnedBoard:
        near, far = memory_pair()
        loop = asyncio.get_running_loop()

        async def open_board() -> Pipe:
            return RateLimitedPipe(near, 38400)

        async def open_port(*_: Any, **__: Any) -> Pipe:
            return far

        def wall_clock() -> float:
            return 1_700_000_000.0 + loop.time()

        monkeypatch.setattr(shell_module, "open_port", open_port)
        monkeypatch.setattr("hardware.shell.runner.time.time", wall_clock)
        board = asyncio.create_task(make(open_board, wall_clock).run())
        await asyncio.sleep(0)
        measure = TurnAround(38400)
        shell = await Shell.open(ShellSettings("memory", frames=True), measure)
        try:
            return await Learner(shell, LearnSettings(**settings), told.append).learn("a test", measure.measured_s)
        finally:
            await shell.aclose()
            board.cancel()
            await asyncio.gather(board, return_exceptions=True)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(scenario()), told


def simulated(profile: str, *sensors: str, period_s: float = 4.0) -> MakeBoard:
    specs = [SensorSpec.parse(text) for text in sensors]

    def make(open_pipe: Callable[[], Awaitable[Pipe]], wall_clock: Callable[[], float]) -> SensorBoard:
        return SensorBoard(profile, specs, open_pipe, period_s=period_s, wall_clock=wall_clock)

    return make


def played(learned: LearnedBoard) -> MakeBoard:
    def make(open_pipe: Callable[[], Awaitable[Pipe]], wall_clock: Callable[[], float]) -> SensorBoard:
        return SensorBoard("", [SensorSpec("temp")], open_pipe, wall_clock=wall_clock, learned=learned)

    return make


def undated(payload: bytes) -> bytes:
    return re.sub(rb"1[0-9]{9}(?=,)", b"", payload)


def essence(board: LearnedBoard) -> dict[str, Any]:
    """What a board says, without when it said so, and how often, as far as polls let one see."""
    return {
        "base": board.base,
        "sensors": [
            replace(
                sensor,
                samples=tuple({undated(sample) for sample in sensor.samples}),
                configuration=undated(sensor.configuration),
                period_s=round(sensor.period_s),
                jitter_s=0.0,
            )
            for sensor in board.sensors
        ],
        "resources": {resource.path: resource.content_format for resource in board.resources},
        "root": board.root_text(),
    }


@pytest.mark.parametrize("profile", ["standard", "milli-1.4.8", "milli-1.4.5"])
def test_what_was_learned_is_learned_again_from_the_player(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, told = learn(simulated(profile, "temp=20", "ncmth1=constant:7"), monkeypatch, samples=2)
    assert first.base == profile
    assert [sensor.path for sensor in first.sensors] == ["arduino/temp", "arduino/ncmth1"]
    assert [round(sensor.period_s) for sensor in first.sensors] == [4, 4], told
    assert all(sensor.observable and len(sensor.samples) >= 4 for sensor in first.sensors)
    assert first.sensors[0].content_format == (2 if profile == "milli-1.4.5" else 60)
    assert profile == "standard" or (first.root_text() or "").endswith(profile.removeprefix("milli-"))
    read_back = LearnedBoard.from_toml(first.to_toml())
    again, _ = learn(played(read_back), monkeypatch, samples=2)
    assert essence(again) == essence(first)


def test_the_pause_before_an_answer_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = LearnedSensor("deep/er/level", (b"one", b"two"), content_format=0, observable=True, period_s=2.0)
    room = LearnedResource("about/room", b"x" * 3000, 0)
    board = LearnedBoard("standard", (sensor,), (room, LearnedResource("", b"mine", 0)), turn_around_s=0.12)
    again, told = learn(played(board), monkeypatch, samples=2)
    assert again.turn_around_s == pytest.approx(0.12, abs=0.01)
    assert again.sensors[0].path == "deep/er/level"
    assert set(again.sensors[0].samples) == {b"one", b"two"}
    assert again.sensors[0].content_format == 0
    assert next(item for item in again.resources if item.path == "about/room").payload == b"x" * 3000, told
    assert again.root_text() == "mine"


def test_a_sensor_that_is_not_observable_and_one_that_never_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = LearnedSensor("a/silent", (b"1",), observable=False)
    quiet = LearnedSensor("a/quiet", (b"1",), observable=True, period_s=0.0)
    again, told = learn(played(LearnedBoard("standard", (silent, quiet))), monkeypatch, listen_s=5.0)
    assert [(sensor.path, sensor.observable, sensor.period_s) for sensor in again.sensors] == [
        ("a/silent", False, 0.0),
        ("a/quiet", True, 0.0),
    ]
    assert any("not observable" in line for line in told)
    assert any("played as push only" in line for line in told)


def test_what_crashes_a_board_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    boards: list[SensorBoard] = []
    inner = simulated("milli-1.4.8", "echo", "temp")

    def make(open_pipe: Callable[[], Awaitable[Pipe]], wall_clock: Callable[[], float]) -> SensorBoard:
        boards.append(inner(open_pipe, wall_clock))
        return boards[0]

    board, told = learn(make, monkeypatch, samples=1, listen_s=10.0)
    assert boards[0].resets == []
    assert [sensor.path for sensor in board.sensors] == ["arduino/temp", "arduino/echo"]
    assert any("null handler" in line for line in told)


@pytest.mark.parametrize(
    ("board", "says"),
    [
        (LearnedBoard("milli-1.4.8", (LearnedSensor("deep/er/temp", (b"1",)),)), "CLASSIFIER/TYPE"),
        (LearnedBoard("milli-1.4.8", (LearnedSensor("temp", (b"1",)),)), "CLASSIFIER/TYPE"),
        (LearnedBoard("standard", (LearnedSensor("a/x", (b"1",)), LearnedSensor("b/x", (b"1",)))), "different last"),
        (LearnedBoard("standard", ()), "1 to 4"),
    ],
)
def test_a_board_that_cannot_be_played_is_refused(board: LearnedBoard, says: str, tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text(board.to_toml())
    with pytest.raises(BoardSettingsError, match=says):
        load_learned(file)


@pytest.mark.slow
def test_as_a_newcomer_does_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two commands on real ptys, the second one on what the first one wrote."""
    file, second = tmp_path / "board.toml", tmp_path / "again.toml"
    quick = ["--samples", "1", "--listen", "0"]
    assert main(["learn", "sim://standard?sensor=temp=20", "-w", str(file), *quick]) == 0
    assert "learned: standard; /arduino/temp" in capsys.readouterr().err
    assert main(["learn", f"sim://{file}", "-w", str(second), "--json", *quick]) == 0
    assert '"path": "arduino/temp"' in capsys.readouterr().out
    assert load_learned(second).root_text() == load_learned(file).root_text()
    assert main(["sensor", "--port", "pty", "--profile", str(tmp_path / "none.toml")]) == 2
    assert "MW-SNS-001" in capsys.readouterr().err
    assert main(["learn", "sim://standard", "-w", str(tmp_path / "no" / "folder"), *quick]) == 1
    assert "MW-LRN-002" in capsys.readouterr().err
