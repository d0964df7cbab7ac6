"""What a service tells systemd: readiness, signs of life, the end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_S

from meshwire.systemd import Systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE_S)
        yield listener


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


async def test_ready_alive_and_stopping_are_told_in_this_order(manager: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000"})
    assert systemd.watchdog_s == 0.03
    ready = asyncio.Event()
    task = asyncio.create_task(systemd.run(ready, "serving"))
    await asyncio.sleep(0)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(10)
    manager.settimeout(PATIENCE_S)
    ready.set()
    assert await asyncio.to_thread(heard, manager) == "READY=1\nSTATUS=serving"
    assert await asyncio.to_thread(heard, manager) == "WATCHDOG=1"
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    told = await asyncio.to_thread(heard, manager)
    while told == "WATCHDOG=1":
        told = await asyncio.to_thread(heard, manager)
    assert told == "STOPPING=1"


def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"meshwire-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(PATIENCE_S)
        assert Systemd({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert heard(listener) == "READY=1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1000000"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000"}, 1.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, None),
    ],
)
def test_who_is_watched(environment: dict[str, str], watchdog_s: float | None) -> None:
    systemd = Systemd(environment)
    assert systemd.watchdog_s == watchdog_s
    assert systemd.tell("READY=1") is False, "nobody hears it, and nothing fails"
