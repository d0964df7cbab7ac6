"""The shell against simulated boards: over a pty, over socket://, in scripts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from patience import until
from typer.testing import CliRunner

from hardware.shell import cli
from hardware.shell import shell as shell_module
from hardware.shell.commands import script_commands
from hardware.shell.errors import BoardSilent
from hardware.shell.output import JsonOutput, TextOutput
from hardware.shell.shell import Shell, ShellSettings
from meshwire.pipe import Pipe, open_pty, open_tcp
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec


@asynccontextmanager
async def board(profile: str, link: Path | int, period_s: float = 1.0) -> AsyncIterator[SensorBoard]:
    opened = asyncio.Event()

    async def open_pipe() -> Pipe:
        pipe: Pipe = await open_tcp("127.0.0.1", link) if isinstance(link, int) else open_pty(str(link))
        opened.set()
        return pipe

    one = SensorBoard(profile, [SensorSpec("temp")], open_pipe, period_s=period_s)
    task = asyncio.create_task(one.run())
    await opened.wait()
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def records(settings: ShellSettings, script: str) -> tuple[int, list[dict[str, object]]]:
    lines: list[str] = []
    shell = await Shell.open(settings, JsonOutput(lines.append))
    try:
        code = await shell.run_script(script_commands(script))
    finally:
        await shell.aclose()
    return code, [json.loads(line) for line in lines]


def events(found: list[dict[str, object]], event: str) -> list[dict[str, object]]:
    return [record for record in found if record["event"] == event]


class TestStandardBoard:
    async def test_a_session(self, tmp_path: Path) -> None:
        port = tmp_path / "board"
        script = (
            "get /\ntime set 1700000000\ntime\nget /arduino/temp?sens\nobserve /arduino/temp?sens\nwait 60 2\ncancel\n"
            "raw 40000102\nstats\n"
        )
        began = time.monotonic()
        async with board("standard", port, period_s=0.2):
            code, found = await records(ShellSettings(str(port)), script)
        took_s = time.monotonic() - began
        assert code == 0
        assert "standard" in str(events(found, "response")[0]["decoded"])
        assert events(found, "time")[0]["unix_s"] in range(1_700_000_000, 1_700_000_002 + int(took_s))
        assert len(events(found, "notification")) >= 2
        assert "RST" in str(events(found, "frame"))
        stats = events(found, "stats")[0]
        assert stats["requests"] == 6
        assert stats["check_errors"] == 0
        assert 0 < 6 * float(str(stats["round_trip_mean_s"])) < took_s

    async def test_over_a_terminal_server(self, unused_relay: int) -> None:
        async with board("standard", unused_relay):
            code, found = await records(ShellSettings(f"socket://127.0.0.1:{unused_relay}"), "get /\n")
        assert code == 0
        assert events(found, "response")[0]["code"] == "2.05"

    async def test_a_script_stops_at_an_error_unless_told_otherwise(self, tmp_path: Path) -> None:
        port = tmp_path / "board"
        async with board("standard", port):
            code, found = await records(ShellSettings(str(port)), "-get /nope\nget /nope\nget /\n")
        assert code == 6
        assert [record["code"] for record in events(found, "response")] == ["4.04", "4.04"]

    async def test_empty_polls_are_not_shown(self, tmp_path: Path) -> None:
        port = tmp_path / "board"
        async with board("standard", port):
            _, found = await records(ShellSettings(str(port)), "get /\nwait 0.3\n")
        assert not any(str(record["text"]).startswith("RR") for record in events(found, "frame"))

    async def test_lines_of_a_person_go_on_after_errors(self, tmp_path: Path) -> None:
        port = tmp_path / "board"
        typed = iter(["fetch /", "get /nope", "get /", "quit", "get /"])
        said: list[str] = []

        async def read_line() -> str | None:
            return next(typed, None)

        async with board("standard", port):
            shell = await Shell.open(ShellSettings(str(port), frames=False), TextOutput(said.append))
            try:
                assert await shell.run_lines(read_line) == 0
                await shell.learn_paths()
            finally:
                await shell.aclose()
        assert said[0].startswith("error: no such command")
        answers = [line for line in said[1:] if not line.startswith("the board says")]
        assert answers[0].startswith("4.04 /nope")
        assert answers[1].startswith("2.05 / meshwire")
        assert next(typed) == "get /"
        assert "/arduino/temp?sens" in shell.completion.offers("get ", "/ard")


class TestMilliBoard:
    async def test_a_session_with_the_guard(self, tmp_path: Path) -> None:
        port = tmp_path / "board"
        async with board("milli-1.4.8", port) as running:
            code, found = await records(ShellSettings(str(port), profile="milli"), "get /\n-get /sys/stats\nsnrm\n")
            assert running.resets == []
        assert code == 0
        assert "1.4.8" in str(events(found, "response")[0]["decoded"])
        assert events(found, "error")[0]["code"] == "MW-SHL-002"
        assert any("ev=rbt" in str(record["message"]) for record in events(found, "message"))
        assert str(events(found, "frame")[-1]["text"]).startswith("UA")

    async def test_destructive_lets_it_through(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shell_module, "_FAREWELL_S", 0.0)
        port = tmp_path / "board"
        async with board("milli-1.4.8", port) as running:
            settings = ShellSettings(str(port), profile="milli", guarded=False)
            shell = await Shell.open(settings, TextOutput(lambda line: None))
            request = asyncio.create_task(shell.run_script(script_commands("get /sys/stats\n")))
            await until(lambda: running.resets)
            request.cancel()
            await shell.aclose()


async def test_a_silent_port_is_said(tmp_path: Path) -> None:
    pipe = open_pty(str(tmp_path / "silent"))
    try:
        with pytest.raises(BoardSilent, match="meshwire probe"):
            await Shell.open(ShellSettings(str(tmp_path / "silent")), TextOutput(lambda line: None))
    finally:
        await pipe.aclose()


@pytest.fixture
async def unused_relay() -> AsyncIterator[int]:
    """A terminal server: what one of two connections sends, the other gets."""
    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        while data := await reader.read(1024):
            for other in ends:
                if other is not writer:
                    other.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


class TestCommandLine:
    def test_a_bad_script_sends_nothing(self, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text("get /\nfetch /\n")
        result = CliRunner().invoke(cli.app, [str(tmp_path / "no-port"), "--script", str(script)])
        assert "line 2 of the script" in str(result.exception)

    def test_an_unknown_profile_is_said(self) -> None:
        result = CliRunner().invoke(cli.app, ["/dev/none", "--profile", "mili"])
        assert "mili" in str(result.exception)

    def test_a_port_that_is_absent_is_said(self, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text("get /\n")
        result = CliRunner().invoke(cli.app, [str(tmp_path / "none"), "--script", str(script)])
        assert "MW-SER-002" in str(result.exception)
