"""NICs as a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.registry import Device, Registry

__all__ = ["router"]

PER_PAGE: Final = 100

_ORDERS: Final[dict[str, Callable[[Row], object]]] = {
    "mac": lambda row: row.device.mac.value,
    "tenant": lambda row: (row.device.tenant.value, row.device.mac.value),
    "type": lambda row: (row.device.type, row.device.mac.value),
    "state": lambda row: (row.state.value, row.device.mac.value),
    "seen": lambda row: -(row.seen_s or 0.0),
}


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row]) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    @routes.get("/console/network")
    async def network(request: Request, sort: str = "mac", find: str = "", page: int = 1) -> Response:
        visitor, now_s = await pages.visitor(request), time.time()
        rows = [row(device, now_s) for device in registry.devices(visitor.tenant)]
        wanted = find.strip().lower()
        shown = [
            each for each in rows if wanted in f"{each.device.mac} {each.device.tenant} {each.device.type}".lower()
        ]
        shown.sort(key=_ORDERS.get(sort, _ORDERS["mac"]))  # type: ignore[arg-type]
        last = max(1, -(-len(shown) // PER_PAGE))
        page = min(max(1, page), last)
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
        )

    return routes
