"""`meshwire capture`: what goes over a line, into a pcapng file and onto the screen, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

import hardware
from hardware.capture.session import CaptureSession
from hardware.port_spec import parse_port
from hardware.ports import open_port, peer_path
from hardware.wake_line import WakeInput
from meshwire.capture.errors import CaptureError, CaptureProblem
from meshwire.capture.file import CaptureFile, open_capture
from meshwire.capture.record import Record, Side, describe
from meshwire.capture.recorder import Recorder, Sink

__all__ = ["capture_app", "record_port"]

capture_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_STDOUT: Final = Path("-")
_WIRESHARK_FILES: Final = Path(hardware.__file__).parent / "wireshark"


def _show_wireshark_files(wanted: bool) -> None:
    if wanted:
        typer.echo(_WIRESHARK_FILES)
        raise typer.Exit


@capture_app.command()
def capture(
    port: Annotated[str, typer.Argument(help="the line: any PORT; /dev/serial/by-id/…, socket://HOST:PORT, sim://…")],
    write: Annotated[Path | None, typer.Option("--write", "-w", help="pcapng file; - for standard output")] = None,
    peer: Annotated[
        str | None, typer.Option(help="stand between: where the other side connects, such as pty:/tmp/board")
    ] = None,
    port_is: Annotated[Side, typer.Option(help="who is at PORT")] = Side.BOARD,
    baud: Annotated[int, typer.Option(help="line rate, bits a second")] = 38400,
    wake: Annotated[WakeInput, typer.Option(help="input of PORT that the wake line is wired to")] = WakeInput.NONE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="a line of text per frame")] = False,
    octets: Annotated[bool, typer.Option("--hex", "-x", help="with the octets (implies -v)")] = False,
    duration: Annotated[float | None, typer.Option(help="end after this many seconds")] = None,
    wireshark_files: Annotated[
        bool,
        typer.Option(
            "--wireshark-files",
            help="print the folder of Wireshark's dissector and extcap program, and end",
            callback=_show_wireshark_files,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Record a line for Wireshark. Without --peer it listens only; with it, it stands between NIC and board."""
    parse_port(port)
    lines = partial(_say, with_hex=octets, to_stderr=write == _STDOUT)
    text: list[Sink] = [lines] if verbose or octets or write is None else []
    with suppress(BrokenPipeError):  # Wireshark was closed: that is how such a capture ends
        asyncio.run(record_port(port, write, text, peer=peer, port_is=port_is, baud=baud, wake=wake, end_s=duration))


async def record_port(
    port: str,
    write: Path | None,
    text: list[Sink],
    *,
    peer: str | None,
    port_is: Side,
    baud: int,
    wake: WakeInput = WakeInput.NONE,
    end_s: float | None = None,
    tell: Callable[[str], None] = lambda line: typer.echo(line, err=True),
) -> None:
    """Capture until SIGINT, SIGTERM or `end_s` seconds are over.

    Raises:
        PortError: a port cannot be opened.
        CaptureError: the file cannot be written, or the peer hung up.
        BrokenPipeError: nobody reads the capture any more.
    """
    file = _open(write, port)
    try:
        other = None if peer is None else await open_port(peer, baud=baud)
        where = None if other is None else peer_path(other)
        if where is not None:
            tell(f"the other side connects to {where}")
        session = CaptureSession(
            partial(open_port, port, baud=baud, wake=wake),
            Recorder([*([file] if file else []), *text]),
            port_side=port_is,
            peer=other,
        )
        await _until_told(session, end_s)
    finally:
        if file is not None:
            file.close()
    if file is not None:
        tell(f"{file.packets} packets")


async def _until_told(session: CaptureSession, end_s: float | None) -> None:
    task = asyncio.create_task(session.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    if end_s is not None:
        loop.call_later(end_s, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    except ExceptionGroup as group:
        raise _cause(group) from None


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """What a person wants to know of a group: its first error, and why the file could not be written any more."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return CaptureError(
            CaptureProblem.NOT_WRITABLE, "the capture ends here", evidence=str(error), fix="make room, and start again"
        )
    return error


def _open(write: Path | None, port: str) -> CaptureFile | None:
    if write is None:
        return None
    if write != _STDOUT:
        return open_capture(write, port)
    return CaptureFile(os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0), port)


def _say(record: Record, *, with_hex: bool, to_stderr: bool) -> None:
    write: Callable[[str], int] = sys.stderr.write if to_stderr else sys.stdout.write
    write(describe(record, with_hex=with_hex) + "\n")
    if not to_stderr:
        sys.stdout.flush()
