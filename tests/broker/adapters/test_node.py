"""A node keeps to itself: whatever it writes goes to its own folder."""

import subprocess
from pathlib import Path

import pytest

from broker.adapters.rabbitmq.node import LaunchedNode


@pytest.mark.server
def test_the_dump_of_a_crash_is_in_the_nodes_folder(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    node = LaunchedNode("n1@localhost", tmp_path / "node", 1, 2, 3)
    node.folder.mkdir()
    crash = ["erl", "-noshell", "-eval", 'erlang:halt("on purpose").']
    subprocess.run(crash, cwd=elsewhere, env=node.environment(4, tmp_path), capture_output=True, check=False)
    assert "on purpose" in (node.folder / "erl_crash.dump").read_text()
    assert not list(elsewhere.iterdir())
