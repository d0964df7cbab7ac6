"""A board on a pty that is pulled out and put in again, hundreds of times, while requests and notifications run.

Pulling out is closing the pty's master: the NIC's side reads EIO, as from a USB adapter that is gone; the symlink goes
and comes back. The NIC is a whole one with a gateway on UDP; its port is opened by name, like any port.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from descriptors import open_descriptors, opened_since

from hardware.ports import open_port
from meshwire import link as link_module
from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, Message, decode, encode
from meshwire.coap.options import URI_PATH, URI_QUERY
from meshwire.link import LinkState
from meshwire.notification import Notification, parse_uplink
from meshwire.pipe import Pipe
from meshwire.pipe.pty import open_pty
from nic_sim.errors import BoardError
from nic_sim.nic import Nic
from nic_sim.settings import NicSettings
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

GET_TEMPERATURE = Message(CON, codes.GET, 0, b"", ((URI_PATH, b"arduino"), (URI_PATH, b"temp"), (URI_QUERY, b"sens")))


class Gateway(asyncio.DatagramProtocol):
    """Takes everything; keeps notifications."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        request = decode(data)
        if not codes.is_request(request.code):
            return
        if request.path()[0] == "bubble-up":
            self.notifications.append(parse_uplink(request.path(), request.query(), request.uint(12), request.payload))
        assert self.transport is not None
        self.transport.sendto(encode(Message(ACK, codes.CHANGED, request.mid, request.token)), address)


class Socket:
    """Where the board is plugged in: its end of a pty that is made anew with each plugging.

    Args:
        link: symlink by which the NIC knows the port.
    """

    def __init__(self, link: Path) -> None:
        self._link = str(link)
        self._plugged = asyncio.Event()
        self._pipe: Pipe | None = None

    async def open(self) -> Pipe:
        while not self._plugged.is_set():  # it may have been pulled out again before this wakes
            await self._plugged.wait()
        self._pipe = open_pty(self._link)
        return self._pipe

    def plug_in(self) -> None:
        self._plugged.set()

    async def pull_out(self) -> None:
        self._plugged.clear()
        if self._pipe is not None:
            await self._pipe.aclose()


@dataclass
class Load:
    """Requests that never stop."""

    nic: Nic
    outcomes: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        while True:
            try:
                response = await self.nic.client.request(GET_TEMPERATURE)
                self.outcomes[codes.code_text(response.code)] += 1
            except BoardError as error:
                self.outcomes[error.code] += 1
                await asyncio.sleep(0.002)


@asynccontextmanager
async def at_work(folder: Path, profile: str) -> AsyncIterator[tuple[Nic, Socket, Gateway, Load]]:
    loop = asyncio.get_running_loop()
    transport, gateway = await loop.create_datagram_endpoint(Gateway, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    plug = Socket(folder / "board")
    board = SensorBoard(profile, [SensorSpec("temp", "20", 0.05)], plug.open)
    settings = NicSettings.model_validate(
        {
            "mac": "001350050047dd92",
            "gateway": f"coap://127.0.0.1:{port}",
            "listen": "127.0.0.1:0",
            "observe": ("snsr/arduino/temp",),
            "profile": profile,
            "poll_s": 0.05,
            "state_dir": folder / "nic",
        }
    )
    nic = Nic(settings, lambda: open_port(str(folder / "board")))
    load = Load(nic)
    tasks = [asyncio.create_task(work) for work in (board.run(), nic.run())]
    await nic.ready.wait()
    tasks += [asyncio.create_task(load.run()) for _ in range(3)]
    try:
        yield nic, plug, gateway, load
        assert not any(task.done() for task in tasks), "something ended"
    finally:
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        transport.close()
        await asyncio.sleep(0)


async def until(condition: Any, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - conditions are about anything
            await asyncio.sleep(0.005)


async def data_flow(gateway: Gateway, load: Load) -> None:
    """Wait for new notifications and for an answer."""
    heard, answered = len(gateway.notifications), load.outcomes["2.05"]
    await until(lambda: len(gateway.notifications) > heard + 1 and load.outcomes["2.05"] > answered, 60)


@pytest.mark.parametrize(
    ("cycles", "look_every"), [(60, 20), pytest.param(1000, 50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
async def test_no_descriptor_leaks_and_nothing_is_stuck(
    cycles: int, look_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(link_module, "LONGEST_RETRY_S", 0.05)
    chance = random.Random(5)
    async with at_work(tmp_path, "standard") as (nic, plug, gateway, load):
        before = open_descriptors()
        plug.plug_in()
        await until(lambda: gateway.notifications, 60)
        tasks = len(asyncio.all_tasks())
        for cycle in range(cycles):
            await plug.pull_out()
            await until(lambda: nic.line.status.state is LinkState.OPENING, 30)
            await asyncio.sleep(chance.uniform(0, 0.02))
            plug.plug_in()
            if cycle % look_every == look_every - 1:
                await data_flow(gateway, load)
            else:  # most are cut short in the middle of the hand-shake or of registering
                await asyncio.sleep(chance.uniform(0, 0.15))
        assert nic.line.status.state is LinkState.UP
        assert nic.line.status.counters.pipe_losses >= cycles * 0.5
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 2, 60)
        keys = [(item.epoch, item.observe) for item in gateway.notifications]
        assert len(set(keys)) == len(keys), "a notification came twice"
        assert set(load.outcomes) <= {"2.05", "MW-NIC-011", "MW-NIC-012", "MW-NIC-013"}, load.outcomes
        assert nic.manager.table.all()[0].state.value == "active"
        await plug.pull_out()
        await until(lambda: not opened_since(before), 60)
