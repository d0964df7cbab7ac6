"""NICs as a table; OAuth clients, and the lines that connect one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry
from meshwire.identity import IdentityError, Role, TenantId

__all__ = ["router"]

PER_PAGE: Final = 100
CLIENT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)

_ORDERS: Final[dict[str, Callable[[Row], object]]] = {
    "mac": lambda row: row.device.mac.value,
    "tenant": lambda row: (row.device.tenant.value, row.device.mac.value),
    "type": lambda row: (row.device.type, row.device.mac.value),
    "state": lambda row: (row.state.value, row.device.mac.value),
    "seen": lambda row: -(row.seen_s or 0.0),
}


def router(
    pages: Pages,
    registry: Registry,
    row: Callable[[Device, float], Row],
    endpoints: Callable[[], Mapping[str, str]],
) -> APIRouter:
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

    @routes.get("/console/clients")
    async def clients(request: Request) -> Response:
        return await listing(await pages.administrator(request))

    async def listing(
        visitor: Visitor, *, status: int = 200, error: str | None = None, issued: object = None
    ) -> Response:
        clients = await asyncio.to_thread(registry.account_records, "client")
        tenants = await asyncio.to_thread(registry.tenants)
        return pages.page(
            "clients.html",
            visitor,
            status=status,
            clients=clients,
            tenants=[tenant.value for tenant in tenants],
            error=error,
            issued=issued,
            endpoints=endpoints(),
        )

    @routes.post("/console/clients")
    async def add_client(request: Request) -> Response:
        """Make a pair; the secret is in this answer and nowhere else."""
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            tenant = TenantId(form.text("tenant"))
        except IdentityError as error:
            return await listing(form.visitor, status=422, error=str(error))
        issued = await asyncio.to_thread(registry.add_client, tenant, CLIENT_ROLES, by=form.visitor.name)
        return await listing(form.visitor, issued={"id": issued.id, "secret": issued.secret, "tenant": tenant.value})

    @routes.post("/console/clients/remove")
    async def remove_client(request: Request) -> Response:
        await pages.administrator(request)
        form = await pages.form(request)
        if not await asyncio.to_thread(registry.remove_account, form.text("id"), "client", by=form.visitor.name):
            return await listing(form.visitor, status=404, error=f"There is no client {form.text('id')!r} (any more).")
        return pages.go("/console/clients")

    return routes
