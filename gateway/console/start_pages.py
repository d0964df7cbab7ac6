"""First start, after the administrator is made: which boards are on this machine, their NICs, and the first reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from gateway.api.deliveries import Ask
from gateway.console.events import KEEP_ALIVE, Streams, event
from gateway.console.pulse import Pulse
from gateway.console.readings import Reading, series_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.serial_boards import Found, SerialBoards, refuse_port
from gateway.console.visitors import Visitor
from gateway.decoders import DecoderSettings
from gateway.errors import RegistryError
from gateway.registry import Device, Registry
from meshwire.identity import DeviceId, IdentityError, TenantId
from meshwire.notification import decode_reading

__all__ = ["PLACE", "router"]

PLACE: Final = "/console/start"
LOOK_AGAIN_AFTER: Final = 10
"""Samples of the pulse, once there is a reading: looking reads the outbox's newest segment."""
EXAMPLE_MAC: Final = "0013500500470001"


def router(
    pages: Pages,
    registry: Registry,
    pulse: Pulse,
    streams: Streams,
    ask: Ask,
    places: Callable[[], Mapping[str, str]],
    boards: SerialBoards,
    decoders: Mapping[str, DecoderSettings],
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    async def page(
        visitor: Visitor,
        *,
        status: int = 200,
        error: str | None = None,
        found: Sequence[Found] | None = None,
        device: Mapping[str, str] | None = None,
    ) -> Response:
        heard = await news()
        devices, device = registry.devices(), device or {"mac": heard["unknown"], "tenant": ""}
        return pages.page(
            "start.html",
            visitor,
            status=status,
            error=error,
            found=found,
            is_looking=boards.is_looking,
            news=heard,
            devices=devices,
            device=device,
            mac=_example(device["mac"], devices),
            board=next((each for each in found or () if each.is_board), None),
            tenants=[each.value for each in await asyncio.to_thread(registry.tenants)],
            places=places(),
        )

    async def news() -> dict[str, Any]:
        """The newest reading, and the newest NIC that nobody knows; all texts."""
        answers: list[dict[str, Any]] = await ask({"newest": True, "limit": 1})
        notifications = [item for answer in answers for item in answer.get("notifications", ())]
        newest = max(notifications, key=lambda item: item["received_at"], default=None)
        unknown = (item for answer in answers for item in answer.get("refusals", ()))
        names = [item["device"] for item in unknown if item["reason"] == "unknown-device"]
        stranger = next((name for name in names if not _is_known(registry, name)), "")
        return {"reading": _reading(newest, decoders), "unknown": stranger, **_where(newest)}

    @routes.get(PLACE)
    async def start(request: Request) -> Response:
        return await page(await pages.administrator(request))

    @routes.get(f"{PLACE}/ports")
    async def ports(request: Request) -> Response:
        """A part of the page that takes its time, and is fetched by it."""
        visitor = await pages.administrator(request)
        return pages.page("ports.html", visitor, ports=await boards.ports())

    @routes.post(f"{PLACE}/look")
    async def look(request: Request) -> Response:
        """Ask what answers at the ports of this machine, or at the one that is named."""
        await pages.administrator(request)
        form = await pages.form(request)
        named = form.text("port")
        if named and (reason := refuse_port(named)) is not None:
            return await page(form.visitor, status=422, error=reason)
        if boards.is_looking:
            return await page(form.visitor, status=409, error="Somebody is looking already: try again in a minute.")
        ports = [named] if named else [each.name for each in await boards.ports() if not each.holders]
        return await page(form.visitor, found=await boards.look(ports))

    @routes.post(f"{PLACE}/devices")
    async def add_device(request: Request) -> Response:
        """Provision a NIC."""
        await pages.administrator(request)
        form = await pages.form(request)
        typed = {"mac": form.text("mac"), "tenant": form.text("tenant")}
        try:
            mac, tenant = DeviceId.parse(typed["mac"]), TenantId(typed["tenant"])
            await asyncio.to_thread(registry.add_device, mac, tenant, by=form.visitor.name)
        except (IdentityError, RegistryError) as error:
            return await page(form.visitor, status=422, error=str(error), device=typed)
        return pages.go(PLACE)

    @routes.get(f"{PLACE}/live")
    async def live(request: Request) -> Response:
        """Server-sent events: what is new; once a second until the first reading has come."""
        await pages.administrator(request)
        return streams.answer(changes(), pages.may_still(request))

    async def changes() -> AsyncGenerator[str]:
        told: dict[str, Any] | None = None
        while True:
            heard = await news()
            yield KEEP_ALIVE if heard == told else event(json.dumps(heard))
            told = heard
            for _ in range(LOOK_AGAIN_AFTER if heard["reading"] else 1):
                await pulse.next()

    return routes


def _example(typed: str, devices: Sequence[Device]) -> str:
    """The MAC in the line to paste: what was typed or heard if it is one, else a known one's."""
    try:
        return DeviceId.parse(typed).value
    except IdentityError:
        return devices[0].mac.value if devices else EXAMPLE_MAC


def _is_known(registry: Registry, mac: str) -> bool:
    try:
        return registry.device(DeviceId.parse(mac)) is not None
    except IdentityError:
        return True


def _reading(item: Mapping[str, Any] | None, decoders: Mapping[str, DecoderSettings]) -> str:
    """A notification in words: its numbers, else its text, else its length."""
    if item is None:
        return ""
    payload = bytes.fromhex(item["payload"])
    one = Reading(item["tenant"], item["path"], item["received_at"], item.get("content_format"), payload)
    numbers = [f"{each.name} {each.points[-1][1]:.6g} {each.unit}".rstrip() for each in series_of([one], decoders)]
    reading = decode_reading(item["path"].rsplit("/", 1)[-1], payload)
    return ", ".join(numbers) or (reading.text if reading is not None else f"{len(payload)} octets")


def _where(item: Mapping[str, Any] | None) -> dict[str, str]:
    if item is None:
        return {"device": "", "tenant": "", "path": "", "at": ""}
    at = datetime.fromtimestamp(item["received_at"], UTC).strftime("%H:%M:%S UTC")
    return {"device": item["device"], "tenant": item["tenant"], "path": item["path"], "at": at}
