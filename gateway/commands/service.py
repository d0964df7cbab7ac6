"""The commands, put together: store, queue, desk, delivery, and the ways in. This is the package's assembly file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.bodies import Devices
from gateway.commands.coap_intake import CoapIntake
from gateway.commands.delivery import Delivery
from gateway.commands.desk import CommandDesk
from gateway.commands.errors import CommandStoreError
from gateway.commands.mqtt_channel import CommandChannel
from gateway.commands.queue import CommandQueue, Limits
from gateway.commands.store import CommandStore
from gateway.mqtt import Login
from gateway.presence import PresenceState, presence_of
from gateway.registry import Registry
from gateway.settings import GatewaySettings
from gateway.statistics import Statistics
from meshwire.identity import DeviceId

__all__ = ["CommandService"]

PRUNE_EVERY_S: Final = 60.0

_log = structlog.get_logger(__name__)


class CommandService:
    """See the module's text.

    Args:
        settings: of the gateway.
        path: the commands' database.
        registry: whose device is whose, and where.
        statistics: counted here.
        login: towards the broker; None: commands neither come nor are told by MQTT.
        now_s: Unix time.
        is_reachable: whether a device can be reached now; default: by its last sign of life.

    Raises:
        CommandStoreError: the database can't be opened.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        path: Path,
        registry: Registry,
        statistics: Statistics,
        login: Login | None,
        now_s: Callable[[], float] = time.time,
        is_reachable: Callable[[DeviceId], bool] | None = None,
    ) -> None:
        bounds = settings.commands
        self.store = CommandStore(path)
        self.queue = CommandQueue(Limits(bounds.max_waiting, bounds.max_waiting_per_device))
        self._keep_s = bounds.keep_s
        self._now_s = now_s

        def is_online(mac: DeviceId) -> bool:
            device = registry.device(mac)
            if device is None:
                return False
            return presence_of(registry, settings.presence, device, now_s()) is PresenceState.ONLINE

        is_present = is_reachable or is_online
        self.desk = CommandDesk(self.queue, self.store, registry, is_present, settings, statistics, now_s)
        self.coap = CoapIntake(self.desk)
        self.delivery = Delivery(
            self.queue, self.desk.record, registry, is_present, timeout_s=settings.proxy.timeout_s, now_s=now_s
        )
        self.desk.on_change.append(self.delivery.wake)
        self.channel = None if login is None else CommandChannel(self.desk, self.store, login, statistics, now_s)
        if self.channel is not None:
            self.desk.on_change.append(self.channel.wake)

    def deliver_by(self, devices: Devices, changing: Callable[[DeviceId], None]) -> None:
        """Say who sends, and who is told when a device's state is about to change and has changed; before `run`."""
        self.delivery.use(devices, changing)

    async def open(self) -> None:
        """Take up what an earlier run left; must be awaited before the first order."""
        self.queue.start_ranks_at(await self.store.last_rank())
        left = await self.store.unfinished()
        changes = self.queue.restore(left, self._now_s())
        if left:
            ended = sum(change.command.is_final for change in changes)
            _log.info("commands of an earlier run", waiting=len(self.queue), ended=ended)
        await self.desk.record(changes)

    async def run(self) -> None:
        """Deliver, listen and tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.delivery.run(), name="commands' delivery")
            tasks.create_task(self._forget_old_ones(), name="old commands")
            if self.channel is not None:
                tasks.create_task(self.channel.run(), name="commands by mqtt")

    async def close(self) -> None:
        """Let go of the database."""
        await self.store.close()

    async def _forget_old_ones(self) -> None:
        while True:
            try:
                while await self.store.prune(self._now_s() - self._keep_s):
                    pass
            except CommandStoreError as error:
                _log.warning("old commands can't be forgotten", error=str(error))
            await asyncio.sleep(PRUNE_EVERY_S)
