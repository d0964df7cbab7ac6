"""What a person sees who has set something wrongly: one line that leads on, its code, the exit code, no traceback."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from meshwire import cli
from meshwire.config import ConfigError, load_config, read_settings
from meshwire.system_errors import in_words
from nic_sim.settings import NicSettings


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """A command sends its log to a stream that pytest closes after the test."""
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    logging.captureWarnings(False)


NIC = ["nic", "--mac", "0013500500470001", "--serial", "sim://milli-1.4.8", "--listen", "127.0.0.1:0"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["brokr"], 2, ["no command 'brokr'", "meshwire broker"]),
        (["--nonsense"], 2, ["no option '--nonsense'"]),
        (["--config"], 2, ["--config needs a file"]),
        (["config", "check", "{}/sections.toml"], 3, ["gatway (perhaps gateway)", "MW-CFG-005"]),
        (["config", "check", "{}/setting.toml"], 3, ["gateway.bridge.prot: no such setting (perhaps port)", "CFG-004"]),
        (["config", "check", "{}/octets.toml"], 3, ["octets.toml", "MW-CFG-002"]),
        (["nic"], 3, ["nic.mac: it has to be given", "MW-CFG-004"]),
        ([*NIC, "--gateway", "http://x"], 3, ["nic.gateway: 'http://x' is not coap://", "MW-CFG-004"]),
        ([*NIC, "--gateway", "coap://x", "--state", "{}/octets.toml/x"], 1, ["octets.toml", "MW-GEN-002"]),
        (["mqtt", "sub", "-t", "a/#/b"], 2, ["'a/#/b'", "MW-NET-005"]),
        (["mqtt", "sub", "-t", "a+/b"], 2, ["'a+/b'", "MW-NET-005"]),
        (["mqtt", "pub", "-t", "a/+", "-m", "x"], 2, ["'a/+'", "MW-NET-005"]),
        (["mqtt", "pub", "-t", "a", "-f", "{}/absent"], 2, ["absent: No such file", "MW-NET-005"]),
        (["mqtt", "sub", "-t", "a", "--cafile", "{}/absent"], 2, ["--cafile", "absent: No such file", "MW-NET-005"]),
        (["mqtt", "sub", "-t", "a", "--cert", "{}/octets.toml"], 2, ["--cert", "octets.toml", "MW-NET-005"]),
        (["coap", "get", "0013500500470001", "x", "--tenant", "a", "--gateway", "http://x"], 2, ["coap://HOST"]),
        (["device", "list", "--http", "127.0.0.1:8080"], 2, ["http://HOST:PORT", "MW-NET-005"]),
        (["token", "show", "x"], 5, ["jwks.json", "MESHWIRE_STATE"]),
        (["token", "issue", "--tenant", "a", "--role", "READER"], 0, ["READER", "meshwire role list"]),
        (["user", "add", "ann", "--role", "READER"], 0, ["READER", "meshwire role list"]),
    ],
)
def test_it_is_told(
    arguments: list[str],
    code: int,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))
    (tmp_path / "sections.toml").write_text("[gatway]\nport = 1\n")
    (tmp_path / "setting.toml").write_text("[gateway.bridge]\nprot = 1\n")
    (tmp_path / "octets.toml").write_bytes(b"\xff\xfe")
    assert cli.main([each.replace("{}", str(tmp_path)) for each in arguments]) == code
    said = capfd.readouterr().err
    assert all(each in said for each in words), said
    assert "Traceback" not in said


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.mark.parametrize(
    ("kind", "command", "config", "code"),
    [
        (TCP, ["broker"], "[[broker.listener]]\nport = {}", "MW-BRK-002"),
        (TCP, ["broker-authority"], "[authority]\nport = {}", "MW-AUT-002"),
        (UDP, ["gateway"], '[gateway]\nlisten = ["127.0.0.1"]\nport = {}', "MW-GWY-002"),
        (TCP, ["gateway"], '[gateway]\nport = 0\nhttp = "127.0.0.1:{}"', "MW-GWY-002"),
        (UDP, NIC[:-1], "", "MW-NIC-002"),
        (TCP, [*NIC, "--metrics"], "", "MW-NIC-004"),
    ],
)
def test_a_taken_port_ends_every_server_alike(
    kind: socket.SocketKind,
    command: list[str],
    config: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(cli, "use_fast_loop", lambda: None)
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is TCP:
            taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "site.toml").write_text(config.format(port))
        more = ["--config", str(tmp_path / "site.toml")] if config else [f"127.0.0.1:{port}"]
        assert cli.main([*command, *more]) == 4
    said = capfd.readouterr().err
    assert code in said and "Traceback" not in said


@pytest.mark.parametrize("command", [["broker"], ["gateway", "--port", "0"], ["device", "list"], ["user", "list"]])
def test_a_state_folder_that_cannot_be_used(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "file" / "state"))
    monkeypatch.setattr(cli, "use_fast_loop", lambda: None)
    assert cli.main(command) == 1
    said = capfd.readouterr().err
    assert "the state folder can't be used" in said and "MESHWIRE_STATE" in said and "[MW-GEN-002]" in said
    assert "Traceback" not in said
    assert cli.main(["doctor"]) == 1
    assert "MEND state folder" in capfd.readouterr().out


def test_what_the_system_refuses_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "outbox"))
    told = in_words(ExceptionGroup("tasks", [ValueError(), full]))
    assert told is not None and "make room" in told.fix and "MESHWIRE_STATE" in told.fix
    nameless = in_words(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert nameless is not None and nameless.evidence == "No space left on device"
    wrapped = RuntimeError("our own words")
    wrapped.__cause__ = sqlite3.OperationalError("database or disk is full")
    told = in_words(wrapped)
    assert told is not None and told.code == "MW-GEN-003" and "disk is full" in told.evidence
    assert in_words(ValueError("a defect")) is None
    assert in_words(ConnectionRefusedError(errno.ECONNREFUSED, "no file")) is None


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "octets" / "x"))
    monkeypatch.setenv("MESHWIRE_LOG_LEVEL", "error")
    (tmp_path / "octets").touch()
    with pytest.raises(OSError):
        cli.main(["-v", "user", "list"])


def test_a_section_from_the_environment_is_known_too() -> None:
    with pytest.raises(ConfigError, match=r"brokker \(perhaps broker\)"):
        load_config(None, {"MESHWIRE__BROKKER__PORT": "1"})
    with pytest.raises(ConfigError, match="has to be given"):
        read_settings(NicSettings, "nic", {})
