"""The messaging service for administrators: instances, the account tree, and for one account its assignment, connection
settings, endpoints, credentials, and the next step of the walk to a working account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from gateway.console.rendering import Form, PageRoute, Pages
from gateway.console.visitors import Visitor
from gateway.messaging.endpoint_check import Step, check_endpoint
from gateway.messaging.errors import InUseError, MessagingError, UnknownError
from gateway.messaging.publishing import dns_records
from gateway.messaging.rules import Option, Scheme, words
from gateway.messaging.service import ROOT, MessagingService, Picture
from gateway.registry import Registry
from meshwire.identity import IdentityError, TenantId

__all__ = ["WalkStep", "router", "walk_of"]

T = TypeVar("T")
NOTHING: Mapping[str, str] = {}
PLACE = "/console/messaging"
NO_INSTANCE = "not needed: a broker that belongs to no instance serves every account"


@dataclass(frozen=True, slots=True)
class WalkStep:
    """One step of a new account's walk."""

    name: str
    is_done: bool
    words: str


def walk_of(picture: Picture, id: str, clients: Sequence[str]) -> list[WalkStep]:
    """How far an account is on its way to a client that connects."""
    standing, endpoints = picture.tree.standing(id, picture.instances), picture.endpoints_of(id)
    is_served, is_free = standing.instance is not None, not picture.instances
    nowhere, whatever = "every instance refuses it", "follow from the instance"
    if is_free:
        nowhere, whatever = NO_INSTANCE, "what its broker offers"
    may = words(standing.options) if is_served else whatever
    return [
        WalkStep("Created", True, f"level {picture.tree.level(id)}"),
        WalkStep("Assigned", is_served or is_free, f"to {standing.instance}" if is_served else nowhere),
        WalkStep("Connection settings", bool(standing.options) or is_free, may),
        WalkStep("Endpoint", bool(endpoints), ", ".join(each.url for each in endpoints) or "clients know no address"),
        WalkStep(
            "Credentials",
            bool(clients),
            f"{len(clients)} client{'s' * (len(clients) > 1)}" if clients else "no client can log in",
        ),
    ]


def router(pages: Pages, registry: Registry, service: MessagingService) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    async def do(act: Callable[..., T], *arguments: Any, **named: Any) -> T:
        return await asyncio.to_thread(act, *arguments, **named)

    async def overview(
        visitor: Visitor,
        *,
        status: int = 200,
        error: MessagingError | None = None,
        typed: Mapping[str, str] = NOTHING,
    ) -> Response:
        states, picture = await do(service.instance_states), await do(service.picture)
        tree = picture.tree
        accounts = [tree.accounts[tree.root], *tree.below(tree.root)]
        rows = [
            {"account": each, "level": tree.level(each.id), "standing": tree.standing(each.id, picture.instances)}
            for each in accounts
        ]
        return pages.page(
            "messaging.html", visitor, status=status, error=error, states=states, rows=rows, typed=typed, words=words
        )

    async def account_page(
        visitor: Visitor,
        id: str,
        *,
        status: int = 200,
        error: MessagingError | None = None,
        confirm: dict[str, Any] | None = None,
        checked: tuple[str, list[Step]] | None = None,
        editing: str = "",
        typed: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Response:
        states, picture = await do(service.instance_states), await do(service.picture)
        try:
            account = picture.account(id)
        except UnknownError as unknown:
            return await overview(visitor, status=404, error=unknown)
        tree, tenant = picture.tree, TenantId(id)
        clients = [each.name for each in await do(registry.account_records, "client", tenant)]
        own = [each for each in picture.endpoints if each.account == id]
        return pages.page(
            "account.html",
            visitor,
            status=status,
            error=error,
            account=account,
            level=tree.level(id),
            standing=tree.standing(id, picture.instances),
            assigner=tree.assigner(id),
            states=states,
            options=list(Option),
            schemes=list(Scheme),
            endpoints=[{"endpoint": each, "dns": dns_records(each)} for each in own],
            inherited=[each for each in picture.endpoints_of(id) if each.account != id],
            walk=walk_of(picture, id, clients),
            confirm=confirm,
            checked=checked,
            editing=editing,
            typed=typed or {},
            words=words,
        )

    async def change(
        request: Request, id: str, act: Callable[[Form], Callable[[], object]], *, where: str = "", editing: str = ""
    ) -> Response:
        """One change of an account; what breaks a rule is said on the account's own page, in front of what was typed.

        Args:
            where: the name of its form on the page.
            editing: the endpoint that it changes.
        """
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            await do(act(form))
        except InUseError as error:
            confirm = {"uses": error.uses, "path": request.url.path, "fields": dict(form.fields)}
            return await account_page(form.visitor, id, status=409, confirm=confirm)
        except UnknownError as error:
            return await overview(form.visitor, status=404, error=error)
        except MessagingError as error:
            typed = {where: form.fields}
            return await account_page(form.visitor, id, status=409, error=error, editing=editing, typed=typed)
        return pages.go(f"{PLACE}/accounts/{id}")

    @routes.get(PLACE)
    async def messaging(request: Request) -> Response:
        visitor = await pages.visitor(request)
        return await overview(visitor) if visitor.is_admin else pages.go(f"{PLACE}/addresses")

    @routes.post(f"{PLACE}/accounts")
    async def add_account(request: Request) -> Response:
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            id, parent = TenantId(form.text("id")), form.text("parent") or ROOT
            await do(service.add_account, id, parent=parent, title=form.text("title"), by=form.visitor.name)
        except IdentityError as error:
            failed = MessagingError("the account can't be made", evidence=str(error), fix="choose another id")
            return await overview(form.visitor, status=409, error=failed, typed=form.fields)
        except MessagingError as error:
            return await overview(form.visitor, status=409, error=error, typed=form.fields)
        return pages.go(f"{PLACE}/accounts/{id}")

    @routes.get(f"{PLACE}/accounts/{{id}}")
    async def account(request: Request, id: str, edit: str = "") -> Response:
        return await account_page(await pages.administrator(request), id, editing=edit)

    @routes.post(f"{PLACE}/accounts/{{id}}/assign")
    async def assign(request: Request, id: str) -> Response:
        return await change(
            request, id, lambda form: lambda: service.assign(id, form.text("instance"), by=form.visitor.name)
        )

    @routes.post(f"{PLACE}/accounts/{{id}}/unassign")
    async def unassign(request: Request, id: str) -> Response:
        return await change(request, id, lambda form: lambda: service.unassign(id, by=form.visitor.name))

    @routes.post(f"{PLACE}/accounts/{{id}}/options")
    async def set_options(request: Request, id: str) -> Response:
        def act(form: Form) -> Callable[[], object]:
            chosen = frozenset(option for option in Option if form.text(option.value))
            return lambda: service.set_options(id, chosen or None, by=form.visitor.name)

        return await change(request, id, act, where="options")

    @routes.post(f"{PLACE}/accounts/{{id}}/endpoints")
    async def add_endpoint(request: Request, id: str) -> Response:
        def act(form: Form) -> Callable[[], object]:
            scheme, port = _scheme_and_port(form)
            domain, secure = form.text("domain"), bool(form.text("secure"))
            return lambda: service.add_endpoint(id, scheme, domain, port, secure=secure, by=form.visitor.name)

        return await change(request, id, act, where="endpoint")

    @routes.post(f"{PLACE}/accounts/{{id}}/endpoints/{{endpoint}}")
    async def set_endpoint(request: Request, id: str, endpoint: str) -> Response:
        def act(form: Form) -> Callable[[], object]:
            scheme, port = _scheme_and_port(form)
            domain, secure = form.text("domain"), bool(form.text("secure"))
            return lambda: service.set_endpoint(
                endpoint,
                scheme=scheme,
                domain=domain,
                port=port,
                secure=secure,
                confirmed=bool(form.text("confirmed")),
                by=form.visitor.name,
            )

        return await change(request, id, act, where=endpoint, editing=endpoint)

    @routes.post(f"{PLACE}/accounts/{{id}}/endpoints/{{endpoint}}/remove")
    async def remove_endpoint(request: Request, id: str, endpoint: str) -> Response:
        def act(form: Form) -> Callable[[], object]:
            return lambda: service.remove_endpoint(
                endpoint, confirmed=bool(form.text("confirmed")), by=form.visitor.name
            )

        return await change(request, id, act)

    @routes.post(f"{PLACE}/accounts/{{id}}/endpoints/{{endpoint}}/check")
    async def check(request: Request, id: str, endpoint: str) -> Response:
        """Try an endpoint from here: name, connection, certificate, answer."""
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            found = (await do(service.picture)).endpoint(endpoint)
        except UnknownError as error:
            return await overview(form.visitor, status=404, error=error)
        return await account_page(form.visitor, id, checked=(endpoint, await check_endpoint(found)))

    return routes


def _scheme_and_port(form: Form) -> tuple[Scheme, int]:
    """Of an endpoint's form; MessagingError when one of them is none."""
    scheme, port = form.text("scheme"), form.text("port")
    if scheme not in list(Scheme) or not (port.isascii() and port.isdigit() and len(port) < 6):
        evidence = f"schema {scheme!r}, port {port!r}"
        raise MessagingError("the endpoint can't be read", evidence=evidence, fix="choose schema and port")
    return Scheme(scheme), int(port)
