"""`meshwire bench`: measurements made here and now, ours beside a peer in the same run.

This file knows the names and the two ways to print; what is measured is in the module of each name, which offers
`measure(quick) -> Iterator[Result]`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from bench.against import Earlier, load
from bench.result import Comparison, Figure, Measure, Result, machine_in_words
from meshwire.cli import main
from meshwire.errors import ExitCode

__all__ = ["BENCHES", "app"]

BENCHES: Final[dict[str, str]] = {
    "link": "bench.link",
    "broker": "bench.broker",
    "bridge": "bench.bridge",
    "bridge-soak": "bench.bridge_soak",
    "proxy": "bench.proxy",
    "fleet": "bench.fleet",
    "console": "bench.console",
}
"""Name on the command line -> module with `measure`."""

LONG: Final = frozenset({"bridge-soak", "console"})
"""Measured only when they are named: minutes, not seconds."""

QUICK_LIMIT_S: Final = 45.0
"""`--quick` ends within this."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"which: {', '.join(BENCHES)}; default: all short ones")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    against: Annotated[
        Path | None, typer.Option("--against", help="what --json printed for an earlier release: say what has changed")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"fewer runs, within {QUICK_LIMIT_S:g} s")] = False,
) -> None:
    """Run benchmarks. Figures are medians of the runs; a ratio above 1 means that ours is the better one."""
    chosen = names or [name for name in BENCHES if name not in LONG]
    unknown = [name for name in chosen if name not in BENCHES]
    if unknown:
        typer.echo(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHES)}", err=True)
        raise typer.Exit(ExitCode.USAGE)
    earlier = Earlier() if against is None else load(against)
    begin = time.monotonic()
    _say_where(as_json, quick)
    if against is not None and earlier.machine != machine_in_words():
        typer.echo(f"{against} is of another machine: {earlier.machine}", err=True)
    for name in chosen:
        for result in _load(name)(quick):
            beside = earlier.beside(result)
            typer.echo(json.dumps(result.record() | beside) if as_json else _line(result, beside))
            sys.stdout.flush()
    typer.echo(f"took {time.monotonic() - begin:.0f} s", err=True)


def _load(name: str) -> Measure:
    return cast(Measure, importlib.import_module(BENCHES[name]).measure)


def _say_where(as_json: bool, quick: bool) -> None:
    machine = machine_in_words()
    if as_json:
        typer.echo(json.dumps({"machine": machine, "quick": quick}))
        return
    typer.echo(machine + (f"; quick: fewer and shorter runs, within {QUICK_LIMIT_S:g} s" if quick else ""))
    typer.echo(f"{'case':<34}{'ours':>14}{'theirs':>14}{'ratio':>8}  unit (peer)")


def _line(result: Result, beside: dict[str, object]) -> str:
    record = result.record()
    name = f"{result.bench} {result.case}"
    match result:
        case Figure():
            head = f"{name:<34}{record['value']:>14}{'':>14}{'':>8}  {result.unit}"
        case Comparison():
            head = f"{name:<34}{record['ours']:>14}{record['theirs']:>14}{record['ratio']:>8}"
            head += f"  {result.unit} ({result.peer})"
            if "ratio_min" in record:
                head += f"; ratio {record['ratio_min']} to {record['ratio_max']}"
    for name in ("bar", "ratio_bar"):
        if name in record:
            head += f"; {name.replace('_', ' ')} {record[name]:g}: {'met' if record['met'] else 'MISSED'}"
    if beside:
        head += f"; before {beside['before']}, now {beside['change']} times as good"
    return head


if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
