"""One way from NICs to the broker: a sink, an outbox, the bridge behind it and what is known of each notification.

A gateway has one lane, and one more for each worker process; lanes share nothing but the broker. This file decides
which folder and which MQTT client id a lane has, and that a lane nobody feeds any more is drained and removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import structlog

from gateway.bridge import Bridge
from gateway.broker_tls.tls import tls_of
from gateway.delivery import DeliveryRecord
from gateway.direct import DirectDelivery
from gateway.envelope import EnvelopeError, unpack
from gateway.losses import LossBook
from gateway.mqtt import ConnectFailure, Login, client_id
from gateway.nic_oscore import NicGuard
from gateway.outbox import Outbox
from gateway.rate import RateMeter
from gateway.registry import Device
from gateway.segments import Record, read_records
from gateway.settings import BridgeSettings, Durability, GatewaySettings, OutboxSettings
from gateway.sink import KEY_LIFETIME_S, Directory, Sink
from gateway.statistics import Event, Statistics
from gateway.storage import FileStorage, MemoryStorage, Storage
from meshwire.site import Site

__all__ = ["BROKER_SECRET", "MAIN", "Lane", "drain", "left_behind", "login", "resting_records"]

BROKER_SECRET: Final = "gateway-mqtt"
"""Name of the site's secret that is the gateway's password at the broker."""
MAIN: Final = 0
"""Number of the main process's lane."""
_FOLDER: Final = "outbox"
_LETTERS: Final = "-abcdefghijklmnopqrstuvwxyz"
"""In the MQTT client id: the lane, behind the gateway's number."""
_RECALLED: Final = 65_536
"""Notifications in the log whose keys are known again after a start."""
_LOOK_S: Final = 0.5
KEEP_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Lane:
    """See the module's text.

    Args:
        number: `MAIN`, or the worker's.
        settings: section `[gateway]`.
        site: the state folder.
        statistics: counted here.

    Raises:
        GatewayError: the outbox belongs to another process.
    """

    def __init__(self, number: int, settings: GatewaySettings, site: Site, statistics: Statistics) -> None:
        self.number = number
        self.statistics = statistics
        self._settings = settings
        self.outbox = _open_outbox(number, settings.outbox, site)
        self.deliveries = _record_of(number, self.outbox, settings.outbox, site, statistics)
        self.outbox.on_damaged = lambda sequence: self.deliveries.lost(None, sequence, "damaged", time.time())
        self.bridge = Bridge(self.outbox, settings.bridge, self._login(site), statistics, deliveries=self.deliveries)
        self.direct: DirectDelivery | None = None
        if settings.direct.tenants and settings.bridge.enabled:
            who = login(settings.bridge, site, "gw-direct", number)
            self.direct = DirectDelivery(settings.direct, settings.bridge, who, statistics, self.deliveries.direct)
        self._meter = RateMeter(time.monotonic())

    def sink(
        self,
        directory: Directory,
        on_registration: Callable[[Device], None] = lambda device: None,
        guard: NicGuard | None = None,
    ) -> Sink:
        """The sink that fills this lane.

        Args:
            directory: who owns which device.
            on_registration: told of each device that has registered.
            guard: of what NICs protect.
        """
        sink = Sink(
            directory,
            self.outbox,
            self.statistics,
            next_message_id=_message_ids(),
            on_registration=on_registration,
            on_refusal=self.deliveries.refused,
            retry_after_s=self._settings.outbox.retry_after_s,
            direct=self.direct,
            guard=guard,
        )
        sink.recall(self._stored_of_late(), time.monotonic())
        return sink

    def _stored_of_late(self) -> list[tuple[bytes, float]]:
        """Keys of the newest notifications in the log with their age in seconds, the oldest first."""
        found: list[tuple[bytes, float]] = []
        now_ms = time.time() * 1000
        for octets in self.outbox.history():
            records = [item for item in read_records(octets) if isinstance(item, Record)]
            for record in reversed(records):
                age_s = max(0.0, (now_ms - record.time_ms) / 1000)
                if age_s >= KEY_LIFETIME_S or len(found) >= _RECALLED:
                    return found[::-1]
                with contextlib.suppress(EnvelopeError):
                    found.append((unpack(record.payload).notification.key.encode(), age_s))
        return found[::-1]

    @property
    def sync(self) -> bool:
        """Whether a commit waits for the disk."""
        return self._settings.outbox.durability is Durability.FSYNC

    def status(self) -> dict[str, object]:
        """What operators see of it, ready for JSON."""
        outbox = self.outbox.status(int(time.time() * 1000))
        rate = self._meter.rate()
        return {
            "lane": self.number,
            "connected": self.bridge.is_connected,
            "trouble": _trouble(self.bridge.failure),
            "depth": outbox.depth,
            "octets": outbox.octets,
            "ageS": round(outbox.age_s, 3),
            "damaged": outbox.damaged,
            "tornOctets": outbox.torn_octets,
            "writable": outbox.is_writable,
            "rate": {
                "perS": round(rate.per_s, 3),
                "peakPerS": round(rate.peak_per_s, 3),
                "octetsEach": round(rate.octets_each, 1),
                "overS": round(rate.over_s),
            },
        }

    async def run(self) -> None:
        """What must happen though nobody asks: rates are measured, losses written, direct readings published."""
        async with asyncio.TaskGroup() as tasks:
            if self.direct is not None:
                tasks.create_task(self.direct.run(), name="direct readings")
            tasks.create_task(self._keep(), name="rates and losses")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            self._meter.sample(time.monotonic(), self.outbox.stored, self.outbox.stored_octets)
            await asyncio.to_thread(self.deliveries.losses.flush)

    def close(self) -> None:
        """Let go of the outbox's files."""
        self.deliveries.losses.flush()
        self.outbox.close()

    def _login(self, site: Site) -> Login:
        """By the name that the broker has known this outbox by, so that it finds the session of an earlier process."""
        bridge = self._settings.bridge
        fresh = login(bridge, site, "gw-coap-mqtt-bridge", self.number)
        prefix = f"gw-coap-mqtt-bridge-{_name(bridge, self.number)}"
        kept = self.outbox.name(prefix, lambda: fresh.client_id)
        if kept is None:
            return fresh
        return replace(fresh, client_id=kept, is_lasting=True, speaks_5=self.outbox.version == 5)


def _trouble(failure: ConnectFailure | None) -> dict[str, str] | None:
    """Why there is no connection to the broker, and what to do, where that is known."""
    if failure is None:
        return None
    trouble = failure.trouble
    if trouble is None:
        return {"reason": str(failure), "fix": ""}
    return {"reason": f"{trouble.what}: {trouble.evidence} [{trouble.code}]", "fix": trouble.fix}


def _open_outbox(number: int, limits: OutboxSettings, site: Site) -> Outbox:
    if limits.durability is Durability.MEMORY:
        storage: Storage = MemoryStorage()
    else:
        storage = FileStorage(site.path("gateway", _folder(number)), history_octets=limits.history_octets)
    outbox = Outbox(storage, max_octets=limits.max_octets, segment_octets=limits.segment_octets)
    status = outbox.status(int(time.time() * 1000))
    if status.depth or status.torn_octets:
        _log.info("outbox opened", depth=status.depth, age_s=status.age_s, torn_octets=status.torn_octets)
    return outbox


def _record_of(
    number: int, outbox: Outbox, limits: OutboxSettings, site: Site, statistics: Statistics
) -> DeliveryRecord:
    folder = site.path("gateway", _folder(number))
    on_disk = folder.is_dir() and limits.durability is not Durability.MEMORY
    return DeliveryRecord(number, outbox, LossBook(folder / "losses.jsonl" if on_disk else None), statistics)


@contextlib.contextmanager
def resting_records(limits: OutboxSettings, site: Site) -> Iterator[list[DeliveryRecord]]:
    """What is known of deliveries while no gateway runs: of its own lane, and of workers.

    Raises:
        GatewayError: one does run.
    """
    records: list[DeliveryRecord] = []
    with contextlib.ExitStack() as outboxes:
        for number in (MAIN, *left_behind(site, 0)):
            if site.path("gateway", _folder(number)).is_dir() and limits.durability is not Durability.MEMORY:
                outbox = _open_outbox(number, limits, site)
                outboxes.callback(outbox.close)
                records.append(_record_of(number, outbox, limits, site, Statistics()))
        yield records


def login(bridge: BridgeSettings, site: Site, prefix: str, lane: int = MAIN) -> Login:
    """How a part of the gateway introduces itself to the broker."""
    if bridge.password_file is not None:
        password = bridge.password_file.read_text().strip()
    else:
        password = site.secret(BROKER_SECRET)
    identifier = client_id(prefix, _name(bridge, lane))
    tls = tls_of(bridge.host, bridge.port, bridge.tls)
    return Login(bridge.host, bridge.port, identifier, bridge.username, password, bridge.keepalive_s, tls=tls)


def _name(bridge: BridgeSettings, lane: int) -> str:
    """What tells lanes and gateways apart at one broker."""
    return f"{bridge.client_number}{_LETTERS[lane]}"


def left_behind(site: Site, workers: int) -> list[int]:
    """Lanes of workers that there are no longer, and whose outbox is still there."""
    return [number for number in range(workers + 1, len(_LETTERS)) if site.path("gateway", _folder(number)).is_dir()]


async def drain(number: int, settings: GatewaySettings, site: Site) -> None:
    """Publish what a worker of an earlier run has left, and remove its folder."""
    statistics = Statistics()
    lane = Lane(number, settings, site, statistics)
    try:
        depth = lane.outbox.status(0).depth
        if depth:
            _log.info("draining the outbox of a worker that there is no longer", worker=number, depth=depth)
        publishing = asyncio.create_task(lane.bridge.run(), name=f"publish outbox {number}")
        try:
            while lane.outbox.status(0).depth:  # noqa: ASYNC110 - looked at now and then; nobody has to be told
                await asyncio.sleep(_LOOK_S)
        finally:
            publishing.cancel()
            await asyncio.wait({publishing})
    finally:
        lane.close()
    shutil.rmtree(site.path("gateway", _folder(number)), ignore_errors=True)
    _log.info("outbox drained and removed", worker=number, published=statistics.total(Event.PUBLISHED))


def _folder(number: int) -> str:
    return _FOLDER if number == MAIN else f"{_FOLDER}-{number}"


def _message_ids() -> Callable[[], int]:
    """Message IDs in turn from a random one (RFC 7252 section 4.4)."""
    numbers = itertools.count(secrets.randbelow(0x10000))
    return lambda: next(numbers) & 0xFFFF
