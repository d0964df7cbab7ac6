"""Who is connected to the broker: a live table, and the end of a connection; and the topics that are in use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.tenancy import choices, chosen_tenant, status_of
from gateway.console.visitors import Visitor
from gateway.console.watch import Watch
from gateway.operations.errors import OperationsError
from gateway.operations.records import Client, TopicRow
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
_TopicRow = tuple[TopicRow, tuple[float, ...] | None]
_TOPIC_ORDERS: Final[dict[str, Callable[[_TopicRow], Any]]] = {
    "topic": lambda row: row[0].topic,
    "rate": lambda row: -(row[1] or (-1.0,))[0],
    "messages": lambda row: -row[0].messages,
    "last": lambda row: -(row[0].last or 0.0),
}
_RowT = TypeVar("_RowT")


def _part(rows: Sequence[_RowT], page: int) -> tuple[Sequence[_RowT], int, int]:
    """The rows of a page, its number, and the last one's; what is no page's number stands for the nearest."""
    last = max(1, -(-len(rows) // PER_PAGE))
    page = min(max(1, page), last)
    return rows[(page - 1) * PER_PAGE : page * PER_PAGE], page, last


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
        shown, page, last = _part(rows, page)
        return pages.page(
            "_connections.html" if rows_only else "connections.html",
            visitor,
            status=200 if error is None else status_of(error),
            rows=shown,
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
    async def topics(
        request: Request, tenant: str = "", find: str = "", sort: str = "topic", page: int = 1, rows: int = 0
    ) -> Response:
        visitor, find = await pages.visitor(request), find.strip()
        tenants = await asyncio.to_thread(choices, visitor, registry)
        chosen = chosen_tenant(visitor, tenant) or tenants[0]
        look, error = None, None
        found: list[_TopicRow] = []
        try:
            look = await watch.topics(chosen, find)
            found = [(row, look.rates.get(row.topic)) for row in look.result.topics]
        except OperationsError as failure:
            error = failure
        found.sort(key=_TOPIC_ORDERS.get(sort, _TOPIC_ORDERS["topic"]))
        shown, page, last = _part(found, page)
        return pages.page(
            "_topics.html" if rows else "topics.html",
            visitor,
            status=200 if error is None else status_of(error),
            rows=shown,
            listed=len(found),
            topics=None if look is None else look.result,
            tenant=chosen,
            tenants=tenants,
            find=find,
            sort=sort if sort in _TOPIC_ORDERS else "topic",
            page=page,
            last=last,
            error=error,
            now_s=time.time(),
        )

    return routes
