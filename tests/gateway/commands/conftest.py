"""A whole command service on a made-up clock, that may be killed and started again on the same database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from command_parts import ACME, FOREIGN_MAC, MAC, OTHER, Clock, ScriptedDevices
from patience import PATIENCE_S

from gateway.addresses import Address
from gateway.commands.service import CommandService
from gateway.registry import Registry
from gateway.settings import CommandSettings, GatewaySettings
from gateway.statistics import Statistics
from meshwire.identity import DeviceId


class Bench:
    """The service and everything around it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.devices = ScriptedDevices(self.clock)
        self.registry = Registry(None)
        self.registry.add_device(MAC, ACME)
        self.registry.add_device(FOREIGN_MAC, OTHER)
        self.settings = GatewaySettings(commands=CommandSettings(**settings))
        self.path = folder / "commands.db"
        self.service: CommandService
        self.statistics = Statistics()

    async def start(self) -> None:
        self.service = CommandService(self.settings, self.path, self.registry, self.statistics, None, now_s=self.clock)
        self.service.deliver_by(self.devices, lambda mac: None)
        await self.service.open()

    async def kill(self) -> None:
        """What is not on disk at this moment is lost; what is under way is never heard of again."""
        store, delivery = self.service.store, self.service.delivery
        store._gathered = []
        for task in list(delivery._serving.values()):
            task.cancel()
        await delivery.settle()
        store._gathered = []
        await store.close()

    def appear(self, mac: DeviceId = MAC) -> None:
        """The device is there, and says so."""
        self.devices.there.add(self.address(mac))
        self.registry.registered(mac, self.address(mac), self.clock(), 60.0)

    def vanish(self, mac: DeviceId = MAC) -> None:
        """The device goes without a word."""
        self.devices.there.discard(self.address(mac))

    @staticmethod
    def address(mac: DeviceId) -> Address:
        return Address("fd00::" + mac.value[-4:].lstrip("0"), 4849)

    async def round(self) -> None:
        """One look of the delivery, and all that follows from it; what hangs goes on hanging."""
        self.service.delivery.round()
        await self.calm()

    async def calm(self) -> None:
        hanging = self.devices.hanging
        async with asyncio.timeout(PATIENCE_S):
            while len(self.service.delivery._serving) > hanging or self.service.store._writing is not None:
                await asyncio.sleep(0.0005)
                hanging = self.devices.hanging


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.start()
    yield bench
    await bench.kill()


@pytest.fixture
def make_bench(tmp_path: Path) -> Any:
    return lambda **settings: Bench(tmp_path, **settings)
