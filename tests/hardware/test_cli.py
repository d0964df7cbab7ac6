"""`meshwire ports` lists what is there, for people and for scripts."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hardware import cli
from hardware.cli import ports_app
from hardware.holders import Holder
from hardware.ports import PortInfo

PORTS = (
    PortInfo("/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI_1-port0", "FT232R", "USB VID:PID=0403:6001", ()),
    PortInfo("/dev/ttyUSB1", "/dev/ttyUSB1", "CP2102", "n/a", (Holder(42, "meshwire"),)),
)


@pytest.fixture
def two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "list_ports", lambda: PORTS)


@pytest.mark.usefixtures("two_ports")
class TestPorts:
    def test_one_json_object_a_line(self) -> None:
        lines = CliRunner().invoke(ports_app, ["--json"]).output.splitlines()
        assert [json.loads(line) for line in lines] == [
            {
                "port": "/dev/serial/by-id/usb-FTDI_1-port0",
                "device": "/dev/ttyUSB0",
                "description": "FT232R",
                "hardware_id": "USB VID:PID=0403:6001",
                "holders": [],
            },
            {
                "port": "/dev/ttyUSB1",
                "device": "/dev/ttyUSB1",
                "description": "CP2102",
                "hardware_id": "n/a",
                "holders": [{"pid": 42, "command": "meshwire"}],
            },
        ]

    def test_one_line_a_port_without_a_terminal(self) -> None:
        lines = CliRunner().invoke(ports_app, []).output.splitlines()
        assert [line.split("\t")[0] for line in lines] == [port.stable_name for port in PORTS]
        assert lines[0].endswith("free")
        assert lines[1].endswith("meshwire (pid 42)")


def test_no_port_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "list_ports", lambda: ())
    result = CliRunner().invoke(ports_app, [])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "no serial ports" in result.stderr
