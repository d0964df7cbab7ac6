"""`meshwire learn PORT`: the options, and the file."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Final

import typer

from hardware.learn.learner import Learner, LearnSettings
from hardware.learn.turn_around import TurnAround
from hardware.shell.errors import CommandError
from hardware.shell.shell import Shell, ShellSettings
from hardware.wake_line import WakeInput
from meshwire.errors import ExitCode, MeshwireError
from meshwire.learned_board import LearnedBoard, LearnedBoardError

__all__ = ["CATALOGUE", "learn_app"]

CATALOGUE: Final = {
    "MW-LRN-001": "The board answered, and none of its resources could be learned as a sensor: it names none in "
    "/.well-known/core, or answers them with errors. Name its sensors with --sensor PATH.",
    "MW-LRN-002": "The profile can't be written: no such folder, no right, or a full disk.",
}
"""Stable error codes of this package; shown by `meshwire help CODE`."""

learn_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PROFILES: Final = ("auto", "milli", "standard")


class NothingLearned(MeshwireError):
    """The board has no sensor that could be played."""

    default_code = "MW-LRN-001"
    exit_code: ClassVar[ExitCode] = ExitCode.DEVICE_ERROR


@learn_app.command()
def learn(
    port: Annotated[str, typer.Argument(help="any PORT: /dev/serial/by-id/…, socket://HOST:PORT, sim://standard, …")],
    write: Annotated[
        str, typer.Option("-w", "--write", metavar="FILE", help="the profile; - for standard output")
    ] = "-",
    sensor: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="a sensor that the board does not name; repeatable")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=1000, help="readings of each sensor")] = 3,
    listen: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=86_400, help="longest wait for notifications")
    ] = 30.0,
    profile: Annotated[str, typer.Option(help=f"one of {', '.join(_PROFILES)}; auto asks the board")] = "auto",
    baud: Annotated[int, typer.Option(min=50, help="bits a second")] = 38400,
    wake: Annotated[WakeInput, typer.Option(help="input that the board's wake line is wired to")] = WakeInput.NONE,
    as_json: Annotated[bool, typer.Option("--json", help="a summary as one JSON object on standard output")] = False,
) -> None:
    """Learn a board: its resources, payloads and timing, as a profile for `meshwire sensor --profile FILE`.

    Reads, observes for a while and sets the board's clock right; nothing else is changed. Exit codes: 4 no answer, 6
    nothing to be learned.
    """
    if profile not in _PROFILES:
        raise CommandError(f"no link profile {profile!r}", fix=f"one of {', '.join(_PROFILES)}")
    if as_json and write == "-":
        raise CommandError("--json and the profile can't both go to standard output", fix="name a file: -w board.toml")
    settings = LearnSettings(tuple(sensor or ()), samples, listen_s=listen)
    board = asyncio.run(_learn(ShellSettings(port, profile, baud=baud, wake=wake), settings))
    _check(board)
    _write(board, write)
    summary = {
        "base": board.base,
        "turn_around_ms": round(board.turn_around_s * 1000),
        "round_trip_ms": round(board.round_trip_s * 1000),
        "sensors": [
            {"path": item.path, "samples": len(item.samples), "observable": item.observable, "period_s": item.period_s}
            for item in board.sensors
        ],
        "resources": [f"/{item.path}" for item in board.resources],
    }
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
    else:
        sensors = ", ".join(f"/{item.path} every {item.period_s:g} s" for item in board.sensors)
        typer.echo(f"learned: {board.base}; {sensors}; {len(board.resources)} other resources", err=True)


async def _learn(settings: ShellSettings, how: LearnSettings) -> LearnedBoard:
    measure = TurnAround(settings.baud)
    shell = await Shell.open(settings, measure)
    try:
        return await Learner(shell, how, _say).learn(f"meshwire learn {settings.port}", measure.measured_s)
    finally:
        await shell.aclose()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _check(board: LearnedBoard) -> None:
    if not board.sensors:
        raise NothingLearned(
            "the board has no sensor that could be learned",
            evidence=", ".join(f"/{item.path}" for item in board.resources) or "no resource answered 2.05",
            fix="name a sensor: --sensor arduino/temp (`meshwire link PORT` shows what the board says)",
        )
    try:
        LearnedBoard.from_toml(board.to_toml())
    except LearnedBoardError as error:
        raise NothingLearned("what was learned can't be played", evidence=str(error)) from None


def _write(board: LearnedBoard, target: str) -> None:
    if target == "-":
        sys.stdout.write(board.to_toml())
        return
    try:
        Path(target).write_text(board.to_toml(), encoding="utf-8")
    except OSError as error:
        raise MeshwireError(
            f"can't write {target}", evidence=str(error), fix="name a file in a folder that exists", code="MW-LRN-002"
        ) from None
