"""The standard board at work: its site, its rhythm, the word to the NIC that it has started, and a new firmware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiocoap import Context, Message, error
from aiocoap.numbers.codes import PUT
from aiocoap.numbers.constants import Unreliable
from aiocoap.resource import WKCResource

from meshwire.coap.message import RST
from meshwire.coap.options import CBOR
from meshwire.hdlc.events import DataReceived, Event, LinkUp
from meshwire.learned_board import LearnedResource
from meshwire.link import Link
from sensor_sim.clock import BoardClock
from sensor_sim.recorded import RecordedResource
from sensor_sim.sensors import Sensor
from sensor_sim.standard.firmware_resource import FACTORY, Firmware, FirmwareResource
from sensor_sim.standard.journal import Journal
from sensor_sim.standard.sensor_resource import ObserveSequence, SensorResource
from sensor_sim.standard.system_resources import BoardSite, LogResource, RootResource, TimeResource

__all__ = ["StandardBoard", "StandardSettings"]

_BUILT_IN: Final = frozenset({"", ".well-known/core", "sys/time", "sys/log", "sys/fw"})
"""Paths that every board has by itself."""
_NAME: Final = "meshwire reference sensor board (standard)"
_RESET_OCTETS: Final = 4
_RESTART_AFTER_S: Final = 1.0
"""A new firmware is started so long after its last block: the answer has to leave before."""
_REBOOT_ANSWER_S: Final = 10.0
"""How long an answer to the reboot message is listened for; nothing depends on it."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StandardSettings:
    """How one board is built.

    Attributes:
        classifier: first path segment of the sensors.
        period_s: seconds between notifications of a sensor not named in `periods_s`.
        periods_s: the same by device type; 0 for push only.
        confirmable: notifications are CON instead of NON.
        version_text: what `/` says; empty: what the board is, and the version of its firmware.
        paths: path by device type, where it is not `/<classifier>/<type>`.
        content_formats: of a sensor's records by device type, where they are not CBOR.
        unobservable: device types that don't take registrations.
        recorded: further resources, by path.
    """

    classifier: str = "arduino"
    period_s: float = 60.0
    periods_s: dict[str, float] = field(default_factory=dict)
    confirmable: bool = False
    version_text: str = ""
    paths: dict[str, str] = field(default_factory=dict)
    content_formats: dict[str, int] = field(default_factory=dict)
    unobservable: frozenset[str] = frozenset()
    recorded: tuple[LearnedResource, ...] = ()


class StandardBoard:
    """Resources and rhythm of one board.

    Args:
        settings: how it is built.
        sensors: its sensors.
        clock: the board's clock, right from the start.
        now: seconds of the driver's clock, the one that `clock` runs by.
        firmware: what it runs.
    """

    def __init__(
        self,
        settings: StandardSettings,
        sensors: Sequence[Sensor],
        clock: BoardClock,
        now: Callable[[], float],
        firmware: Firmware = FACTORY,
    ) -> None:
        self.site = BoardSite()
        journal, sequence = Journal(), ObserveSequence()
        self._periods_s = {sensor.type: settings.periods_s.get(sensor.type, settings.period_s) for sensor in sensors}
        self._resources = {
            sensor.type: SensorResource(
                sensor,
                clock,
                now,
                period_s=self._periods_s[sensor.type],
                confirmable=settings.confirmable,
                sequence=sequence,
                journal=journal,
                observable=sensor.type not in settings.unobservable,
                content_format=settings.content_formats.get(sensor.type, CBOR),
            )
            for sensor in sensors
        }
        self._firmware = FirmwareResource(firmware)
        self.site.add("/", RootResource(settings.version_text or f"{_NAME} {firmware.version}"))
        self.site.add("/.well-known/core", WKCResource(self.site.get_resources_as_linkheader, impl_info=None))
        self.site.add("/sys/time", TimeResource(clock, now))
        self.site.add("/sys/log", LogResource(journal))
        self.site.add("/sys/fw", self._firmware)
        for device_type, resource in self._resources.items():
            self.site.add(settings.paths.get(device_type, f"/{settings.classifier}/{device_type}"), resource)
        for item in settings.recorded:
            if item.path not in _BUILT_IN:
                self.site.add(item.path, RecordedResource(item.payload, item.content_format))

    def push(self, device_type: str) -> bool:
        """Report a new value now; False when nobody observes that sensor or there is none."""
        resource = self._resources.get(device_type)
        if resource is None or not resource.observers:
            return False
        resource.notify()
        return True

    def observers(self) -> int:
        """How many observations stand."""
        return sum(resource.observers for resource in self._resources.values())

    async def run(self, link: Link, context: Context) -> Firmware:
        """Tell the NIC once that the board has started, and sample until a new firmware has come: gives that one.

        Start it before the link.
        """
        up = asyncio.Event()

        def on_event(event: Event) -> None:
            match event:
                case LinkUp():
                    up.set()
                case DataReceived(sdu=sdu):
                    self._take_reset(sdu)

        unsubscribe = link.subscribe(on_event)
        work = [_announce(up, link, context)]
        work += [_sample_every(period, self._resources[type]) for type, period in self._periods_s.items() if period]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each) for each in work]
                firmware = await self._firmware.taken
                await asyncio.sleep(_RESTART_AFTER_S)
                for task in tasks:
                    task.cancel()
            return firmware
        finally:
            unsubscribe()

    def _take_reset(self, sdu: bytes) -> None:
        """A Reset may mean a notification (aiocoap hears of it as well, for messages that it repeats)."""
        if len(sdu) == _RESET_OCTETS and sdu[0] >> 4 & 3 == RST:
            mid = int.from_bytes(sdu[2:4], "big")
            for resource in self._resources.values():
                resource.reset(mid)


async def _announce(up: asyncio.Event, link: Link, context: Context) -> None:
    """PUT `/sys/snsr?ev=rbt` as NON when the link first stands; a NIC that does not care need not answer."""
    await up.wait()
    message = Message(code=PUT, uri=f"coap://{link.name}/sys/snsr?ev=rbt", transport_tuning=Unreliable())
    with suppress(error.Error, TimeoutError):
        async with asyncio.timeout(_REBOOT_ANSWER_S):
            await context.request(message).response
    _log.debug("reboot message sent", link=link.name)


async def _sample_every(period_s: float, resource: SensorResource) -> None:
    """On an absolute schedule; a turn that comes too late is not made up for."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due = max(due + period_s, loop.time())
        await asyncio.sleep(due - loop.time())
        resource.notify()
