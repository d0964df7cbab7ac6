"""`meshwire probe [PORT]`: which port has a board, which board, and why the others were not chosen."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from hardware.advice import causes, evidence, reason
from hardware.ports import list_ports
from hardware.probe import ProbePlan, probe_port
from hardware.probe_report import PortReport, check_errors
from meshwire.errors import ExitCode

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def probe(
    ports: Annotated[
        list[str] | None, typer.Argument(metavar="[PORT]…", help="none: every port of this machine")
    ] = None,
    rates: Annotated[
        list[int] | None,
        typer.Option("--rate", min=50, help="bits a second to try, may be repeated; default: the usual ones"),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=600, help="go on for so many seconds: a Milli board may boot for 16 s")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Find the board: listen, ask by SNRM at the usual rates, read what it is, leave it as it was.

    Exit code 0: a board was found; 4: none. One PORT that can't be opened: 5 held or not permitted, 2 no such form.
    """
    chosen = ports or [port.stable_name for port in list_ports()]
    if not chosen:
        typer.echo("no serial ports here; name one (`pty:LINK`, `socket://…` and `sim://…` are ports too)", err=True)
        raise typer.Exit(ExitCode.NOT_REACHABLE)
    reports = asyncio.run(_probe_all(chosen, ProbePlan(tuple(rates or ()), wait), as_json))
    raise typer.Exit(_exit_code(reports))


async def _probe_all(ports: list[str], plan: ProbePlan, as_json: bool) -> list[PortReport]:
    """All ports at the same time, each told as soon as it is known."""
    reports = []
    for next_one in asyncio.as_completed([probe_port(port, plan) for port in ports]):
        report = await next_one
        reports.append(report)
        typer.echo(json.dumps(_record(report), ensure_ascii=False) if as_json else _text(report))
    return reports


def _exit_code(reports: list[PortReport]) -> int:
    if any(report.board is not None for report in reports):
        return ExitCode.OK
    return reports[0].exit_code if len(reports) == 1 else ExitCode.NOT_REACHABLE


def _text(report: PortReport) -> str:
    lines = [f"{report.port}: {reason(report)}"]
    lines += [f"    seen: {line}" for line in evidence(report)]
    if report.board is not None:
        lines += [
            f"    offers: {report.board.links or 'no answer to /.well-known/core'}",
            f"    next: meshwire link {report.port} --profile {report.board.profile}",
        ]
    lines += [f"    {n}. {cause.what} -> {cause.check}" for n, cause in enumerate(causes(report), 1)]
    return "\n".join(lines)


def _record(report: PortReport) -> dict[str, object]:
    return {
        "port": report.port,
        "transport": report.transport.value,
        "found": report.board is not None,
        "finding": report.finding.value,
        "why": reason(report),
        "baud": report.baud if report.board is not None else None,
        "board": _board(report),
        "octets_seen": report.octets_seen,
        "first_octets": report.first_octets[:64].hex(),
        "check_errors": sum(check_errors(attempt.heard) for attempt in report.attempts),
        "uart_errors": report.uart_errors,
        "holders": [{"pid": holder.pid, "command": holder.command} for holder in report.holders],
        "attempts": [
            {
                "baud": attempt.baud,
                "question": attempt.question,
                "finding": attempt.finding.value,
                "octets": len(attempt.heard.octets),
                "delay_s": None if attempt.heard.delay_s is None else round(attempt.heard.delay_s, 3),
            }
            for attempt in report.attempts
        ],
        "causes": [{"what": cause.what, "check": cause.check} for cause in causes(report)],
    }


def _board(report: PortReport) -> dict[str, object] | None:
    board = report.board
    if board is None:
        return None
    return {
        "firmware": board.firmware,
        "profile": board.profile,
        "version": board.version_text,
        "links": board.links,
        "answer_s": round(board.answer_s, 3),
        "parameters": board.parameters,
        "pending": board.pending,
        "released": board.released,
    }
