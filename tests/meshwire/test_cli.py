"""The command table, the exit codes, and that no foreseeable failure ends in a traceback."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from meshwire import cli, doctor, help_tool
from meshwire.errors import ExitCode, MeshwireError

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("meshwire", "sensor_sim", "nic_sim", "gateway", "broker", "hardware", "bench")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "meshwire"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_is_there(name: str) -> None:
    module, attribute = cli.COMMANDS[name].target.split(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_the_overview_names_every_command_and_loads_none_of_them() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)
    script = "import sys, meshwire.cli as cli; cli.overview(); print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not set(loaded) & set(PACKAGES[1:])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--version"], 0, "meshwire 0."),
        ([], 2, "usage:"),
        (["nonsense"], 2, "nonsense"),
        (["demo", "--nonsense"], 2, "nonsense"),
        (["demo", "--replace", "xyz"], 2, "MW-DEM-002"),
        (["--config", "/nonexistent.toml", "config", "check"], 3, "MW-CFG-001"),
        (["device", "list", "--http", "http://127.0.0.1:9"], 4, "MW-NET-001"),
        (["coap", "get", "xyz", "/", "--tenant", "t"], 2, "MW-NET-005"),
        (["mqtt", "sub", "-p", "9", "-t", "a"], 4, "MW-NET-001"),
        (["mqtt", "pub", "-t", "a"], 2, "exactly one"),
        (["broker", "authority", "--config", "/nonexistent.toml"], 3, "MW-CFG-001"),
        (["nic", "--mac", "0013500500470001", "--serial", "/dev/nonexistent", "--gateway", "nonsense"], 3, "MW-CFG"),
        (["help", "mw-ser-001"], 0, "MW-SER-001"),
        (["help", "MW-XXX-999"], 1, "no code"),
    ],
)
def test_exit_codes_and_words(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    done = run(*arguments)
    assert words in done.stdout + done.stderr
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_inside_a_task_group_is_told_as_itself() -> None:
    inner = MeshwireError("it failed", evidence="x", fix="y", code="MW-GEN-001")
    group = ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [inner])])
    assert cli._first_foreseeable(group) is inner
    assert str(inner) == "it failed; seen: x; do: y [MW-GEN-001]"
    assert cli._first_foreseeable(ExceptionGroup("tasks", [ValueError()])) is None


def test_every_code_that_the_source_uses_is_explained() -> None:
    known = help_tool.catalogue()
    used: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            used |= set(re.findall(r'(?:code=|default_code[^=]*= )"(MW-[A-Z]{3}-[0-9]{3})"', path.read_text()))
    assert used - set(known) <= {"MW-GEN-001"}
    assert all(meaning.endswith(".") for meaning in known.values())


def test_the_doctor_says_what_to_do_about_what_is_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.crc, "CRCMOD_HAS_C_EXTENSION", False)
    finding = next(finding for finding in doctor.findings() if finding.check == "crcmod C extension")
    assert not finding.ok
    assert "compiler" in finding.fix
    assert ExitCode.FAILURE == 1


def test_the_configuration_is_printed_commented_and_without_secrets(tmp_path: Path) -> None:
    done = run("config", "print")
    assert done.returncode == 0, done.stderr
    assert 'default_message_qos = "AT_LEAST_ONCE"' in done.stdout
    assert "# UDP port for CoAP" in done.stdout
    path = tmp_path / "printed.toml"
    path.write_text(done.stdout)
    again = run("--config", str(path), "config", "check")
    assert again.returncode == 0, again.stderr
