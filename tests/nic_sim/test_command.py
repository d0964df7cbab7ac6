"""`meshwire nic`, as a person starts it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from meshwire.cli import main

MAC = "001350050047dd92"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """The command sends its log to a stream that pytest closes after the test."""
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--mac", "zz", "--serial", "x"], 3, "is no device"),
        (["--serial", "x"], 3, "nic.mac"),
        (["--mac", MAC], 3, "MW-NIC-003"),
        (["--mac", MAC, "--serial", "x", "--observe", "arduino/temp"], 3, "no outward path"),
        (["--mac", MAC, "--serial", "x", "--gateway", "http://x"], 3, "coap://HOST"),
        (["--mac", MAC, "--serial", "x", "--profile", "other"], 2, "profile"),
        (["--mac", MAC, "--serial", "x", "--config", "/nonexistent.toml"], 3, "MW-CFG-001"),
    ],
)
def test_mistakes_are_said_with_an_exit_code(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nic", *arguments]) == code
    captured = capsys.readouterr()
    assert words in captured.err + captured.out
    assert "Traceback" not in captured.err


def test_says_each_change_of_state_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    environment = os.environ | {"MESHWIRE_STATE": str(tmp_path), "MESHWIRE_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "nic_sim", "--mac", MAC, "--serial", "sim://standard?sensor=temp"]
    command += ["--listen", "127.0.0.1:0", "--gateway", "coap://127.0.0.1:1", "--observe", "snsr/arduino/temp"]
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        watchdog = threading.Timer(100, process.kill)
        watchdog.start()
        for line in process.stderr:
            said.append(line)
            if "first reading" in line:
                break
        process.send_signal(signal.SIGINT)
        said += process.stderr.readlines()
        assert process.stdout.read() == "", "stdout is for data"
        watchdog.cancel()
    assert process.returncode == 130, "".join(said)
    text = "".join(said)
    for words in ("nic listens", "port opened", "link up", "time set", "observe established", "Connection refused"):
        assert words in text
    assert "Traceback" not in text
    assert (tmp_path / "nic" / MAC / "observations.json").exists()
