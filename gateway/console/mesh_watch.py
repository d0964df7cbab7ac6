"""What changes on the map, looked at once a second for all pages that show it, and only while one does.

A look compares what the registry holds with the look before; nothing is asked of any device. With very many devices it
looks more seldom, so that it takes at most a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.console.mesh_map import network_of
from gateway.console.rows import Row
from gateway.presence import PresenceState
from gateway.registry import Device, Registry
from meshwire.identity import TenantId
from meshwire.mesh_place import MeshPlace

__all__ = ["MeshWatch"]

EVERY_S: Final = 1.0
SHARE: Final = 20.0
MOST_HEARD: Final = 300
"""NICs that a page is told to have been heard, at each look."""
MOST_WAITING: Final = 8
QUIET_S: Final = 10.0
_STATES: Final = tuple(PresenceState)


@dataclass(frozen=True, slots=True)
class _Known:
    tenant: TenantId
    state: PresenceState
    place: MeshPlace | None
    network: str


@dataclass(slots=True)
class _Tick:
    """What one look has found, by tenant."""

    states: list[tuple[TenantId, str, PresenceState]] = field(default_factory=list)
    heard: list[tuple[TenantId, str]] = field(default_factory=list)
    moved: set[TenantId] = field(default_factory=set)
    """Tenants whose part of the map has another shape."""

    def to_json(self, tenant: TenantId | None) -> dict[str, Any] | None:
        """What a visitor of a tenant (None: of all) is told; None: nothing."""
        states = {mac: _STATES.index(state) for whose, mac, state in self.states if tenant in (None, whose)}
        heard = [mac for whose, mac in self.heard if tenant in (None, whose)][:MOST_HEARD]
        again = bool(self.moved if tenant is None else tenant in self.moved)
        return {"states": states, "heard": heard, "again": again} if states or heard or again else None


_MISSED: Final[dict[str, Any]] = {"states": {}, "heard": [], "again": True}


class MeshWatch:
    """See the module.

    Args:
        registry: what is known of devices.
        row: a device as it is at a time.
        now_s: Unix time.
    """

    def __init__(
        self, registry: Registry, row: Callable[[Device, float], Row], now_s: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._row = row
        self._now_s = now_s
        self._known: dict[str, _Known] = {}
        self._looked_s = 0.0
        self._followers: dict[asyncio.Queue[dict[str, Any]], TenantId | None] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began = time.monotonic()
            if self._followers:
                self._tell(self.look())
            await asyncio.sleep(max(EVERY_S, SHARE * (time.monotonic() - began)))

    def look(self) -> _Tick:
        """What has changed since the look before."""
        tick, now_s, known = _Tick(), self._now_s(), {}
        for device in self._registry.devices():
            row, mac = self._row(device, now_s), device.mac.value
            present = _Known(device.tenant, row.state, row.place, network_of(row.at))
            known[mac] = present
            former = self._known.get(mac)
            if former != present:
                if former is None or (former.tenant, former.place, former.network) != (
                    present.tenant,
                    present.place,
                    present.network,
                ):
                    tick.moved.add(present.tenant)
                    if former is not None:
                        tick.moved.add(former.tenant)
                tick.states.append((device.tenant, mac, row.state))
            if row.seen_s is not None and row.seen_s > self._looked_s:
                tick.heard.append((device.tenant, mac))
        for mac in self._known.keys() - known.keys():
            tick.moved.add(self._known[mac].tenant)
        self._known, self._looked_s = known, now_s
        return tick

    def _tell(self, tick: _Tick) -> None:
        told_to = {tenant: tick.to_json(tenant) for tenant in set(self._followers.values())}
        for queue, tenant in self._followers.items():
            told = told_to[tenant]
            if told is None:
                continue
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                told = _MISSED
            queue.put_nowait(told)

    async def follow(self, tenant: TenantId | None) -> AsyncGenerator[dict[str, Any] | None]:
        """Changes of a tenant's NICs (None: of all), from now on; None now and then while there are none."""
        if not self._followers:
            self.look()
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_WAITING)
        self._followers[queue] = tenant
        try:
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        told = await queue.get()
                except TimeoutError:
                    yield None
                else:
                    yield told
        finally:
            del self._followers[queue]
