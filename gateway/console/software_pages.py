"""A NIC's software page: an image is chosen and goes to the board as a stored command in blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from gateway.commands.desk import CommandDesk
from gateway.commands.documents import command_document
from gateway.commands.errors import CommandError
from gateway.commands.orders import OrderBody, order_of
from gateway.commands.updates import FIRMWARE_PATH, WEEK_S, update_body
from gateway.console.ownership import device_of, principal_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry

__all__ = ["router"]

_NEW: Final = {"path": FIRMWARE_PATH, "ttl": f"{WEEK_S:.0f}"}
"""What the form begins with."""


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row], desk: CommandDesk) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    def page(
        visitor: Visitor,
        device: Device,
        update: Mapping[str, str] = _NEW,
        *,
        status: int = 200,
        error: str | None = None,
        sent: Mapping[str, Any] | None = None,
    ) -> Response:
        now_s = time.time()
        return pages.page(
            "nic_software.html",
            visitor,
            status=status,
            row=row(device, now_s),
            now_s=now_s,
            update=update,
            longest=desk.max_payload_octets,
            error=error,
            sent=sent,
        )

    @routes.get("/console/network/{mac}/software")
    async def form(request: Request, mac: str) -> Response:
        visitor = await pages.visitor(request)
        return page(visitor, device_of(registry, visitor, mac))

    @routes.post("/console/network/{mac}/software")
    async def send(request: Request, mac: str) -> Response:
        """Take an image; the command waits from now on for its turn, or for the device."""
        form = await pages.upload(request, desk.max_payload_octets)
        device, principal = device_of(registry, form.visitor, mac), principal_of(form.visitor)
        update, image = {name: form.text(name) for name in _NEW}, form.files.get("image", b"")
        if not image:
            return page(form.visitor, device, update, status=422, error="Choose a file that is not empty.")
        try:
            body = OrderBody.model_validate(update_body(image, update["path"], 0.0) | {"ttl": update["ttl"]})
            submission = await desk.submit(order_of(body), device.mac, principal, "console")
        except ValidationError as error:
            first = error.errors()[0]
            return page(form.visitor, device, update, status=422, error=f"{first['loc'][0]}: {first['msg']}")
        except CommandError as error:
            return page(form.visitor, device, update, status=409, error=str(error))
        return page(form.visitor, device, sent=command_document(submission.command) | {"octets": len(image)})

    return routes
