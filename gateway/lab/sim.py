"""`meshwire sim`: scenarios of a whole mesh, from board to gateway, in virtual time.

A scenario is a test: exit code 0 when everything that its file expects holds, 1 when not; the seed is always told, and
the same seed gives the same run, octet for octet.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.lab.virtual_gateway import VirtualGateway
from meshwire.errors import ExitCode
from nic_sim.errors import NicError
from nic_sim.fleet.wire import WireKind
from nic_sim.mesh.chart import LEGEND, chart, summary
from nic_sim.mesh.picture import latency_picture, topology_picture
from nic_sim.mesh.recording import Recording, State
from nic_sim.mesh.scenario import load_scenario, shipped_scenarios
from nic_sim.mesh.simulation import Simulation
from nic_sim.mesh.verdict import Finding, judge

__all__ = ["app"]

app: Final = typer.Typer(
    help="Scenarios of a whole mesh, from board to gateway.", no_args_is_help=True, add_completion=False
)
_FRAME_S: Final = 0.2
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("list")
def list_scenarios(as_json: Json = False) -> None:
    """The scenarios that come with the product."""
    scenarios = [load_scenario(name) for name in shipped_scenarios()]
    if as_json:
        for each in scenarios:
            typer.echo(json.dumps({"name": each.name, "nics": each.nics.count, "description": each.description}))
        return
    table = Table("Name", "NICs", "Simulated", "What", box=None)
    for each in scenarios:
        table.add_row(each.name, str(each.nics.count), _span(each.duration_s), each.description)
    Console().print(table)


@app.command("run")
def run_scenario(
    scenario: Annotated[str, typer.Argument(help="A file, or the name of a shipped scenario.")],
    seed: Annotated[int | None, typer.Option(help="Of everything that is chance; default: the file's own.")] = None,
    fast: Annotated[bool, typer.Option("--fast/--real-time", help="Virtual time, or a second a second.")] = True,
    duration: Annotated[float | None, typer.Option(help="Seconds, in place of the file's.")] = None,
    wire: Annotated[WireKind, typer.Option(help="Between NIC and board: nothing but octets, or real HDLC.")] = (
        WireKind.NONE
    ),
    record: Annotated[Path | None, typer.Option(help="Write every event here, a JSON object a line.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write SVG pictures of tree and latency into this folder.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the network while it runs, on a terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Play a scenario and judge what its file expects."""
    wanted = load_scenario(scenario)
    if duration is not None:
        wanted = wanted.model_copy(update={"duration_s": duration})
    began = time.monotonic()
    with _writing(record) as trace:
        state = State() if watch else None
        heard = None if state is None else state.take
        simulation = Simulation(wanted, VirtualGateway, seed=seed, wire=wire, trace=trace, watch=heard)
        if state is not None:
            _watch(simulation, state, fast=fast)
        elif fast:
            _play(simulation, quiet=as_json)
        else:
            simulation.run_in_real_time(time.monotonic, time.sleep)
    findings = judge(wanted.expect, simulation.ledger)
    if picture is not None:
        picture.mkdir(parents=True, exist_ok=True)
        (picture / "topology.svg").write_text(topology_picture(simulation.mesh.topology))
        (picture / "latency.svg").write_text(latency_picture(simulation.latencies_by_hops))
    report = _report(simulation, findings, time.monotonic() - began)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report, findings, scenario)
    if not all(finding.holds for finding in findings):
        raise typer.Exit(ExitCode.FAILURE)


@app.command("play")
def play_recording(
    file: Annotated[Path, typer.Argument(help="Written by `sim run --record`.")],
    at: Annotated[float | None, typer.Option(help="Show this second only.")] = None,
    speed: Annotated[float, typer.Option(min=0.001, help="Recorded seconds in one second.")] = 600.0,
) -> None:
    """Look at a recorded run again: as a film, or at one moment of it."""
    try:
        with file.open() as lines:
            recording = Recording(lines)
    except OSError as error:
        raise NicError(
            "the recording can't be read", evidence=f"{file}: {error.strerror}", fix="check the path", code="MW-NIC-040"
        ) from None
    if at is not None:
        Console().print(_screen(recording.at(at)))
        return
    began = time.monotonic()
    with Live(console=Console(), refresh_per_second=5, transient=False) as live:
        while True:
            at_s = (time.monotonic() - began) * speed
            live.update(_screen(recording.at(min(at_s, recording.end_s))), refresh=True)
            if at_s >= recording.end_s:
                return
            time.sleep(_FRAME_S)


def _screen(state: State) -> Group:
    return Group(chart(state), LEGEND, summary(state))


def _watch(simulation: Simulation, state: State, *, fast: bool) -> None:
    """Draw five times a second, however quickly the time of the scenario passes."""
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        drawn = [0.0]

        def draw(*_: object) -> None:
            if time.monotonic() - drawn[0] >= _FRAME_S:
                live.update(_screen(state), refresh=True)
                drawn[0] = time.monotonic()

        def sleep(seconds: float) -> None:
            draw()
            time.sleep(seconds)

        if fast:
            simulation.run(draw)
        else:
            simulation.run_in_real_time(time.monotonic, sleep)
        live.update(_screen(state), refresh=True)


@contextmanager
def _writing(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    try:
        with path.open("w") as file:
            yield file
    except OSError as error:
        raise NicError(
            "the recording can't be written",
            evidence=f"{path}: {error.strerror}",
            fix="choose another --record",
            code="MW-NIC-040",
        ) from None


def _play(simulation: Simulation, *, quiet: bool) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(simulation.scenario.name, total=1.0)
        simulation.run(lambda share: progress.update(task, completed=share))


def _report(simulation: Simulation, findings: list[Finding], took_s: float) -> dict[str, Any]:
    ledger, mesh = simulation.ledger, simulation.mesh
    return {
        "scenario": simulation.scenario.name,
        "seed": simulation.seed,
        "nics": simulation.scenario.nics.count,
        "simulated_s": simulation.scenario.duration_s,
        "took_s": round(took_s, 2),
        "readings": {"made": ledger.made, "stored": ledger.stored, "lost": dict(sorted(ledger.lost.items()))},
        "latency_s": {name: round(ledger.latency_s(share), 3) for name, share in (("p50", 0.5), ("p99", 0.99))},
        "commands": {"ordered": ledger.ordered, **dict(sorted(ledger.commands.items()))},
        "registrations": simulation.registrations,
        "datagrams_lost": {reason.value: count for reason, count in sorted(mesh.lost.items())},
        "frames_sent": mesh.carried["frames"],
        "trace_sha256": simulation.digest,
        "holds": all(finding.holds for finding in findings),
        "findings": [{"what": each.what, "holds": each.holds, "evidence": each.evidence} for each in findings],
    }


def _print(report: dict[str, Any], findings: list[Finding], scenario: str) -> None:
    readings, latency, commands = report["readings"], report["latency_s"], report["commands"]
    typer.echo(
        f"{report['scenario']}: {report['nics']} NICs, {_span(report['simulated_s'])} in {report['took_s']:.1f} s\n"
        f"readings  {readings['made']} made, {readings['stored']} at the gateway, "
        f"p50 {latency['p50']:.2f} s, p99 {latency['p99']:.2f} s"
    )
    for reason, count in readings["lost"].items():
        typer.echo(f"          {count} {reason}")
    if commands["ordered"]:
        ended = ", ".join(f"{count} {state}" for state, count in commands.items() if state != "ordered")
        typer.echo(f"commands  {commands['ordered']} ordered: {ended}")
    lost = ", ".join(f"{count} {reason}" for reason, count in report["datagrams_lost"].items()) or "none lost"
    typer.echo(f"mesh      {report['frames_sent']} frames on the air; datagrams: {lost}")
    for finding in findings:
        typer.echo(f"{'holds ' if finding.holds else 'BROKEN'}    {finding.what}: {finding.evidence}")
    seed = f"seed {report['seed']}, trace {report['trace_sha256'][:16]}"
    again = f"; the same again: meshwire sim run {scenario} --seed {report['seed']} --record trace.jsonl"
    typer.echo(seed + ("" if report["holds"] else again), file=sys.stderr)


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
