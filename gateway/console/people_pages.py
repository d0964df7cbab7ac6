"""Who may sign in: administrators, and users of one account; and everybody's own password."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.visitors import Visitor
from gateway.console_accounts import KIND, is_administrator
from gateway.registry import Registry

__all__ = ["router"]

PLACE: Final = "/console/people"
PASSWORD: Final = "/console/password"
NOTHING: Final[Mapping[str, str]] = {}


def router(pages: Pages, registry: Registry) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    visitors = pages.visitors

    async def listing(
        visitor: Visitor, *, status: int = 200, error: str | None = None, typed: Mapping[str, str] = NOTHING
    ) -> Response:
        tenants = await asyncio.to_thread(registry.tenants)
        return pages.page(
            "people.html",
            visitor,
            status=status,
            error=error,
            typed=typed,
            people=await asyncio.to_thread(registry.account_records, KIND),
            is_administrator=is_administrator,
            tenants=[each.value for each in tenants],
        )

    @routes.get(PLACE)
    async def people(request: Request) -> Response:
        return await listing(await pages.administrator(request))

    @routes.post(PLACE)
    async def add(request: Request) -> Response:
        """An administrator, or a user of an account that exists."""
        await pages.administrator(request)
        form = await pages.form(request)
        name, password, by = form.text("name"), form.fields.get("password", ""), form.visitor.name
        tenants = {each.value: each for each in await asyncio.to_thread(registry.tenants)}
        if (sees := form.text("sees")) == "":
            error = await visitors.add_administrator(name, password, by=by)
        elif sees in tenants:
            error = await visitors.add_tenant_user(name, password, tenants[sees], by=by)
        else:
            error = f"There is no account {sees}: make it under Messaging."
        if error is not None:
            return await listing(form.visitor, status=422, error=error, typed=form.fields)
        return pages.go(PLACE)

    @routes.post(f"{PLACE}/remove")
    async def remove(request: Request) -> Response:
        """Anybody but oneself, so that an administrator is left."""
        await pages.administrator(request)
        form = await pages.form(request)
        name = form.fields.get("name", "")
        if name == form.visitor.name:
            return await listing(form.visitor, status=409, error="Nobody removes themselves: another has to.")
        if not await asyncio.to_thread(registry.remove_account, name, KIND, by=form.visitor.name):
            return await listing(form.visitor, status=404, error=f"There is nobody called {name!r} (any more).")
        return pages.go(PLACE)

    @routes.get(PASSWORD)
    async def password(request: Request) -> Response:
        return pages.page("password.html", await pages.visitor(request), error=None, is_changed=False)

    @routes.post(PASSWORD)
    async def change(request: Request) -> Response:
        """The visitor's own password."""
        form = await pages.form(request)
        fresh = form.fields.get("password", "")
        if fresh != form.fields.get("again", ""):
            error: str | None = "The two passwords differ."
        else:
            error = await visitors.change_password(form.visitor, form.fields.get("current", ""), fresh)
        status = 200 if error is None else 422
        return pages.page("password.html", form.visitor, status=status, error=error, is_changed=error is None)

    return routes
