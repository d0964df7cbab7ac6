"""An MQTT client in a page, to try what a role of an account may receive and send; and the tokens that it uses.

The page's policy lets its script open one WebSocket, that of the chosen listener or endpoint, and nothing else. The
token is made when the visitor connects, lives for minutes, and stands in no page.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from gateway.console.rendering import SECURITY_HEADERS, PageRoute, Pages, is_socket_origin
from gateway.console.tenancy import choices, chosen_tenant, status_of
from gateway.console.watch import Watch
from gateway.messaging.errors import MessagingError
from gateway.messaging.service import MessagingService
from gateway.operations.errors import NotOffered, OperationsError
from gateway.operations.records import Listener, RoleRow
from gateway.registry import Registry
from meshwire.identity import Role, TenantId
from meshwire.tokens import SigningKeys

__all__ = ["origin_of", "router"]

PLACE: Final = "/console/messaging/client"
TOKEN_TTL_S: Final = 600.0
_WEB: Final = ("ws", "wss")
_PATHS: Final = {"rabbitmq": "/ws"}
"""Path of MQTT by engine; our own broker and Mosquitto take any."""
_LEVELS: Final = {"rabbitmq": 4}
"""MQTT protocol level by engine: RabbitMQ 3 has no MQTT 5."""


def origin_of(listener: Listener, asked_host: str) -> str | None:
    """A listener as the origin of a WebSocket; None for one that a browser can't use.

    Args:
        listener: what the broker says.
        asked_host: the host by which the visitor reached us; stands for "all addresses".
    """
    if listener.kind not in _WEB:
        return None
    host = listener.host
    try:
        address = ipaddress.ip_address(host)
        host = f"[{address}]" if address.version == 6 else host
        if address.is_unspecified:
            host = asked_host
    except ValueError:
        host = host or asked_host
    return f"{listener.kind}://{host}:{listener.port}"


def router(
    pages: Pages, registry: Registry, messaging: MessagingService, watch: Watch, keys: Callable[[], SigningKeys]
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    desk = watch.desk

    def endpoints_of(tenant: str) -> list[str]:
        picture = messaging.picture()
        try:
            found = picture.endpoints_of(picture.account(tenant).id)
        except MessagingError:
            return []
        return [str(origin) for each in found if (origin := _endpoint_origin(each.scheme, each.domain, each.port))]

    async def places_of(tenant: str, asked_host: str) -> list[str]:
        """Where a browser may reach the broker: the account's endpoints, then the broker's own listeners."""
        found = await asyncio.to_thread(endpoints_of, tenant)
        try:
            listeners = await desk.listeners()
        except NotOffered:
            listeners = ()
        own = [origin for each in listeners if (origin := origin_of(each, asked_host)) is not None]
        return [each for each in dict.fromkeys((*found, *own)) if is_socket_origin(each)]

    async def roles_of(tenant: str) -> list[RoleRow]:
        """Roles that a token may hold, with their filters for this tenant."""
        try:
            known = await desk.roles()
        except NotOffered:
            known = [RoleRow(name=role.value) for role in _TOKEN_ROLES]
        return [_in_tenant(row, tenant) for row in known if not row.password_only]

    @routes.get(PLACE)
    async def client(request: Request, tenant: str = "", at: str = "", filter: str = "") -> Response:
        visitor = await pages.visitor(request)
        tenants = await asyncio.to_thread(choices, visitor, registry)
        chosen = chosen_tenant(visitor, tenant) or tenants[0]
        error: OperationsError | None = None
        places: list[str] = []
        roles: Sequence[RoleRow] = ()
        try:
            places = await places_of(chosen, request.url.hostname or "127.0.0.1")
            roles = await roles_of(chosen)
        except OperationsError as failure:
            error = failure
        place = at if at in places else next(iter(places), "")
        return pages.page(
            "mqtt_client.html",
            visitor,
            status=200 if error is None else status_of(error),
            connect_to=place,
            tenant=chosen,
            tenants=tenants,
            places=places,
            at=place,
            path=_PATHS.get(desk.engine, "/mqtt"),
            level=_LEVELS.get(desk.engine, 5),
            roles=sorted(roles, key=lambda row: (row.name != Role.BUBBLE_UP_READ_CONSUMER.value, row.name)),
            filter=filter[:1000],
            error=error,
        )

    @routes.post(f"{PLACE}/token")
    async def token(request: Request) -> Response:
        """A token for one role of one account, for minutes; written down who made it for whom."""
        form = await pages.form(request)
        tenant, role = chosen_tenant(form.visitor, form.text("tenant")), form.text("role")
        if tenant is None or tenant not in await asyncio.to_thread(choices, form.visitor, registry):
            raise HTTPException(404, "there is no such account")
        try:
            granted = [row.name for row in await roles_of(tenant)]
        except OperationsError as failure:
            return JSONResponse({"detail": str(failure)}, status_of(failure), SECURITY_HEADERS)
        if role not in granted:
            return JSONResponse({"detail": f"{role!r} is no role that a token may hold"}, 422, SECURITY_HEADERS)
        now, identifier = time.time(), f"console-{secrets.token_hex(4)}"
        made = keys().issue(
            TenantId(tenant), (role,), now=now, ttl_s=TOKEN_TTL_S, scope="", client=f"console:{form.visitor.name}"
        )
        registry.audit.note(form.visitor.name, "token.issue", identifier, tenant, role=role, ttl_s=int(TOKEN_TTL_S))
        body = {"token": made, "clientId": identifier, "username": "notused", "expiresAt": now + TOKEN_TTL_S}
        return JSONResponse(body, headers=SECURITY_HEADERS)

    return routes


_TOKEN_ROLES: Final = (
    Role.BUBBLE_UP_READ_CONSUMER,
    Role.BUBBLE_UP_ALERT_CONSUMER,
    Role.PRESENCE_CONSUMER,
    Role.COMMAND_CLIENT,
    Role.ADDRESS_SENDER,
    Role.ADDRESS_RECEIVER,
)
"""Built in; offered where the broker does not tell its roles."""


def _in_tenant(row: RoleRow, tenant: str) -> RoleRow:
    """A role with the tenant put in place in its filters."""

    def filled(filters: list[str] | None) -> list[str] | None:
        return None if filters is None else [each.replace("{tenantId}", tenant) for each in filters]

    return row.model_copy(update={"subscribe": filled(row.subscribe), "publish": filled(row.publish)})


def _endpoint_origin(scheme: str, domain: str, port: int) -> str | None:
    return origin_of(Listener(kind=str(scheme), host=domain, port=port), domain)
