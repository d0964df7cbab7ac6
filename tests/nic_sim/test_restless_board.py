"""A board that never comes to rest is told once, with what to do: mostly `--profile` is for another kind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from meshwire.identity import DeviceId
from nic_sim.observation_store import ObservationStore
from nic_sim.observe_manager import REBOOTS, REBOOTS_WITHIN_S, ObserveManager


def made(folder: Path) -> tuple[ObserveManager, Any]:
    client: Any = SimpleNamespace()
    table: Any = SimpleNamespace(board_rebooted=lambda now: None)
    store = ObservationStore(folder / "observations")
    return ObserveManager(DeviceId("0013500500470001"), client, table, store, lambda notification: None), client


@pytest.mark.parametrize(
    ("every_s", "reboots", "told"),
    [
        (3.0, REBOOTS - 1, 0),
        (3.0, REBOOTS, 1),
        (3.0, 5 * REBOOTS, 1),
        (REBOOTS_WITHIN_S, 5 * REBOOTS, 0),
    ],
)
def test_reboots(every_s: float, reboots: int, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, client = made(tmp_path)
    now = [0.0]
    monkeypatch.setattr(manager, "_now", lambda: now[0])
    with structlog.testing.capture_logs() as said:
        for _ in range(reboots):
            now[0] += every_s
            client.listener.board_rebooted()
    warnings = [line for line in said if line["log_level"] == "warning"]
    assert len(warnings) == told
    assert all(line["code"] == "MW-NIC-021" and "--profile" in line["do"] and line["mac"] for line in warnings)


def test_a_board_that_rested_meanwhile_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = SimpleNamespace()
    table: Any = SimpleNamespace(board_rebooted=lambda now: None)
    manager = ObserveManager(
        DeviceId("0013500500470001"), client, table, ObservationStore(tmp_path / "observations"), lambda n: None
    )
    times = [*range(REBOOTS), 1000.0, *(2000.0 + each for each in range(REBOOTS))]
    with structlog.testing.capture_logs() as said:
        for time in times:
            monkeypatch.setattr(manager, "_now", lambda time=time: time)
            client.listener.board_rebooted()
    assert len([line for line in said if line["log_level"] == "warning"]) == 2
