"""OAuth clients of tenants: made and removed; and the lines that connect a new one from a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.visitors import Visitor
from gateway.messaging.errors import MessagingError
from gateway.messaging.rules import Endpoint, Scheme
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from meshwire.identity import IdentityError, Role, TenantId

__all__ = ["Line", "connection_lines", "router"]

CLIENT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)
_DEVICE: Final = "coap://SSN$MAC.SG.YEL01.SSN.SSNSGS.NET:4849/snsr/arduino/temp?sens"


@dataclass(frozen=True, slots=True)
class Line:
    """Something to paste into a terminal."""

    title: str
    text: str


def connection_lines(
    tenant: str, id: str, secret: str, places: Mapping[str, str], endpoints: Sequence[Endpoint]
) -> list[Line]:
    """Ready-made lines for a client that was just made; the first one gets the token that the others use.

    Args:
        tenant: whose client it is.
        id: of the client.
        secret: of the client.
        places: `http`, `coap`, `mqtt_host`, `mqtt_port` and `mqtt_scheme` of this gateway.
        endpoints: of the account; the gateway's own broker is named when none of them speaks MQTT over TCP or TLS.
    """
    spoken = (Scheme.MQTT, Scheme.MQTTS)
    endpoint = min(
        (each for each in endpoints if each.scheme in spoken), key=lambda each: spoken.index(each.scheme), default=None
    )
    host = places["mqtt_host"] if endpoint is None else endpoint.domain
    port = places["mqtt_port"] if endpoint is None else str(endpoint.port)
    is_tls = places["mqtt_scheme"] == Scheme.MQTTS if endpoint is None else endpoint.scheme.is_tls
    body = f'{{"clientId":"{id}","clientSecret":"{secret}"}}'
    token = (
        f"TOKEN=$(curl -s {places['http']}/api/tokens -H 'Content-Type: application/json' -d '{body}' "
        "| python3 -c 'import json, sys; print(json.load(sys.stdin)[\"accessToken\"])')"
    )
    subscribe = (
        f"mosquitto_sub -h {host} -p {port}{' --tls-use-os-certs' if is_tls else ''} "
        f"-u notused -P \"$TOKEN\" -t '{tenant}/read/#' -F '%t %x'"
    )
    python = "\n".join(
        (
            "python3 - \"$TOKEN\" <<'END'  # pip install paho-mqtt",
            "import sys",
            "import paho.mqtt.subscribe as subscribe",
            "subscribe.callback(",
            "    lambda client, data, message: print(message.topic, message.payload),",
            f'    "{tenant}/read/#", hostname="{host}", port={port},{" tls={}," if is_tls else ""}',
            '    auth={"username": "notused", "password": sys.argv[1]},',
            ")",
            "END",
        )
    )
    return [
        Line("A token, for an hour", token),
        Line("Readings by mosquitto_sub", subscribe),
        Line("Readings by Python", python),
        Line("Devices by curl", f'curl -s {places["http"]}/api/solutions/sandbox/devices -H "Authorization: $TOKEN"'),
        Line(
            "A command by aiocoap-client (MAC: the device's)",
            f'aiocoap-client --proxy {places["coap"]} "{_DEVICE}&access_token=$TOKEN"',
        ),
    ]


def router(
    pages: Pages, registry: Registry, places: Callable[[], Mapping[str, str]], messaging: MessagingService
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    def endpoints_of(tenant: str) -> list[Endpoint]:
        picture = messaging.picture()
        try:
            return picture.endpoints_of(picture.account(tenant).id)
        except MessagingError:
            return []

    async def listing(
        visitor: Visitor, *, status: int = 200, error: str | None = None, issued: object = None, tenant: str = ""
    ) -> Response:
        clients = await asyncio.to_thread(registry.account_records, "client")
        tenants = await asyncio.to_thread(registry.tenants)
        return pages.page(
            "clients.html",
            visitor,
            status=status,
            clients=clients,
            tenants=[each.value for each in tenants],
            tenant=tenant,
            error=error,
            issued=issued,
        )

    @routes.get("/console/clients")
    async def clients(request: Request, tenant: str = "") -> Response:
        return await listing(await pages.administrator(request), tenant=tenant)

    @routes.post("/console/clients")
    async def add_client(request: Request) -> Response:
        """Make a pair; the secret is in this answer and nowhere else."""
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            tenant = TenantId(form.text("tenant"))
        except IdentityError as error:
            return await listing(form.visitor, status=422, error=str(error), tenant=form.text("tenant"))
        if tenant not in await asyncio.to_thread(registry.tenants):
            unknown = f"There is no account {tenant}: choose one, or make it under Messaging."
            return await listing(form.visitor, status=422, error=unknown)
        made = await asyncio.to_thread(registry.add_client, tenant, CLIENT_ROLES, by=form.visitor.name)
        endpoints = await asyncio.to_thread(endpoints_of, tenant.value)
        lines = connection_lines(tenant.value, made.id, made.secret, places(), endpoints)
        issued = {"id": made.id, "secret": made.secret, "tenant": tenant.value, "lines": lines}
        return await listing(form.visitor, issued=issued)

    @routes.post("/console/clients/remove")
    async def remove_client(request: Request) -> Response:
        await pages.administrator(request)
        form = await pages.form(request)
        if not await asyncio.to_thread(registry.remove_account, form.text("id"), "client", by=form.visitor.name):
            return await listing(form.visitor, status=404, error=f"There is no client {form.text('id')!r} (any more).")
        return pages.go("/console/clients")

    return routes
