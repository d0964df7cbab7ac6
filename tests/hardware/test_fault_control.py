"""A bad line is changed from outside while it is open, and stays so when its port is opened again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from hardware import fault_control
from hardware.fault_control import ControlledPipe
from hardware.ports import open_port, peer_path
from meshwire.cli import main
from meshwire.pipe import Pipe


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MESHWIRE_RUN", str(tmp_path / "run"))
    fault_control._changed.clear()
    yield
    fault_control._changed.clear()


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[tuple[Pipe, Pipe]]:
    """Both ends; the near one is bad."""
    near = await open_port(f"fault+pty:{tmp_path}/board?drop=1")
    path = peer_path(near)
    assert path is not None
    far = await open_port(path)
    yield near, far
    await far.aclose()
    await near.aclose()


async def fault(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["fault", *arguments])


async def test_faults_end_and_begin_while_the_line_is_open(
    line: tuple[Pipe, Pipe], capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = line
    near.write(b"lost")
    assert await fault("board", "drop=0", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["port"].endswith("/board")
    assert (shown["faults"], shown["out"]["dropped"]) == ({}, 4)
    near.write(b"kept")
    assert await asyncio.wait_for(far.read(), PATIENCE_S) == b"kept"
    assert await fault("all", "cut=out") == 0
    near.write(b"gone")
    far.write(b"heard")
    assert await asyncio.wait_for(near.read(), PATIENCE_S) == b"heard"
    assert await fault("all", "--clear", "dup=1") == 0
    near.write(b"x")
    assert await asyncio.wait_for(far.read(), PATIENCE_S) == b"xx"
    assert await fault("all", "--reset") == 0
    assert await fault() == 0
    out = capsys.readouterr().out.splitlines()
    assert "\tdrop=1.0\t" in out[-1]


async def test_a_stall_holds_back_and_loses_nothing(line: tuple[Pipe, Pipe]) -> None:
    near, far = line
    began = asyncio.get_running_loop().time()
    assert await fault("board", "--clear", "--stall", "0.2") == 0
    near.write(b"late")
    assert await asyncio.wait_for(far.read(), PATIENCE_S) == b"late"
    assert asyncio.get_running_loop().time() - began >= 0.19


async def test_a_change_outlives_the_loss_of_the_port(tmp_path: Path) -> None:
    uri = f"fault+pty:{tmp_path}/board?drop=1"
    first = await open_port(uri)
    assert await fault("board", "drop=0", "delay_ms=5") == 0
    await first.aclose()
    again = await open_port(uri)
    assert isinstance(again, ControlledPipe)
    assert (again.plan.drop, again.plan.delay_s) == (0.0, 0.005)
    await again.aclose()


async def test_a_line_that_is_not_there_is_said(line: tuple[Pipe, Pipe], capsys: pytest.CaptureFixture[str]) -> None:
    assert await fault("/dev/ttyUSB7", "drop=0") == 4
    assert "/board (pid " in capsys.readouterr().err


@pytest.mark.parametrize("change", ["drop=2", "drop", "nothing=1", "delay_ms=x", "cut=left", "stall_s=-1"])
async def test_a_change_that_cannot_be_is_refused_before_anybody_is_asked(
    change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await fault("all", change) == 2
    assert "MW-SER-009" in capsys.readouterr().err


async def test_without_any_line_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert await fault() == 0
    assert "no bad lines" in capsys.readouterr().err
    assert await fault("all", "drop=0") == 4
