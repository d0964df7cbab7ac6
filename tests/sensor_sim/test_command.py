"""`python -m sensor_sim` as a process of its own, over real pseudo-terminals."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE_S

SNRM = bytes.fromhex("7ea0070303938c117e")
DISC = bytes.fromhex("7ea00703035380d77e")
UA = bytes.fromhex("7ea00703037382f67e")
MILLI_UA = bytes.fromhex("7ea020030373f02e818014050200ff060200ff070400000001080400000001 36197e")


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sensor_sim", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def announced(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    assert ready, "nothing on stdout"
    line = json.loads(process.stdout.readline())
    assert list(line) == ["pty"]
    return str(line["pty"])


def ask(path: str, octets: bytes, length: int) -> bytes:
    """Write octets and read until `length` octets came, with patience."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(descriptor)
        os.write(descriptor, octets)
        answer, end = b"", time.monotonic() + PATIENCE_S
        while len(answer) < length and (left := end - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0]:
                answer += os.read(descriptor, 4096)
        return answer
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_milli_board_on_a_symlinked_pty(tmp_path: Path, stop: signal.Signals, code: int) -> None:
    link = tmp_path / "board"
    with command("--port", f"pty:{link}", "--sensor", "temp=22.5", "--sensor", "echo@0") as process:
        path = announced(process)
        assert str(link.readlink()) == path
        start = time.monotonic()
        assert ask(path, SNRM, len(MILLI_UA)) == MILLI_UA
        assert time.monotonic() - start >= 0.4, "the quiet time before an answer"
        assert ask(str(link), DISC, len(UA)) == UA
        process.send_signal(stop)
        assert process.wait(timeout=PATIENCE_S) == code
        assert not link.is_symlink()


def test_a_standard_board_answers_at_once() -> None:
    with command("--port", "pty", "--profile", "standard") as process:
        path = announced(process)
        answer = ask(path, SNRM, 9)
        assert answer[0] == 0x7E and answer[5] == 0x73, "UA"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "pty", "--sensor", "pressure"], "MW-SNS-001"),
        (["--port", "pty", "--profile", "milli-2"], "MW-SNS-001"),
        (["--port", "pty:/nowhere/at/all"], "MW-SER-008"),
    ],
)
def test_mistakes_end_with_a_code_and_a_hint(arguments: list[str], words: str) -> None:
    with command(*arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert out == b"" and b"Traceback" not in err
        assert words in err.decode() and "do:" in err.decode()
        assert process.returncode in (2, 4)
