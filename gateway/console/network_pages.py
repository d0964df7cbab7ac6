"""NICs as a table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.presence import PresenceState
from gateway.registry import Device, Registry
from meshwire.identity import DeviceId, IdentityError
from meshwire.mesh_place import MOST_HOPS

__all__ = ["router"]

PER_PAGE: Final = 100

_ORDERS: Final[dict[str, Callable[[Row], object]]] = {
    "mac": lambda row: row.device.mac.value,
    "tenant": lambda row: (row.device.tenant.value, row.device.mac.value),
    "type": lambda row: (row.device.type, row.device.mac.value),
    "state": lambda row: (row.state.value, row.device.mac.value),
    "seen": lambda row: -(row.seen_s or 0.0),
    "hops": lambda row: (_hops(row), row.device.mac.value),
}


def _hops(row: Row) -> int:
    """For the order: those that did not say come last."""
    return MOST_HOPS + 1 if row.place is None or row.place.hops is None else row.place.hops


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row]) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    def is_nic(name: str) -> bool:
        """Whether a name in the mesh is a NIC's; else it is an access point's."""
        try:
            return registry.device(DeviceId(name)) is not None
        except IdentityError:
            return False

    @routes.get("/console/network")
    async def network(request: Request, sort: str = "mac", find: str = "", page: int = 1) -> Response:
        visitor, now_s = await pages.visitor(request), time.time()
        rows = [row(device, now_s) for device in registry.devices(visitor.tenant)]
        wanted = find.strip().lower()
        found = [
            each
            for each in rows
            if not wanted or wanted in f"{each.device.mac} {each.device.tenant} {each.device.type}".lower()
        ]
        shown = sorted(found, key=_ORDERS.get(sort, _ORDERS["mac"]))  # type: ignore[arg-type]
        last = max(1, -(-len(shown) // PER_PAGE))
        page = min(max(1, page), last)
        states = Counter(each.state for each in rows)
        owned = {each.device.mac.value for each in rows}
        return pages.page(
            "network.html",
            visitor,
            rows=shown[(page - 1) * PER_PAGE : page * PER_PAGE],
            total=len(rows),
            found=len(shown),
            sort=sort if sort in _ORDERS else "mac",
            find=find,
            page=page,
            last=last,
            now_s=now_s,
            states={state.value: states[state] for state in PresenceState},
            owned=owned,
            is_hidden=lambda name: name not in owned and is_nic(name),
        )

    return routes
