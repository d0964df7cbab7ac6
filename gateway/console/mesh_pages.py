"""The data of the map on the network page, and its live changes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.addresses import Address
from gateway.console.events import KEEP_ALIVE, Streams, event
from gateway.console.mesh_map import mesh_map
from gateway.console.mesh_watch import MeshWatch
from gateway.console.rendering import SECURITY_HEADERS, PageRoute, Pages
from gateway.console.rows import Row
from gateway.registry import Device, Registry
from meshwire.identity import DeviceId, TenantId

__all__ = ["router"]

MOST_PAGES: Final = 100
MOST_S: Final = 3600.0


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row], watch: MeshWatch) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    streams = Streams(MOST_PAGES, MOST_S)

    def address(mac: DeviceId) -> Address | None:
        sighting = registry.sighting(mac)
        return None if sighting is None else sighting.address

    @routes.get("/console/mesh")
    async def mesh(request: Request) -> Response:
        """The visitor's part of the mesh."""
        visitor, now_s = await pages.visitor(request), time.time()
        rows = [row(device, now_s) for device in registry.devices(visitor.tenant)]
        found = mesh_map(rows, registry.place, address, lambda mac: registry.device(mac) is not None)
        content = json.dumps({"now": round(now_s, 1), **found.to_json()}, separators=(",", ":"))
        return Response(content, media_type="application/json", headers=SECURITY_HEADERS)

    @routes.get("/console/mesh/live")
    async def live(request: Request) -> Response:
        """Changes, an event each."""
        visitor = await pages.visitor(request)
        return streams.answer(changes(visitor.tenant), pages.may_still(request))

    async def changes(tenant: TenantId | None) -> AsyncGenerator[str]:
        async for told in watch.follow(tenant):
            yield KEEP_ALIVE if told is None else event(json.dumps(told, separators=(",", ":")))

    return routes
