"""Where live events come from. Nothing here runs on the way of a notification: what is stored, who is there and what is
connected is looked at while somebody follows it, and what is new since the look before is told. Commands tell by
themselves.

Readings are asked from every lane, so those of worker processes are among them; direct ones, which are not stored, are
kept by the lanes only while they are asked. A look takes at most so many of a lane: when more came, the event `skipped`
says how many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from gateway.commands.documents import event_document
from gateway.commands.records import Command, Event
from gateway.live.feed import Kind, LiveFeed
from gateway.presence import PresenceState
from gateway.registry import Device, Registry
from gateway.sessions import Session
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import decode_reading

__all__ = ["Places", "Sources"]

READINGS_EVERY_S: Final = 0.25
LOOK_EVERY_S: Final = 1.0
LOOK_SHARE: Final = 20.0
"""Looking at all devices takes at most one twentieth of the time."""
READINGS_A_LOOK: Final = 1_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """What is looked at.

    Args:
        registry: devices and where they were heard.
        presence: how a device is, at a Unix time.
        ask: puts a question to every lane (`delivery.answer`).
        sessions: open CoAP sessions.
        states: of what is connected, by name; each is what is told of it. Called on a thread.
        alarms: what deserves attention now, by what it is; is given how many devices are silent.
        has_direct: whether any readings are direct.
    """

    registry: Registry
    presence: Callable[[Device, float], PresenceState]
    ask: Callable[[dict[str, object]], Awaitable[list[dict[str, object]]]]
    sessions: Callable[[], Iterable[Session]]
    states: Callable[[], Mapping[str, dict[str, Any]]]
    alarms: Callable[[int], Mapping[str, dict[str, Any]]]
    has_direct: bool


class Sources:
    """See the module.

    Args:
        feed: is told.
        places: are looked at.
        now_s: Unix time.
    """

    def __init__(self, feed: LiveFeed, places: Places, now_s: Callable[[], float] = time.time) -> None:
        self._feed = feed
        self._places = places
        self._now_s = now_s
        self._sequences: dict[int, int] | None = None
        self._direct: dict[int, int] | None = None
        self._devices: dict[DeviceId, tuple[TenantId, PresenceState, str | None]] | None = None
        self._sessions: dict[int, Session] | None = None
        self._states: dict[str, dict[str, Any]] | None = None
        self._alarms: dict[str, dict[str, Any]] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_readings(), name="live readings")
            tasks.create_task(self._run_looks(), name="live states")

    def commanded(self, command: Command, event: Event) -> None:
        """Something has happened to a command."""
        self._feed.publish(Kind.COMMAND, command.key.tenant, command.key.mac, event_document(command, event))

    async def _run_readings(self) -> None:
        while True:
            await asyncio.sleep(READINGS_EVERY_S)
            try:
                await self.look_at_readings()
            except Exception:
                _log.exception("readings can't be shown live")

    async def _run_looks(self) -> None:
        pause_s = LOOK_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            try:
                self.look_at_devices()
                await self.look_at_connections()
                self.look_at_alarms()
            except Exception:
                _log.exception("states can't be shown live")
            pause_s = max(LOOK_EVERY_S, LOOK_SHARE * (time.monotonic() - began))

    # --- one look each

    async def look_at_readings(self) -> None:
        """Tell of what was stored, and of direct readings that have ended, since the look before."""
        self._sequences = await self._look_at(Kind.READING, "since", self._sequences)
        if self._places.has_direct:
            self._direct = await self._look_at(Kind.DIRECT, "direct_since", self._direct)

    async def _look_at(self, kind: Kind, question: str, known: dict[int, int] | None) -> dict[int, int] | None:
        """Tell what is new in each lane; gives the lanes' last numbers, None while nobody follows."""
        if not self._feed.is_followed(kind):
            return None
        since = None if known is None else [[lane, number] for lane, number in known.items()]
        answers: list[dict[str, Any]] = await self._places.ask({question: since, "limit": READINGS_A_LOOK})
        for answer in answers:
            if known is not None and answer.get("lane") in known:
                self._tell_readings(kind, answer)
        return (known or {}) | {answer["lane"]: answer["last"] for answer in answers if "lane" in answer}

    def _tell_readings(self, kind: Kind, answer: Mapping[str, Any]) -> None:
        if answer["skipped"]:
            self._feed.publish(kind, None, None, {"skipped": answer["skipped"], "lane": answer["lane"]})
        for item in answer["notifications"]:
            payload = bytes.fromhex(item["payload"])
            reading = decode_reading(item["path"].rsplit("/", 1)[-1], payload)
            data = item | {"values": None if reading is None else dict(reading.values)}
            self._feed.publish(kind, TenantId(item["tenant"]), DeviceId(item["device"]), data)

    def look_at_devices(self) -> None:
        """Tell of NICs that have come, gone, or moved; one that fell silent is an alarm of its tenant, too."""
        is_followed = self._feed.is_followed(Kind.PRESENCE) or self._feed.is_followed(Kind.ALARM)
        if not is_followed:
            self._devices = None
            return
        now_s, registry = self._now_s(), self._places.registry
        seen: dict[DeviceId, tuple[TenantId, PresenceState, str | None]] = {}
        for device in registry.devices():
            sighting = registry.sighting(device.mac)
            address = None if sighting is None else str(sighting.address)
            seen[device.mac] = device.tenant, self._places.presence(device, now_s), address
        before, self._devices = self._devices, seen
        if before is None:
            return
        for mac, what in seen.items():
            if before.get(mac) != what:
                self._tell_device(mac, before.get(mac), what, now_s)
        for mac in before.keys() - seen.keys():
            self._feed.publish(Kind.PRESENCE, before[mac][0], mac, self._of_device(mac, now_s) | {"state": "removed"})

    def _tell_device(
        self,
        mac: DeviceId,
        before: tuple[TenantId, PresenceState, str | None] | None,
        after: tuple[TenantId, PresenceState, str | None],
        now_s: float,
    ) -> None:
        tenant, state, address = after
        if before is not None and before[0] != tenant:
            # The former tenant does not learn where it went.
            self._feed.publish(Kind.PRESENCE, before[0], mac, self._of_device(mac, now_s) | {"state": "removed"})
        self._feed.publish(
            Kind.PRESENCE, tenant, mac, self._of_device(mac, now_s) | {"state": state.value, "address": address}
        )
        was_silent = before is not None and before[0] == tenant and before[1] is PresenceState.OFFLINE
        if was_silent is not (state is PresenceState.OFFLINE):
            data = {"what": "The device is silent", "severity": "warning", "raised": not was_silent}
            self._feed.publish(Kind.ALARM, tenant, mac, self._of_device(mac, now_s) | data)

    def _of_device(self, mac: DeviceId, now_s: float) -> dict[str, Any]:
        return {"device": mac.value, "time": round(now_s, 3)}

    async def look_at_connections(self) -> None:
        """Tell of sessions of the tenants' clients, and of the broker and its instances."""
        if not self._feed.is_followed(Kind.CONNECTION):
            self._sessions = self._states = None
            return
        now_s = round(self._now_s(), 3)
        sessions = {id(session): session for session in self._places.sessions()}
        before, self._sessions = self._sessions, sessions
        if before is not None:
            opened = [(sessions[key], "opened") for key in sessions.keys() - before.keys()]
            closed = [(before[key], "closed") for key in before.keys() - sessions.keys()]
            for session, what in opened + closed:
                data = {"what": "session", "state": what, "protocol": session.source.security or "coap", "time": now_s}
                tenant = session.principal.tenant
                self._feed.publish(
                    Kind.CONNECTION,
                    tenant,
                    None,
                    data | {"source": str(session.source), "account": session.account, "tenant": tenant.value},
                )
        states = dict(await asyncio.to_thread(self._places.states))
        former, self._states = self._states, states
        if former is not None:
            for name in sorted(former.keys() | states.keys()):
                if states.get(name) != former.get(name):
                    data = states.get(name) or {"state": "gone"}
                    self._feed.publish(Kind.CONNECTION, None, None, {"what": name, "time": now_s} | data)

    def look_at_alarms(self) -> None:
        """Tell of alarms of the site that are raised, changed in gravity, or over."""
        if not self._feed.is_followed(Kind.ALARM):
            self._alarms = None
            return
        silent = sum(state is PresenceState.OFFLINE for _, state, _ in (self._devices or {}).values())
        now_s, present = round(self._now_s(), 3), dict(self._places.alarms(silent))
        before, self._alarms = self._alarms, present
        for what in sorted((before or {}).keys() | present.keys()):
            is_new = before is None or what not in before
            if what not in present:
                self._feed.publish(Kind.ALARM, None, None, {"what": what, "time": now_s, "raised": False})
            elif is_new:
                self._feed.publish(Kind.ALARM, None, None, {"time": now_s, "raised": True} | present[what])
