"""Nic: the parts of one NIC put together, one TaskGroup, and what its own resources show of them."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from meshwire.hdlc.primary import PrimaryStation
from meshwire.link import Link
from meshwire.notification import Notification
from meshwire.pipe import Pipe
from nic_sim.board import BoardClient
from nic_sim.endpoint import open_context
from nic_sim.forward import Forwarder
from nic_sim.gateway_channel import CoapGatewayChannel
from nic_sim.instruments import Instruments
from nic_sim.observation import Observation, ObservationRow
from nic_sim.observation_store import ObservationStore
from nic_sim.observations import ObservationTable
from nic_sim.observe_manager import ObserveManager
from nic_sim.relations import RelationTable
from nic_sim.resources import board_links, build_resources
from nic_sim.server import NicSite
from nic_sim.settings import NicSettings
from nic_sim.uplink import Uplink
from nic_sim.uplink_queue import UplinkQueue

__all__ = ["Nic"]

OBSERVATIONS_FILE: Final = "observations.json"
UPLINK_FILE: Final = "uplink.journal"
INSTALLED_BEFORE_S: Final = 400 * 86_400
"""The simulated battery was new so long before the process started."""

_log = structlog.get_logger(__name__)


class Nic:
    """One NIC on one board.

    Args:
        settings: validated.
        open_pipe: opens the serial port; called again after each loss.
        unix_time: Unix seconds.
    """

    def __init__(
        self,
        settings: NicSettings,
        open_pipe: Callable[[], Awaitable[Pipe]],
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.device = settings.device
        self.ready = asyncio.Event()
        """Set when the CoAP server listens."""
        self.unix_time = unix_time
        self.coap_counters: Counter[str] = Counter()
        self.relations = RelationTable()
        self.instruments = Instruments(f"{settings.seed or 0}/{settings.mac}", unix_time() - INSTALLED_BEFORE_S)
        self._address: tuple[str, int] | None = None
        profile, folder = settings.board, settings.state_folder
        self.station = PrimaryStation(profile.link)
        self.link = Link(open_pipe, self.station, name=settings.mac)
        self.client = BoardClient(self.link, profile, seed=settings.seed)
        table = ObservationTable(
            time_sync_s=settings.time_sync_s,
            board_wide_sequence=profile.board_wide_sequence,
            chance=random.Random(settings.seed),
        )
        self.queue = UplinkQueue(folder / UPLINK_FILE, settings.uplink_queue, self.device)
        self._uplink: Uplink | None = None
        self.manager = ObserveManager(
            self.device,
            self.client,
            table,
            ObservationStore(folder / OBSERVATIONS_FILE),
            self._deliver,
            unix_time=unix_time,
        )

    @property
    def coap_address(self) -> tuple[str, int]:
        """Where the CoAP server listens, once `ready` is set."""
        if self._address is None:
            raise RuntimeError("the NIC is not ready yet")
        return self._address

    async def run(self) -> None:
        """Be a NIC, until cancelled.

        Raises:
            NicError: the CoAP server can't listen.
        """
        settings = self.settings
        context, endpoint = await open_context(settings.listen_address, self.coap_counters, self.relations)
        try:
            self._address = (settings.listen_address.host, endpoint.port)
            resources = build_resources(self)
            forwarder = Forwarder(self.client, self.manager, self.relations)
            site: Any = NicSite(self.device, resources, forwarder, self.coap_counters)
            context.serversite = site
            for entry in settings.observe:
                self.manager.configure(entry.path, entry.query, entry.delivery or settings.delivery)
            self._uplink = Uplink(
                self.device,
                self.queue,
                CoapGatewayChannel(context, settings.gateway_address),
                register_s=settings.register_s,
                links=lambda: board_links(self),
            )
            _log.info("nic listens", mac=settings.mac, address=settings.listen_address.host, port=endpoint.port)
            self.ready.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.client.run(), name="board client")
                tasks.create_task(self.manager.run(), name="observe manager")
                tasks.create_task(self._uplink.run(), name="uplink")
                tasks.create_task(self.link.run(), name="serial link")
        finally:
            self.ready.clear()
            self.queue.close()
            await context.shutdown()

    def _deliver(self, notification: Notification) -> None:
        if self._uplink is not None:
            self._uplink.deliver(notification)
        else:
            self.queue.put(notification)

    # ---- what the resources show and do (resources.NicView)

    def rows(self) -> list[ObservationRow]:
        return self.manager.table.rows(asyncio.get_running_loop().time())

    def observations(self, path: str | None) -> list[Observation]:
        return [item for item in self.manager.table.all() if path is None or item.path == path]

    def renew(self, items: list[Observation]) -> None:
        self.manager.renew(items)

    def cancel(self, items: list[Observation]) -> None:
        self.manager.cancel(items)

    def reboot_seen(self) -> None:
        self.manager.board_rebooted()

    def link_report(self) -> Mapping[str, object]:
        status = self.link.status
        return {
            "profile": self.settings.profile.value,
            "state": status.state.value,
            "since_s": round(status.since_s, 3),
            "last_error": status.last_error,
            "pipe": dataclasses.asdict(status.counters),
            "hdlc": dataclasses.asdict(self.station.counters),
        }

    def uplink_report(self) -> Mapping[str, object]:
        uplink = self._uplink
        return {
            "gateway": self.settings.gateway,
            "reachable": uplink.reachable if uplink else None,
            "last_failure": uplink.last_failure if uplink else "",
            "queued": len(self.queue),
            "limit": self.queue.limit,
            "queue": self.queue.counters,
            "counters": uplink.counters if uplink else {},
        }

    def coap_report(self) -> Mapping[str, object]:
        return {
            "server": self.coap_counters,
            "board": self.client.counters,
            "notifications": self.manager.counters,
            "relations": len(self.relations),
            "relations_ended": self.relations.ended,
        }
