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
from structlog.contextvars import bound_contextvars

from meshwire.link_stats import LinkStats, link_stats
from meshwire.mesh_place import MeshPlace
from meshwire.notification import Notification
from meshwire.pipe import Pipe
from nic_sim.board import BoardClient
from nic_sim.board_line import BoardLine, OpenPipe
from nic_sim.board_profile import ProfileName
from nic_sim.endpoint import open_context
from nic_sim.forward import Forwarder
from nic_sim.frame_watch import FrameWatch
from nic_sim.gateway_channel import CoapGatewayChannel
from nic_sim.instruments import Instruments
from nic_sim.metrics import MetricsServer, link_metrics
from nic_sim.observation import Observation, ObservationRow
from nic_sim.observation_store import ObservationStore
from nic_sim.observations import ObservationTable
from nic_sim.observe_manager import ObserveManager
from nic_sim.oscore_site import OscoreSite
from nic_sim.oscore_state import open_context as open_oscore
from nic_sim.relations import RelationTable
from nic_sim.resources import board_links, build_resources
from nic_sim.server import NicSite
from nic_sim.settings import NicSettings
from nic_sim.silence_alarm import SilenceAlarm
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
        self._told_before = 0  # notifications of boards that were replaced
        profile, folder = settings.board, settings.state_folder
        self.line = BoardLine(open_pipe, profile, name=settings.mac)
        self.watch = FrameWatch(self.line, unix_time)
        self.client = BoardClient(self.line, profile, seed=settings.seed)
        self.alarm = SilenceAlarm(
            self.device,
            self.line,
            self._deliver,
            silent_after_s=settings.silent_after_s,
            reset_after_s=settings.reset_after_s,
            reset_action=settings.reset_action,
            unix_time=unix_time,
        )
        address = settings.metrics_address
        self.metrics_server = None if address is None else MetricsServer(address, self.metrics)
        table = ObservationTable(
            time_sync_s=settings.time_sync_s,
            board_wide_sequence=profile.board_wide_sequence,
            chance=random.Random(settings.seed),
        )
        self.queue = UplinkQueue(folder / UPLINK_FILE, settings.uplink_queue, self.device)
        self._uplink: Uplink | None = None
        key_file = settings.oscore_key_file
        self._oscore = None if key_file is None else open_oscore(key_file, self.device, folder)
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
        """Be a NIC, until cancelled. Whatever is logged meanwhile, by its serial line and its stores too, names it.

        Raises:
            NicError: the CoAP server can't listen.
        """
        with bound_contextvars(mac=self.device.value):
            await self._run()

    async def _run(self) -> None:
        settings = self.settings
        context, endpoint = await open_context(settings.listen_address, self.coap_counters, self.relations)
        try:
            self._address = (settings.listen_address.host, endpoint.port)
            resources = build_resources(self)
            forwarder = Forwarder(self.client, self.manager, self.relations)
            site: Any = NicSite(self.device, resources, forwarder, self.coap_counters)
            if self._oscore is not None:
                site = OscoreSite(self.device, self._oscore, site, self.coap_counters)
            context.serversite = site
            for entry in settings.observe:
                self.manager.configure(entry.path, entry.query, entry.delivery or settings.delivery)
            self._uplink = Uplink(
                self.device,
                self.queue,
                CoapGatewayChannel(context, settings.gateway_address, self._oscore),
                register_s=settings.register_s,
                links=lambda: board_links(self),
                place=self._place,
            )
            _log.info("nic listens", mac=settings.mac, address=settings.listen_address.host, port=endpoint.port)
            self.ready.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.client.run(), name="board client")
                tasks.create_task(self.manager.run(), name="observe manager")
                tasks.create_task(self._uplink.run(), name="uplink")
                tasks.create_task(self.line.run(), name="serial link")
                tasks.create_task(self.alarm.run(), name="silent-link alarm")
                if self.metrics_server is not None:
                    tasks.create_task(self.metrics_server.run(), name="metrics page")
        finally:
            self.ready.clear()
            self.watch.end()
            self.queue.close()
            await context.shutdown()

    async def replace_board(
        self, port: str, open_pipe: OpenPipe, profile: ProfileName | None = None, *, poll_s: float | None = None
    ) -> None:
        """Go on with another board, or the same one on another port, without a pause for anybody else.

        Requests in flight end like those of a lost port; the new board's clock is set, then every observe is registered
        again. Who reads MQTT, or observes this NIC, notices only fresher data.

        Args:
            port: name of the new port.
            open_pipe: opens it.
            profile: the kind of the new board; None: as before.
            poll_s: how often it is asked; None: as before.

        Raises:
            ValueError: the observes of this NIC don't fit a board of that kind.
        """
        change: dict[str, object] = {"serial": port, "profile": self.settings.profile if profile is None else profile}
        if poll_s is not None:
            change["poll_s"] = poll_s
        settings = NicSettings.model_validate(self.settings.model_dump() | change)
        await self.line.replace(open_pipe, settings.board)
        self.settings = settings
        self._told_before = self.client.counters["notifications"]
        self.manager.table.board_replaced(board_wide_sequence=settings.board.board_wide_sequence)
        self.client.board_replaced(settings.board)
        _log.info("board replaced", mac=settings.mac, port=port, profile=settings.profile.value)

    def _place(self) -> MeshPlace:
        """Nothing, unless the settings say where this NIC is to be."""
        parent, hops = self.settings.mesh_parent, self.settings.mesh_hops
        if parent is None and hops is None:
            return MeshPlace()
        return MeshPlace(parent, hops, self.instruments.signal(self.unix_time()).rssi_dbm)

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

    def link_stats(self) -> LinkStats:
        """The serial link's figures since its port was chosen."""
        line = self.line
        return link_stats(
            line.link, line.station, self.client.round_trips, self.client.counters["notifications"] - self._told_before
        )

    def link_report(self) -> Mapping[str, object]:
        status = self.line.status
        return {
            "port": self.settings.serial,
            "profile": self.settings.profile.value,
            "state": status.state.value,
            "since_s": round(status.since_s, 3),
            "last_error": status.last_error,
            "silence": self.alarm.report(),
            "pipe": dataclasses.asdict(status.counters),
            "hdlc": dataclasses.asdict(self.line.station.counters),
        }

    def stats_report(self) -> Mapping[str, object]:
        return {"port": self.settings.serial} | self.link_stats().record()

    def metrics(self) -> str:
        """The figures in the Prometheus text format."""
        return link_metrics(self.settings.mac, self.settings.serial or "", self.link_stats(), self.alarm.report())

    def frames(self, after: int, lease_s: float) -> bytes:
        return self.watch.read(after, lease_s)

    def unwatch(self) -> None:
        self.watch.end()

    def uplink_report(self) -> Mapping[str, object]:
        uplink = self._uplink
        return {
            "gateway": self.settings.gateway,
            "protected": self._oscore is not None,
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
