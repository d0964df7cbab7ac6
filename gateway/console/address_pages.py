"""Addresses of the broker: a live table, made and changed by forms, deleted; and what waits at one, looked at without
taking it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request, Response

from gateway.commands.desk import CommandDesk
from gateway.commands.store import Filter
from gateway.console.ownership import principal_of
from gateway.console.payloads import shown_payload
from gateway.console.rendering import Form, PageRoute, Pages
from gateway.console.tenancy import choices, chosen_tenant, status_of
from gateway.console.visitors import Visitor
from gateway.console.watch import Look, Watch
from gateway.operations.errors import OperationsError
from gateway.operations.records import AddressRow, Browsed, PlanUse
from gateway.registry import Registry
from meshwire.identity import TenantId

__all__ = ["plan_figures", "router"]

PLACE: Final = "/console/messaging/addresses"
ONE: Final = "/console/messaging/address"
TYPES: Final = {
    "queue": "stored; each message goes to one of the competing receivers, now or later",
    "topic": "stored; each subscription gets each message",
    "anycast": "direct; each message goes to one of the receivers that are there",
    "multicast": "direct; each message goes to all receivers that are there",
}
PER_PAGE: Final = 100
BROWSED_AT_ONCE: Final = 50
MOST_COMMANDS: Final = 1_000
"""Counted at most."""
_COMPETING: Final = ("queue", "anycast")
_NUMBERS: Final[dict[str, Sequence[str]]] = {
    "min_ttl_s": tuple(TYPES),
    "max_ttl_s": tuple(TYPES),
    "max_messages": ("queue",),
    "max_octets": ("queue",),
    "max_waiting": ("anycast",),
    "max_deliveries": _COMPETING,
}
"""Bounds, and the types that have a use for each."""
_NAMES: Final[dict[str, Sequence[str]]] = {"dead_letter": _COMPETING, "expired_to": _COMPETING}


def plan_figures(use: PlanUse) -> list[dict[str, Any]]:
    """A tenant's bounds beside what it uses; `most` is None where there is no bound."""
    plan = use.plan
    rows = (
        ("Addresses", use.addresses, plan.get("max_addresses"), ""),
        ("Connections", use.connections, plan.get("max_connections"), ""),
        ("Messages that wait", use.queued_messages, plan.get("max_queued_messages"), ""),
        ("Octets that wait", use.queued_octets, plan.get("max_queued_octets"), ""),
        ("Messages a second", None, plan.get("max_messages_per_s"), "at most"),
        ("Octets of a message", None, plan.get("max_payload_octets"), "at most"),
    )
    return [
        {"name": name, "used": used, "most": most, "words": words}
        for name, used, most, words in rows
        if used is not None or most is not None
    ]


def router(
    pages: Pages, registry: Registry, watch: Watch, commands: CommandDesk, direct_tenants: Collection[str]
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    desk = watch.desk

    async def waiting(visitor: Visitor, tenant: str) -> int:
        """Commands of a tenant that are not at their end."""
        wanted = Filter(TenantId(tenant), unfinished=True, limit=MOST_COMMANDS)
        return len(await commands.select(wanted, principal_of(visitor)))

    async def listing(
        visitor: Visitor,
        tenant: str | None,
        *,
        page: int = 1,
        rows_only: bool = False,
        failed: OperationsError | None = None,
        values: Mapping[str, str] | None = None,
    ) -> Response:
        look: Look[Sequence[AddressRow]] | None = None
        plan: PlanUse | None = None
        error = failed
        try:
            look = await watch.addresses(tenant)
            plan = None if tenant is None else await desk.plan(tenant)
        except OperationsError as failure:
            error = error or failure
        rows = () if look is None else look.result
        last = max(1, -(-len(rows) // PER_PAGE))
        page = min(page, last)
        return pages.page(
            "_addresses.html" if rows_only else "addresses.html",
            visitor,
            status=200 if error is None else status_of(error),
            rows=rows[(page - 1) * PER_PAGE : page * PER_PAGE],
            page=page,
            last=last,
            rates={} if look is None else look.rates,
            is_known=look is not None,
            plan=() if plan is None else plan_figures(plan),
            is_direct=tenant in direct_tenants,
            commands=0 if rows_only or tenant is None else await waiting(visitor, tenant),
            most_commands=MOST_COMMANDS,
            tenant=tenant,
            tenants=() if rows_only else await asyncio.to_thread(choices, visitor, registry),
            types=TYPES,
            values=values or {},
            error=error,
        )

    async def one(
        visitor: Visitor,
        tenant: str,
        name: str,
        *,
        after: int = 0,
        figures_only: bool = False,
        failed: OperationsError | None = None,
        values: Mapping[str, str] | None = None,
    ) -> Response:
        messages: Sequence[Browsed] = ()
        following: int | None = None
        error = failed
        look: Look[Sequence[AddressRow]] | None = None
        address = None
        try:
            look = await watch.addresses(tenant, now=not figures_only)
            address = next((row for row in look.result if row.name == name), None)
            if address is not None and address.is_competing and not figures_only:
                messages, following = await desk.browse(tenant, name, after, BROWSED_AT_ONCE)
        except OperationsError as failure:
            error = error or failure
        if look is not None and address is None:
            raise HTTPException(404, "there is no such address (any more)")
        return pages.page(
            "_address_figures.html" if figures_only else "address.html",
            visitor,
            status=200 if error is None else status_of(error),
            tenant=tenant,
            name=name,
            row=address,
            rates=() if look is None or address is None else look.rates.get(address.key, ()),
            messages=[(message, shown_payload(message.payload, message.content_type)) for message in messages],
            following=following,
            after=after,
            types=TYPES,
            values=values if values is not None else {} if address is None else _values(address),
            error=error,
            now_s=time.time(),
        )

    @routes.get(PLACE)
    async def addresses(request: Request, tenant: str = "", page: int = 1, rows: int = 0) -> Response:
        visitor = await pages.visitor(request)
        return await listing(visitor, chosen_tenant(visitor, tenant), page=max(1, page), rows_only=bool(rows))

    @routes.get(ONE)
    async def address(request: Request, name: str, tenant: str = "", after: int = 0, rows: int = 0) -> Response:
        visitor = await pages.visitor(request)
        chosen = _must(chosen_tenant(visitor, tenant))
        return await one(visitor, chosen, name, after=max(0, after), figures_only=bool(rows))

    @routes.post(PLACE)
    async def add(request: Request) -> Response:
        """Make an address; one of the same name is not replaced."""
        form = await pages.form(request)
        tenant, name = _must(chosen_tenant(form.visitor, form.text("tenant"))), form.text("name")
        try:
            if any(row.name == name for row in await desk.addresses(tenant)):
                failed = OperationsError("this address exists already", evidence=name, fix="open it to change it")
                return await listing(form.visitor, tenant, failed=failed, values=form.fields)
            await put(form, tenant, name, form.text("type"), form.text("filter"), "address.add")
        except OperationsError as failure:
            return await listing(form.visitor, tenant, failed=failure, values=form.fields)
        return pages.go(_path(tenant, name))

    @routes.post(ONE)
    async def change(request: Request) -> Response:
        """Other bounds; name, type and filter stay, and so do the messages."""
        form = await pages.form(request)
        tenant, name = _must(chosen_tenant(form.visitor, form.text("tenant"))), form.fields.get("name", "")
        try:
            row = next((row for row in await desk.addresses(tenant) if row.name == name), None)
            if row is None:
                raise HTTPException(404, "there is no such address (any more)")
            await put(form, tenant, name, row.type, row.filter or "", "address.set")
        except OperationsError as failure:
            return await one(form.visitor, tenant, name, failed=failure, values=form.fields)
        return pages.go(_path(tenant, name))

    @routes.post(f"{ONE}/remove")
    async def remove(request: Request) -> Response:
        form = await pages.form(request)
        tenant, name = _must(chosen_tenant(form.visitor, form.text("tenant"))), form.fields.get("name", "")
        try:
            await desk.remove_address(tenant, name)
        except OperationsError as failure:
            return await listing(form.visitor, tenant, failed=failure)
        finally:
            watch.changed()
        registry.audit.note(form.visitor.name, "address.remove", name, tenant)
        return pages.go(f"{PLACE}?tenant={tenant}")

    async def put(form: Form, tenant: str, name: str, type: str, filter: str, action: str) -> None:
        definition = {"tenant": tenant, "name": name, "type": type} | ({"filter": filter} if filter else {})
        bounds = _bounds(form, type)
        try:
            await desk.put_address(definition | bounds)
        finally:
            watch.changed()
        registry.audit.note(form.visitor.name, action, name, tenant, type=type, **bounds)

    return routes


def _bounds(form: Form, type: str) -> dict[str, Any]:
    """What the form says and this type has a use for; what is empty keeps the broker's default."""
    bounds: dict[str, Any] = {}
    for field, types in _NUMBERS.items():
        text = form.text(field)
        if text and type in types:
            bounds[field] = int(text) if text.isdecimal() and len(text) < 16 else text
    for field, types in _NAMES.items():
        if form.text(field) and type in types:
            bounds[field] = form.text(field)
    return bounds


def _values(row: AddressRow) -> dict[str, str]:
    """An address as its form shows it."""
    fields = (*_NUMBERS, *_NAMES)
    return {field: "" if (value := getattr(row, field)) is None else str(value) for field in fields}


def _must(tenant: str | None) -> str:
    if tenant is None:
        raise HTTPException(422, "choose the account of the address")
    return tenant


def _path(tenant: str, name: str) -> str:
    return f"{ONE}?tenant={tenant}&name={quote(name, safe='')}"
