"""`meshwire sensor`: one simulated board on a serial port or a new pseudo-terminal.

The only file of this component that may use `hardware`, and only to open a port.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from hardware.errors import PortError, PortProblem
from hardware.port_spec import parse_port
from meshwire.cli import main
from meshwire.errors import ExitCode
from meshwire.pipe import Pipe, PtyPipe
from sensor_sim.board import DEFAULT_BAUD, PROFILES, PipeOpener, SensorBoard, pty_opener
from sensor_sim.recorded import load_learned
from sensor_sim.spec import SensorSpec

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SENSOR_HELP = (
    "TYPE[=SOURCE][@PERIOD_S], may be repeated. TYPE: temp, echo, ncmth1, lnic. SOURCE: a number, "
    "walk:START,STEP,LOW,HIGH, sine:MEAN,AMPLITUDE,PERIOD_S, replay:FILE[,COLUMN]. PERIOD_S 0: push only."
)


@app.command()
def sensor(
    port: Annotated[str, typer.Option(help="pty, pty:LINK, a device path, or any other PORT.")],
    profile: Annotated[
        str, typer.Option(help=f"One of {', '.join(PROFILES)}, or a FILE of `meshwire learn`.")
    ] = "milli-1.4.8",
    sensors: Annotated[list[str] | None, typer.Option("--sensor", help=_SENSOR_HELP)] = None,
    period: Annotated[float, typer.Option(help="Seconds between notifications.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of the value sources.")] = 0,
    classifier: Annotated[str, typer.Option(help="First path segment of the sensors.")] = "arduino",
    baud: Annotated[int, typer.Option(min=1, help="Line rate, also kept on a pty.")] = DEFAULT_BAUD,
    boot_delay: Annotated[float, typer.Option(help="Seconds before a Milli board serves its UART, up to 16.")] = 0.0,
    confirmable: Annotated[bool, typer.Option(help="The standard profile notifies by CON.")] = False,
) -> None:
    """A simulated sensor board on a serial port or a new pty; ends on Ctrl-C."""
    specs = [SensorSpec.parse(text) for text in sensors or ["temp"]]
    learned = None if profile in PROFILES or not _names_file(profile) else load_learned(Path(profile))
    board = SensorBoard(
        profile,
        specs,
        _opener(port, baud),
        period_s=period,
        seed=seed,
        classifier=classifier,
        boot_delay_s=boot_delay,
        confirmable=confirmable,
        name=port,
        learned=learned,
    )
    asyncio.run(_run_until_signal(board))


def _names_file(profile: str) -> bool:
    return "/" in profile or profile.endswith(".toml") or Path(profile).is_file()


def _opener(port: str, baud: int) -> PipeOpener:
    """A port that can't be understood is refused here; one that is absent is tried again by the Link, for ever."""
    kind, _, link = port.partition(":")
    if kind == "pty":
        return _pty_opener(link or None, baud)
    parse_port(port)

    async def open_pipe() -> Pipe:
        from hardware.ports import open_port

        return await open_port(port, baud=baud)

    return open_pipe


def _pty_opener(link: str | None, baud: int) -> PipeOpener:
    if link is not None and (not (path := Path(link)).parent.is_dir() or (path.exists() and not path.is_symlink())):
        raise PortError(
            PortProblem.NO_PTY,
            f"no symlink can be made at {link}",
            evidence="its folder is missing" if not path.parent.is_dir() else "something else is there",
            fix="name a free path in a folder that exists",
        )
    return pty_opener(link, baud=baud, on_open=_announce)


def _announce(pipe: PtyPipe) -> None:
    sys.stdout.write(json.dumps({"pty": pipe.peer_path}) + "\n")
    sys.stdout.flush()


async def _run_until_signal(board: SensorBoard) -> None:
    """Run the board; SIGINT and SIGTERM cancel it, so that the pipe is closed and its symlink removed."""
    task = asyncio.create_task(board.run())
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt there
            loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    if signal.SIGINT in received:
        raise typer.Exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main(["sensor", *sys.argv[1:]]))
