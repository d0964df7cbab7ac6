"""A person at a terminal: prompt, completion by the tab key, the live view above the prompt, the end."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE_S

PROGRAM = "import sys; from hardware.shell.cli import app; app(args=sys.argv[1:])"


def read_until(terminal: int, words: bytes, seconds: float = PATIENCE_S) -> bytes:
    """What the terminal shows up to some words; fails when they do not come."""
    shown = b""
    ends = time.monotonic() + seconds
    while words not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, ends - time.monotonic()))
        assert ready, f"{words!r} did not come: {shown!r}"
        shown += os.read(terminal, 4096)
    return shown


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pty")
def test_a_session_at_a_terminal(tmp_path: Path) -> None:
    environment = os.environ | {"MESHWIRE_STATE": str(tmp_path), "TERM": "xterm"}
    arguments = [sys.executable, "-c", PROGRAM, "sim://standard"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, arguments, environment)
    try:
        read_until(terminal, b"link-format")
        os.write(terminal, b"ge\t/sys/t\t\n")
        read_until(terminal, b"2.05 /sys/time")
        os.write(terminal, b"quit\n")
        read_until(terminal, b"DISC")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    assert "get /sys/time" in (tmp_path / "link_history").read_text()
