"""Ports for engines that are told theirs: each is given once, also to processes that ask at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker.adapters import free_ports as module
from broker.adapters.free_ports import free_ports

SCRIPT = """
import sys
from broker.adapters import free_ports as module
module.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
module._is_free = lambda port, kind: True
print(*module.free_ports(20), flush=True)
sys.stdin.read()
"""


def test_processes_that_ask_together_get_different_ones_until_they_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sixty of sixty: nothing is left to chance."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", SCRIPT, "40000", "40060"]
    askers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    given: list[int] = []
    for asker in askers:
        assert asker.stdout is not None
        given += [int(word) for word in asker.stdout.readline().split()]
    assert sorted(given) == list(range(40_000, 40_060))
    for asker in askers:
        asker.communicate()
    again = subprocess.run(command, input="", capture_output=True, text=True)
    assert len(again.stdout.split()) == 20


def test_none_is_given_twice_and_the_last_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PORTS", range(62_000, 62_020))
    monkeypatch.setattr(module, "_CLAIMS", module._Claims())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # to close a file gives up all locks on it
    monkeypatch.setattr(module, "_is_free", lambda port, kind: True)
    given = [*free_ports(5), *free_ports(15)]
    assert sorted(given) == list(range(62_000, 62_020))
    with pytest.raises(OSError, match="none of the ports 62000 to 62019 is free"):
        free_ports(1)


def test_one_that_is_bound_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PORTS", range(62_020, 62_022))
    monkeypatch.setattr(module, "_CLAIMS", module._Claims())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # to close a file gives up all locks on it
    monkeypatch.setattr(module, "_is_free", lambda port, kind: port != 62_020)
    assert free_ports(1) == [62_021]
