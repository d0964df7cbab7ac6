"""`meshwire conform PORT`: open the port, run the cases, show progress, write the reports, end with 0 or 7."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hardware.capture.tap import tap_to_file
from hardware.conform.bench import Bench, BenchSettings
from hardware.conform.case import Case, Profile, Result, Verdict
from hardware.conform.catalogue import CASES, choose
from hardware.conform.report import as_html, as_json_lines, as_junit, as_text
from hardware.conform.suite import run_cases
from hardware.ports import open_port
from meshwire.errors import ExitCode

__all__ = ["conform_app"]

conform_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_QUICK_EXCHANGES = 50
_QUICK_NOTIFICATION_S = 10.0


@conform_app.command()
def conform(
    port: Annotated[str, typer.Argument(help="any PORT; with --list nothing is opened")] = "",
    profile: Annotated[
        Profile, typer.Option(help="judge against the standards or the Milli dialect")
    ] = Profile.STANDARD,
    group: Annotated[list[str] | None, typer.Option(help="only this group; may be given again")] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="only this case, such as HDLC-FRM-003; may be given again")
    ] = None,
    sensor: Annotated[str, typer.Option(help="path of the sensor that is read and observed")] = "arduino/temp",
    baud: Annotated[int, typer.Option(help="bits a second")] = 38400,
    quick: Annotated[bool, typer.Option("--quick", help="50 exchanges of endurance, 10 s for a notification")] = False,
    destructive: Annotated[bool, typer.Option("--destructive", help="also send what is known to crash boards")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="results as JSON lines")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="results as JUnit XML")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="results as a page")] = None,
    capture: Annotated[
        Path | None, typer.Option("-w", help="record the whole run as pcapng, behind what is there")
    ] = None,
    list_cases: Annotated[bool, typer.Option("--list", help="show the cases and end")] = False,
) -> None:
    """Judge a board's firmware: link, CoAP, observe and payload. Ends with 0, or with 7 when a case failed."""
    cases = choose(group or (), case or (), destructive=destructive)
    if list_cases:
        for entry in CASES:
            typer.echo(f"{entry.id}\t{entry.group.value}\t{entry.title}\t{entry.rule_for(profile)[0]}")
        return
    if not port:
        raise typer.BadParameter("name the port, or use --list")
    settings = BenchSettings(profile, sensor)
    if quick:
        settings = BenchSettings(profile, sensor, notification_wait_s=_QUICK_NOTIFICATION_S, exchanges=_QUICK_EXCHANGES)
    results = asyncio.run(_run(port, baud, settings, cases, capture))
    for path, text in (
        (json_file, as_json_lines(results, profile)),
        (junit_file, as_junit(results, profile, port)),
        (html_file, as_html(results, profile, port)),
    ):
        if path is not None:
            path.write_text(text, encoding="utf-8")
    typer.echo(as_text(results, profile), nl=False)
    if any(result.outcome.verdict is Verdict.FAIL for result in results):
        raise typer.Exit(ExitCode.CONFORMANCE)


async def _run(
    port: str, baud: int, settings: BenchSettings, cases: Sequence[Case], capture: Path | None
) -> tuple[Result, ...]:
    pipe = await open_port(port, baud=baud)
    bench = Bench(pipe if capture is None else tap_to_file(pipe, capture), settings)
    progress = _Progress(len(cases))
    try:
        return await run_cases(bench, cases, on_result=progress.show)
    finally:
        progress.end()
        await bench.aclose()


class _Progress:
    """One line a case on standard error; on a terminal what passed is overwritten."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._terminal = sys.stderr.isatty()

    def show(self, result: Result) -> None:
        self._done += 1
        verdict = result.outcome.verdict
        line = f"{self._done:>3}/{self._total} {result.case.id} {verdict.value:<14} {result.case.title}"
        if verdict is Verdict.NOT_APPLICABLE:
            line += f" ({result.outcome.seen})"
        if not self._terminal:
            typer.echo(line, err=True)
        else:
            typer.echo(f"\r\x1b[K{line}", nl=verdict is not Verdict.PASS, err=True)

    def end(self) -> None:
        if self._terminal:
            typer.echo("\r\x1b[K", nl=False, err=True)
