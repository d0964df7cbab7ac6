"""Edges of a modem-control input become calls; ports without such inputs do without."""

from __future__ import annotations

import asyncio
import os

import pytest

from hardware import wake_line
from hardware.ports import open_port, peer_path
from hardware.wake_line import WakeInput, WakeLine, edge_counter


class Edges:
    def __init__(self) -> None:
        self.count = 7
        self.gone = False

    def __call__(self) -> int:
        if self.gone:
            raise OSError(5, "gone")
        return self.count


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake_line, "LOOK_EVERY_S", 0.0)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("quick")
class TestWakeLine:
    async def test_edges_since_the_last_look_are_one_call(self) -> None:
        edges, calls = Edges(), []
        line = WakeLine(edges, lambda: calls.append(edges.count))
        await turns()
        assert calls == []
        edges.count += 2
        await turns()
        assert calls == [9]
        line.close()
        edges.count += 2
        await turns()
        assert calls == [9]

    async def test_a_port_that_is_gone_is_not_looked_at_any_more(self) -> None:
        edges, calls = Edges(), []
        line = WakeLine(edges, lambda: calls.append(1))
        edges.gone = True
        await turns()
        edges.gone = False
        edges.count += 1
        await turns()
        assert calls == []
        line.close()

    async def test_it_may_be_closed_by_what_it_calls(self) -> None:
        edges, calls = Edges(), []

        def attend() -> None:
            calls.append(1)
            line.close()

        line = WakeLine(edges, attend)
        for _ in range(3):
            edges.count += 1
            await turns()
        assert calls == [1]


class TestEdgeCounter:
    def test_a_port_without_counters_has_no_wake_line(self) -> None:
        master, slave = os.openpty()
        assert edge_counter(slave, WakeInput.CTS) is None
        assert edge_counter(slave, WakeInput.NONE) is None
        os.close(master)
        os.close(slave)

    @pytest.mark.parametrize(("wake", "expected"), [("cts", 1), ("dsr", 2), ("ri", 3), ("cd", 4)])
    def test_each_input_has_its_own_counter(self, wake: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
        import fcntl

        counters = b"".join(number.to_bytes(4, "little") for number in range(1, 21))
        monkeypatch.setattr(fcntl, "ioctl", lambda fd, request, argument: counters[: len(argument)])
        edges = edge_counter(0, WakeInput(wake))
        assert edges is not None and edges() == expected

    async def test_a_port_with_no_such_input_opens_all_the_same(self) -> None:
        board = await open_port("pty")
        nic = await open_port(peer_path(board) or "", wake=WakeInput.CTS)
        nic.write(b"x")
        assert await board.read() == b"x"
        await nic.aclose()
        await board.aclose()
