"""`meshwire replay`: a recorded session as a regression test; exit 0 when all agrees, 1 when something differs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from hardware.ports import open_port, peer_path
from hardware.replay.compare import DEFAULT_MASKS, Mask
from hardware.replay.line import FrameLine
from hardware.replay.player import Settings, Verdict, play_board, play_nic
from hardware.replay.recording import Turn, load_turns
from meshwire.capture.record import Record, Side, describe
from meshwire.errors import ExitCode
from meshwire.hdlc.frame import Frame, encode_frame

__all__ = ["replay_app"]

replay_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@replay_app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="a capture with frames of both directions")],
    role: Annotated[Side, typer.Option("--as", help="who to be: nic plays at a board, board plays at a NIC")],
    port: Annotated[str, typer.Option(help="where the other side is; default: a new pty, whose path is told")] = "pty",
    ignore: Annotated[
        list[Mask] | None, typer.Option(help="what may differ, besides mid and token; may be repeated")
    ] = None,
    strict: Annotated[bool, typer.Option(help="message IDs and tokens that the other side chose count too")] = False,
    baud: Annotated[int, typer.Option(help="line rate, bits a second")] = 38400,
    timeout: Annotated[float, typer.Option(help="longest wait for a frame, in seconds")] = 10.0,
    longest_pause: Annotated[float, typer.Option(help="recorded pauses are shortened to this, in seconds")] = 5.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show the frames that agree, too")] = False,
) -> None:
    """Play one side of a recorded session and compare the other, frame by frame."""
    turns = load_turns(file)
    masks = (frozenset() if strict else DEFAULT_MASKS) | frozenset(ignore or ())
    settings = Settings(masks, timeout, longest_pause)
    verdicts = asyncio.run(_play(turns, role, port, baud, settings, verbose))
    failed = sum(bool(verdict.differences) for verdict in verdicts)
    typer.echo(f"{len(verdicts)} frames compared, {failed} differ")
    if failed:
        raise typer.Exit(ExitCode.FAILURE)


async def _play(
    turns: tuple[Turn, ...], role: Side, port: str, baud: int, settings: Settings, verbose: bool
) -> list[Verdict]:
    pipe = await open_port(port, baud=baud)
    if (where := peer_path(pipe)) is not None:
        sys.stderr.write(f"the {role.other} connects to {where}\n")
    play = play_nic if role is Side.NIC else play_board
    verdicts: list[Verdict] = []
    try:
        async for verdict in play(FrameLine(pipe), turns, settings):
            verdicts.append(verdict)
            if verdict.differences or verbose:
                typer.echo(_lines(verdict, role.other))
        await pipe.drain()
    finally:
        await pipe.aclose()
    return verdicts


def _lines(verdict: Verdict, sender: Side) -> str:
    """The verdict for people: what was recorded, what came, and each difference on a line of its own."""
    step = verdict.step
    where = "not recorded" if step is None else f"packet {step.number}"
    lines = [f"{'differs' if verdict.differences else 'agrees '}  {where}"]
    if step is not None and step.frame is not None:
        lines.append(f"    recorded  {_frame_line(step.frame, sender)}")
    if verdict.came is not None:
        lines.append(f"    now       {_frame_line(verdict.came, sender)}")
    return "\n".join([*lines, *(f"    {difference}" for difference in verdict.differences)])


def _frame_line(frame: Frame, sender: Side) -> str:
    text = describe(Record(0, sender, encode_frame(frame), frame, sdu=b"" if frame.segmented else _sdu(frame)))
    return text.split("  ", 1)[1]


def _sdu(frame: Frame) -> bytes:
    return frame.info if frame.control.kind.value == "I" else b""
