"""Scenarios from board to gateway in virtual time: what their files expect holds, and the same seed, the same run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.lab.sim import app
from gateway.lab.virtual_gateway import VirtualGateway
from nic_sim.errors import NicError
from nic_sim.fleet.wire import WireKind
from nic_sim.mesh.chart import chart, summary
from nic_sim.mesh.recording import Recording
from nic_sim.mesh.scenario import Scenario, load_scenario
from nic_sim.mesh.simulation import Simulation
from nic_sim.mesh.verdict import judge


def shortened(name: str, duration_s: float, **more: object) -> Scenario:
    """A shipped scenario whose events come sooner: all times by the same factor."""
    wanted = load_scenario(name)
    factor = duration_s / wanted.duration_s
    events = tuple(
        event.model_copy(
            update={
                field: value * factor
                for field in ("at", "every", "for_s", "spread_s", "ttl_s")
                if (value := getattr(event, field)) is not None
            }
        )
        for event in wanted.event
    )
    return wanted.model_copy(update={"duration_s": duration_s, "drain_s": 900.0, "event": events, **more})


def play(wanted: Scenario, seed: int = 1, wire: WireKind = WireKind.NONE) -> tuple[Simulation, str]:
    trace = io.StringIO()
    simulation = Simulation(wanted, VirtualGateway, seed=seed, wire=wire, trace=trace)
    simulation.run()
    return simulation, trace.getvalue()


def test_a_storm_loses_nothing_without_a_reason_and_repeats_itself_octet_for_octet() -> None:
    wanted = shortened("storm", 1200.0)
    first, trace = play(wanted)
    broken = [finding for finding in judge(wanted.expect, first.ledger) if not finding.holds]
    assert not broken, broken
    assert first.ledger.made > 3_500 and first.ledger.ordered == first.ledger.commands.total() == 240
    lines = [json.loads(line) for line in trace.splitlines()]
    seen = {line["event"] for line in lines}
    assert {"off", "on", "parent-lost", "attached", "address", "registered", "stored", "command", "outage"} <= seen
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    _, again = play(wanted)
    assert again == trace
    _, other = play(wanted, seed=2)
    assert other != trace


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_day_of_storm_twice() -> None:
    wanted = load_scenario("storm")
    first, trace = play(wanted)
    broken = [finding for finding in judge(wanted.expect, first.ledger) if not finding.holds]
    assert not broken, broken
    _, again = play(wanted)
    assert again == trace


@pytest.mark.parametrize("wire", list(WireKind))
def test_readings_pass_whatever_lies_between_nic_and_board(wire: WireKind) -> None:
    wanted = shortened("street-block", 600.0)
    simulation, _ = play(wanted, wire=wire)
    assert all(finding.holds for finding in judge(wanted.expect, simulation.ledger))
    assert simulation.ledger.made >= 450


def test_what_a_scenario_expects_can_break(tmp_path: Path) -> None:
    text = """
    schema_version = 1
    name = "hopeless"
    description = "nobody hears the access point for an hour"
    duration_s = "1h"
    drain_s = 60
    [[access_point]]
    x = 0
    y = 0
    prefix = "fd00:0:0:1::"
    [nics]
    count = 3
    width_m = 50
    height_m = 50
    queue_limit = 10
    [[event]]
    do = "kill"
    at = "10m"
    to = "access-point:0"
    [[event]]
    do = "command"
    at = "20m"
    to = "nics:2"
    ttl_s = "10m"
    [expect]
    all_readings_arrive = true
    """
    path = tmp_path / "hopeless.toml"
    path.write_text(text)
    result = CliRunner().invoke(app, ["run", str(path), "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    broken = [finding["what"] for finding in report["findings"] if not finding["holds"]]
    assert broken == ["all readings arrive"], "but each one is accounted for, and the commands have ended"
    readings = report["readings"]
    assert readings["lost"]["queue-full-at-nic"] > 100 and readings["lost"]["waiting-at-nic"] >= 27
    assert readings["made"] == readings["stored"] + sum(readings["lost"].values())
    assert report["commands"]["ordered"] == 2 and report["seed"] == 1 and not report["holds"]


def test_the_command_lists_records_and_draws(tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = [json.loads(line) for line in run(app, ["list", "--json"]).stdout.splitlines()]
    assert {"storm", "district"} <= {each["name"] for each in listed}
    record, pictures = tmp_path / "trace.jsonl", tmp_path / "pictures"
    words = ["run", "single-board", "--seed", "7", "--record", str(record), "--picture", str(pictures)]
    result = run(app, words)
    assert result.exit_code == 0 and "60 made, 60 at the gateway" in result.stdout and "seed 7" in result.output
    assert {json.loads(line)["event"] for line in record.read_text().splitlines()} >= {"registered", "made", "stored"}
    assert (pictures / "topology.svg").read_text().startswith("<svg") and (pictures / "latency.svg").exists()


def test_a_recording_can_be_looked_at_at_any_time_of_it(tmp_path: Path) -> None:
    wanted = shortened("storm", 1200.0)
    simulation, trace = play(wanted)
    recording = Recording(trace.splitlines())
    topology, roots = simulation.mesh.topology, simulation.mesh.topology.roots
    last = recording.at(recording.end_s)
    assert last.counts["stored"] >= simulation.ledger.stored and len(last.places) == 203
    for node in range(roots, len(topology.places)):
        assert last.hops(simulation.macs[node - roots].value) == topology.hops(node)
    beginning, middle = recording.at(0.0), recording.at(600.0)
    assert not beginning.off and len(middle.off) > 0 and beginning.counts["stored"] == 0
    assert recording.at(600.0) == middle, "going back and forth changes nothing"
    assert "x" in chart(middle) and "nodes off" in summary(middle)
    path = tmp_path / "trace.jsonl"
    path.write_text(trace)
    result = CliRunner().invoke(app, ["play", str(path), "--at", "600"])
    assert result.exit_code == 0 and "00:10:00" in result.stdout and "A" in result.stdout
    path.write_text("no trace\n")
    assert isinstance(CliRunner().invoke(app, ["play", str(path)]).exception, NicError)


def test_the_network_can_be_watched() -> None:
    result = CliRunner().invoke(app, ["run", "single-board", "--watch"])
    assert result.exit_code == 0 and "access point" in result.output and "60 made" in result.output


def test_real_time_waits_for_each_event() -> None:
    wanted = load_scenario("single-board").model_copy(update={"duration_s": 300.0, "drain_s": 60.0})
    simulation = Simulation(wanted, VirtualGateway, seed=1)
    slept, now = [], [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    simulation.run_in_real_time(lambda: now[0], sleep)
    assert sum(slept) == pytest.approx(360.0, abs=61) and simulation.ledger.stored == simulation.ledger.made > 0
