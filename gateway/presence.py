"""Which devices are online, told on retained topics by an MQTT client of its own (`gw-presence-…`) with a will.

A device is online from its registration (or any data) on, and offline when it has been silent for a few registration
intervals; each change is also an event on `{tenant}/event/{mac}`, with the time it was heard last. A device that is
removed, or moved to another tenant, has its retained state taken away from where it was. The will says on
`ssni/presence/gateway` that the gateway itself has gone. States are kept in the registry, so everything is told again
after each reconnect: a broker may have forgotten what it retained.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from gateway.mqtt import Connection, ConnectionLost, Login, Publication
from gateway.reconnecting import stay_connected
from gateway.registry import Device, Registry
from gateway.settings import PresenceSettings
from meshwire.identity import DeviceId, TenantId
from meshwire.topics import GATEWAY_PRESENCE_TOPIC, event_topic, presence_topic

__all__ = ["OFFLINE", "ONLINE", "Presence", "PresenceChange", "PresenceState", "presence_of"]

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
LOOK_EVERY_S: Final = 1.0
LOOK_SHARE: Final = 20.0
"""Looking at all devices takes at most one twentieth of the time: with very many it is done more seldom."""
NEWS_A_TURN: Final = 50


class PresenceState(StrEnum):
    """How a device is."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNHEARD = "unheard"
    """Never heard of so far."""


class PresenceChange(BaseModel):
    """Life-cycle event of a device, as it is published on its event topic."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    event: Literal[PresenceState.ONLINE, PresenceState.OFFLINE]
    time: float
    """When it was noticed, Unix seconds."""
    lastSeen: float | None = None
    """The device's last sign of life, Unix seconds."""


def presence_of(registry: Registry, settings: PresenceSettings, device: Device, now_s: float) -> PresenceState:
    """How a device is at this Unix time: by its last sign of life and the interval at which it registers."""
    sighting = registry.sighting(device.mac)
    if sighting is None:
        return PresenceState.UNHEARD
    interval_s = registry.interval_s(device.mac) or settings.interval_s
    return PresenceState.ONLINE if now_s - sighting.seen_s <= settings.missed * interval_s else PresenceState.OFFLINE


_TOLD: Final = {PresenceState.ONLINE: ONLINE, PresenceState.OFFLINE: OFFLINE, PresenceState.UNHEARD: None}


class Presence:
    """See the module's text.

    Args:
        registry: devices and when they were seen.
        settings: intervals.
        login: towards the broker.
        now_s: Unix time.
    """

    def __init__(
        self, registry: Registry, settings: PresenceSettings, login: Login, now_s: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._login = login
        self._now_s = now_s
        self._told: dict[DeviceId, tuple[TenantId, bytes]] = {}
        self._announced: dict[DeviceId, bytes] = {}
        """States that were told as events: those are not told again after a reconnect."""
        self._news: dict[DeviceId, None] = {}
        """Devices that have registered and were not online, in that order."""
        self._wake = asyncio.Event()

    def registered(self, device: Device) -> None:
        """A device has registered."""
        if self._told.get(device.mac) != (device.tenant, ONLINE):
            self._news[device.mac] = None
            self._wake.set()

    def news(self) -> list[Publication]:
        """What is to be told of devices that have registered, at most `NEWS_A_TURN` of them: no look at all others."""
        now_s = self._now_s()
        publications: list[Publication] = []
        for mac in list(itertools.islice(self._news, NEWS_A_TURN)):
            del self._news[mac]
            device = self._registry.device(mac)
            if device is not None:
                publications += self._changes_of(device, now_s)
        return publications

    def changes(self) -> list[Publication]:
        """What is to be told now: the state of each device whose state is not what was told last."""
        now_s = self._now_s()
        publications = []
        devices = {device.mac: device for device in self._registry.devices()}
        for mac, (tenant, _) in list(self._told.items()):
            if mac not in devices or devices[mac].tenant != tenant:
                del self._told[mac]
                publications.append(Publication(presence_topic(tenant, mac), b"", 1, retain=True))
        for device in devices.values():
            publications += self._changes_of(device, now_s)
        return publications

    def _changes_of(self, device: Device, now_s: float) -> list[Publication]:
        publications: list[Publication] = []
        state = self._state(device, now_s)
        if state is None:
            return publications
        if self._told.get(device.mac) != (device.tenant, state):
            self._told[device.mac] = (device.tenant, state)
            publications.append(Publication(presence_topic(device.tenant, device.mac), state, 1, retain=True))
        if self._announced.get(device.mac) != state:
            self._announced[device.mac] = state
            publications.append(self._event(device, state, now_s))
        return publications

    def tell_again(self) -> None:
        """The broker may have forgotten everything."""
        self._told = {mac: (tenant, b"") for mac, (tenant, _) in self._told.items()}

    def _event(self, device: Device, state: bytes, now_s: float) -> Publication:
        sighting = self._registry.sighting(device.mac)
        last_seen = None if sighting is None else round(sighting.seen_s, 3)
        event = PresenceChange(event=PresenceState(state.decode()), time=round(now_s, 3), lastSeen=last_seen)
        payload = event.model_dump_json(exclude_none=True).encode()
        return Publication(event_topic(device.tenant, device.mac), payload, 1, content_type="application/json")

    async def run(self) -> None:
        """Tell states until cancelled."""
        will = Publication(GATEWAY_PRESENCE_TOPIC, OFFLINE, 1, retain=True)
        await stay_connected(self._login, self._serve, will=will)

    async def _serve(self, connection: Connection) -> ConnectionLost:
        self.tell_again()
        lost = asyncio.create_task(connection.wait_lost(), name="presence connection")
        lost.add_done_callback(lambda task: self._wake.set())
        try:
            self._publish(connection, Publication(GATEWAY_PRESENCE_TOPIC, ONLINE, 1, retain=True))
            look_at = 0.0
            while not lost.done():
                began = time.monotonic()
                is_time = began >= look_at
                for publication in self.changes() if is_time else self.news():
                    self._publish(connection, publication)
                if is_time:
                    look_at = began + max(LOOK_EVERY_S, LOOK_SHARE * (time.monotonic() - began))
                if not self._news:
                    await self._wait()
                else:
                    await asyncio.sleep(0)
            return lost.result()
        except ConnectionLost as failure:
            return failure
        finally:
            if not lost.done():
                # We go in order: say so, for the will is then not published.
                self._farewell(connection)
            lost.cancel()

    def _farewell(self, connection: Connection) -> None:
        try:
            self._publish(connection, Publication(GATEWAY_PRESENCE_TOPIC, OFFLINE, 1, retain=True))
        except ConnectionLost:
            return

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _publish(self, connection: Connection, publication: Publication) -> None:
        connection.publish(publication, lambda code: None)

    def _state(self, device: Device, now_s: float) -> bytes | None:
        """None for a device that was never heard of."""
        return _TOLD[presence_of(self._registry, self._settings, device, now_s)]
