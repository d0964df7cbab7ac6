"""Who is connected to the broker: a live table, and the end of a connection; and the topics that are in use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.tenancy import choices, chosen_tenant, status_of
from gateway.console.visitors import Visitor
from gateway.console.watch import Watch
from gateway.operations.errors import OperationsError
from gateway.operations.records import Client
from gateway.registry import Registry

__all__ = ["router"]

PLACE: Final = "/console/messaging/connections"
TOPICS_PLACE: Final = "/console/messaging/topics"
PER_PAGE: Final = 100

_Row = tuple[Client, tuple[float, ...] | None]
_ORDERS: Final[dict[str, Callable[[_Row], Any]]] = {
    "client": lambda row: (row[0].tenant or "", row[0].client),
    "in": lambda row: -(row[1] or (-1.0,))[0],
    "out": lambda row: -(row[1] or (-1.0,))[-1],
    "queue": lambda row: -(row[0].queued or 0),
    "since": lambda row: row[0].since,
}


def router(pages: Pages, registry: Registry, watch: Watch) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    async def listing(
        visitor: Visitor,
        tenant: str | None,
        *,
        find: str = "",
        sort: str = "client",
        page: int = 1,
        rows_only: bool = False,
        kicked: str | None = None,
        failed: OperationsError | None = None,
    ) -> Response:
        rows: list[_Row] = []
        total, error = 0, failed
        try:
            look = await watch.clients(tenant, find)
            total = look.result.total
            rows = [(client, look.rates.get(client.key)) for client in look.result.clients]
        except OperationsError as failure:
            error = error or failure
        rows.sort(key=_ORDERS.get(sort, _ORDERS["client"]))
        last = max(1, -(-len(rows) // PER_PAGE))
        page = min(max(1, page), last)
        return pages.page(
            "_connections.html" if rows_only else "connections.html",
            visitor,
            status=200 if error is None else status_of(error),
            rows=rows[(page - 1) * PER_PAGE : page * PER_PAGE],
            listed=len(rows),
            total=total,
            tenant=tenant,
            tenants=() if rows_only else await asyncio.to_thread(choices, visitor, registry),
            find=find,
            sort=sort if sort in _ORDERS else "client",
            page=page,
            last=last,
            engine=watch.desk.engine,
            limits=watch.desk.limits,
            kicked=kicked,
            error=error,
            now_s=time.time(),
        )

    @routes.get(PLACE)
    async def connections(
        request: Request, tenant: str = "", find: str = "", sort: str = "client", page: int = 1, rows: int = 0
    ) -> Response:
        visitor = await pages.visitor(request)
        chosen = chosen_tenant(visitor, tenant)
        return await listing(visitor, chosen, find=find.strip(), sort=sort, page=page, rows_only=bool(rows))

    @routes.post(f"{PLACE}/kick")
    async def kick(request: Request) -> Response:
        """End one connection: an administrator any, a tenant's user those of its tenant."""
        form = await pages.form(request)
        shown = chosen_tenant(form.visitor, form.text("shown"))
        owner = chosen_tenant(form.visitor, form.text("tenant"))
        name, login = form.fields.get("client", ""), form.fields.get("login", "")
        try:
            client = await found(owner, name, login)
            await watch.desk.kick(client)
        except OperationsError as failure:
            return await listing(form.visitor, shown, find=form.text("find"), failed=failure)
        finally:
            watch.changed()
        registry.audit.note(form.visitor.name, "connection.kick", name, client.tenant or "", address=client.address)
        return await listing(form.visitor, shown, find=form.text("find"), kicked=name)

    async def found(tenant: str | None, name: str, login: str) -> Client:
        """A connection as the broker tells it, so that nothing but what is shown can be ended."""
        for each in (await watch.desk.clients(tenant, name)).clients:
            if (each.client, each.login) == (name, login):
                return each
        raise HTTPException(404, "this client is not connected (any more)")

    # --- topics

    @routes.get(TOPICS_PLACE)
    async def topics(request: Request, tenant: str = "", find: str = "", rows: int = 0) -> Response:
        visitor, find = await pages.visitor(request), find.strip()
        tenants = await asyncio.to_thread(choices, visitor, registry)
        chosen = chosen_tenant(visitor, tenant) or tenants[0]
        look, error = None, None
        try:
            look = await watch.topics(chosen, find)
        except OperationsError as failure:
            error = failure
        return pages.page(
            "_topics.html" if rows else "topics.html",
            visitor,
            status=200 if error is None else status_of(error),
            look=look,
            tenant=chosen,
            tenants=tenants,
            find=find,
            error=error,
            now_s=time.time(),
        )

    return routes
