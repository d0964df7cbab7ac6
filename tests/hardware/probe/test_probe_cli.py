"""`meshwire probe`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hardware import probe_cli
from hardware.probe import ProbePlan
from hardware.probe_report import BoardFacts, Finding, PortReport, Transport

GOOD = PortReport(
    "/dev/good",
    Transport.SERIAL,
    Finding.BOARD,
    baud=38400,
    board=BoardFacts("milli-1.4.8", "milli", "Itron Reference CoAP Server: 1.4.8", "</sys>", 0.451, "UA"),
)
SILENT = PortReport("/dev/silent", Transport.SERIAL, Finding.SILENCE)
HELD = PortReport("/dev/held", Transport.SERIAL, Finding.HELD, exit_code=5)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = {report.port: report for report in (GOOD, SILENT, HELD)}

    async def probe(port: str, plan: ProbePlan) -> PortReport:
        return reports[port]

    monkeypatch.setattr(probe_cli, "probe_port", probe)


@pytest.mark.usefixtures("known")
class TestProbe:
    def test_one_line_a_port_says_why(self) -> None:
        result = CliRunner().invoke(probe_cli.app, ["/dev/good", "/dev/silent"])
        assert result.exit_code == 0
        assert "/dev/good: chosen: milli-1.4.8 at 38400 baud, UA after 451 ms" in result.stdout
        assert "/dev/silent: not chosen: silence" in result.stdout
        assert "next: meshwire link /dev/good --profile milli" in result.stdout

    def test_nothing_reachable_is_4(self) -> None:
        assert CliRunner().invoke(probe_cli.app, ["/dev/silent"]).exit_code == 4
        assert CliRunner().invoke(probe_cli.app, ["/dev/silent", "/dev/held"]).exit_code == 4

    def test_one_port_that_is_held_is_5(self) -> None:
        assert CliRunner().invoke(probe_cli.app, ["/dev/held"]).exit_code == 5

    def test_json_has_one_object_a_line(self) -> None:
        lines = CliRunner().invoke(probe_cli.app, ["/dev/good", "/dev/silent", "--json"]).stdout.splitlines()
        records = {record["port"]: record for record in map(json.loads, lines)}
        assert records["/dev/good"]["board"]["firmware"] == "milli-1.4.8"
        assert records["/dev/silent"]["found"] is False
        assert records["/dev/silent"]["causes"]


def test_without_any_port_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_cli, "list_ports", lambda: ())
    result = CliRunner().invoke(probe_cli.app, [])
    assert result.exit_code == 4
    assert "no serial ports" in result.stderr


def test_a_port_that_is_absent_has_its_code(tmp_path: Path) -> None:
    result = CliRunner().invoke(probe_cli.app, [str(tmp_path / "none")])
    assert result.exit_code == 4
    assert "MW-SER-002" in result.stdout
