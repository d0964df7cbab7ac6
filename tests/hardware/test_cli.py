"""`meshwire ports` lists what is there, for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hardware import cli
from hardware.cli import ports_app
from hardware.holders import Holder
from hardware.ports import PortInfo, moving_name

NAMES = ("/dev/serial/by-id/usb-FTDI_1-port0", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0")
PORTS = (
    PortInfo("/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI_1-port0", "FT232R", "USB VID:PID=0403:6001", (), NAMES),
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
                "names": list(NAMES),
                "description": "FT232R",
                "hardware_id": "USB VID:PID=0403:6001",
                "holders": [],
            },
            {
                "port": "/dev/ttyUSB1",
                "device": "/dev/ttyUSB1",
                "names": [],
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


class TestNamesThatMove:
    @pytest.mark.parametrize("configured", ["/dev/ttyUSB0", "fault+/dev/ttyUSB0?ber=0.1"])
    def test_the_stable_name_is_offered(self, configured: str) -> None:
        assert "write /dev/serial/by-id/usb-FTDI_1-port0" in (moving_name(configured, PORTS) or "")

    def test_a_device_without_a_stable_name_is_said(self) -> None:
        assert "no stable name" in (moving_name("/dev/ttyUSB1", PORTS) or "")

    def test_one_that_is_absent_is_said(self) -> None:
        assert "not there now" in (moving_name("/dev/ttyACM7", PORTS) or "")

    @pytest.mark.parametrize(
        "configured", ["/dev/serial/by-id/x", "/dev/ttyS0", "socket://h:1", "sim://standard", "pty"]
    )
    def test_a_name_that_lasts_is_no_matter(self, configured: str) -> None:
        assert moving_name(configured, PORTS) is None

    @pytest.mark.usefixtures("two_ports")
    def test_the_configuration_file_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "site.toml").write_text('[nic]\nserial = "/dev/ttyUSB0"\n')
        monkeypatch.setenv("MESHWIRE_CONFIG", str(tmp_path / "site.toml"))
        result = CliRunner().invoke(ports_app, ["--json"])
        assert "write /dev/serial/by-id" in result.stderr
        assert "warning" in json.loads(result.stdout.splitlines()[0])

    @pytest.mark.usefixtures("two_ports")
    def test_an_unreadable_configuration_does_not_hide_the_ports(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MESHWIRE_CONFIG", str(tmp_path / "none.toml"))
        result = CliRunner().invoke(ports_app, [])
        assert result.exit_code == 0
        assert "MW-CFG-001" in result.stderr
        assert len(result.stdout.splitlines()) == 2
