"""`meshwire link PORT`: the options, and the terminal or script behind them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from hardware.shell.commands import script_commands
from hardware.shell.completion import Completion
from hardware.shell.errors import CommandError
from hardware.shell.output import JsonOutput, Output, TextOutput
from hardware.shell.shell import Script, Shell, ShellSettings
from hardware.shell.terminal import Terminal
from hardware.wake_line import WakeInput
from meshwire.site import Site

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PROFILE_NAMES = ("auto", "milli", "milli-1.4.8", "milli-1.4.5", "standard")


@app.command()
def link(
    port: Annotated[
        str, typer.Argument(help="any PORT: /dev/serial/by-id/…, socket://HOST:PORT, sim://milli-1.4.8, …")
    ],
    profile: Annotated[str, typer.Option(help=f"one of {', '.join(_PROFILE_NAMES)}; auto asks the board")] = "auto",
    script: Annotated[str | None, typer.Option(metavar="FILE", help="commands of a file, - for standard input")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="the link's counters at the end")] = False,
    baud: Annotated[int, typer.Option(min=50, help="bits a second")] = 38400,
    poll: Annotated[float, typer.Option(min=0.5, max=3600, help="seconds between polls while observing")] = 2.0,
    wake: Annotated[WakeInput, typer.Option(help="input that the board's wake line is wired to")] = WakeInput.NONE,
    destructive: Annotated[bool, typer.Option("--destructive", help="send what is known to crash boards too")] = False,
    frames: Annotated[bool, typer.Option("--frames/--no-frames", help="the live view of the line")] = True,
    all_frames: Annotated[bool, typer.Option("--all-frames", help="a standing link's empty polls too")] = False,
    hex_shown: Annotated[bool, typer.Option("--hex", help="begin with `hex on`")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """A shell over HDLC to one board: get, put, observe, time, raw frames; `help` lists the commands.

    Exit codes of a script: 0 all went well, 2 not a command, 4 no answer, 5 held back, 6 the board answered an error.
    """
    if profile not in _PROFILE_NAMES:
        raise CommandError(f"no link profile {profile!r}", fix=f"one of {', '.join(_PROFILE_NAMES)}")
    commands = None if script is None else script_commands(_read(script))
    settings = ShellSettings(
        port,
        profile.partition("-")[0],
        baud=baud,
        poll_s=poll,
        wake=wake,
        guarded=not destructive,
        frames=frames,
        all_frames=all_frames,
    )
    terminal = Terminal(Completion(), None if commands is not None else _history(), "meshwire> ")
    output: Output = JsonOutput(terminal.write) if as_json else TextOutput(terminal.write)
    output.hex_shown = hex_shown or as_json
    raise typer.Exit(asyncio.run(_run(settings, output, terminal, commands, stats)))


async def _run(settings: ShellSettings, output: Output, terminal: Terminal, script: Script | None, stats: bool) -> int:
    shell = await Shell.open(settings, output)
    try:
        if script is not None:
            code = await shell.run_script(script)
        else:
            code = await _converse(shell, terminal)
        if stats:
            output.stats(shell.stats())
        return code
    finally:
        await shell.aclose()


async def _converse(shell: Shell, terminal: Terminal) -> int:
    terminal.use(shell.completion)
    learning = asyncio.create_task(shell.learn_paths()) if terminal.interactive else None
    try:
        return await shell.run_lines(terminal.read_line)
    finally:
        terminal.close()
        if learning is not None:
            learning.cancel()


def _read(script: str) -> str:
    if script == "-":
        return sys.stdin.read()
    try:
        return Path(script).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"can't read the script {script}", evidence=str(error), fix="check the path") from None


def _history() -> Path | None:
    try:
        return Site.default().path("link_history")
    except OSError:
        return None
