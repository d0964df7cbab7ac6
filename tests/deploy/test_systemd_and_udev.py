"""The service files start what there is, with settings that there are; the udev rules are rules."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meshwire.cli import COMMANDS
from meshwire.config import load_config, read_settings
from nic_sim.settings import NicSettings

ROOT = Path(__file__).parent.parent.parent
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
MESHWIRE = Path(sys.executable).parent / "meshwire"


def service(unit: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser["Service"]


def test_there_is_a_service_for_each_server() -> None:
    assert [unit.name for unit in UNITS] == [
        "meshwire-broker.service",
        "meshwire-gateway.service",
        "meshwire-nic@.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_starts_a_command_with_options_that_there_are(unit: Path) -> None:
    program, command, *options = shlex.split(service(unit)["ExecStart"])
    assert program == "/opt/meshwire/bin/meshwire"
    assert command in COMMANDS
    shown = subprocess.run([str(MESHWIRE), command, "--help"], capture_output=True, text=True, check=True).stdout
    for option in options:
        assert not option.startswith("--") or option in shown


@pytest.mark.server
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/meshwire/bin/meshwire", str(MESHWIRE)))
    verified = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_example_of_a_nic_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MESHWIRE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    lines = (ROOT / "deploy" / "systemd" / "nic.env.example").read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            monkeypatch.setenv(name, value)
    settings = read_settings(NicSettings, "nic", load_config(None), mac="001350050047dd92")
    assert (settings.wake, settings.silent_after_s, settings.reset_action.value) == ("cts", 600, "dtr")
    assert [entry.path for entry in settings.observe] == ["snsr/arduino/temp"]


PAIR = re.compile(r'^[A-Z]+(\{[A-Za-z_]+\})?(==|!=|\+=|=)"[^"]*"$')


def test_the_rules_are_rules() -> None:
    text = (ROOT / "deploy" / "udev" / "60-meshwire.rules").read_text()
    labels = set(re.findall(r'LABEL="(\w+)"', text))
    assert set(re.findall(r'GOTO="(\w+)"', text)) == labels
    for line in text.splitlines():
        rule = line.removeprefix("# ") if line.startswith("# SUBSYSTEM") else line
        if rule and not rule.startswith("#"):
            assert all(PAIR.match(part) for part in rule.split(", ")), rule
