"""One NIC: how it is, what it has sent and where that is, commands that wait, and a form to send one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from gateway.api.deliveries import Ask
from gateway.commands.desk import CommandDesk
from gateway.commands.documents import command_document
from gateway.commands.errors import CommandError
from gateway.commands.orders import OrderBody, order_of
from gateway.commands.records import FINAL_STATES, Command, Event
from gateway.commands.store import Filter
from gateway.console.explain_pages import deliveries_of, refusals_of
from gateway.console.nic_commands import command_values
from gateway.console.ownership import device_of, principal_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry
from meshwire.frame_text import payload_text

__all__ = ["router"]

SHOWN: Final = 10
MOST_SAID: Final = 2_000
"""Characters of a device's answer."""
WAIT_S: Final = 8.0
"""A page waits so long for a command's end."""
KNOWN_PATHS: Final = (
    "snsr/arduino/temp?sens",
    "snsr/arduino/temp?cfg",
    "snsr/.well-known/core",
    ".well-known/core",
    "sys/battery",
    "sys/signal",
    "sys/time",
)
NEW_ORDER: Final = {"method": "GET", "path": KNOWN_PATHS[0], "payload": "", "mode": "direct", "ttl": "3600"}
"""What the form begins with."""


def router(
    pages: Pages,
    registry: Registry,
    row: Callable[[Device, float], Row],
    endpoints: Callable[[], Mapping[str, str]],
    desk: CommandDesk,
    ask: Ask,
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    async def page(
        visitor: Visitor,
        device: Device,
        *,
        status: int = 200,
        sent: Mapping[str, Any] | None = None,
        error: str | None = None,
        order: Mapping[str, str] | None = None,
    ) -> Response:
        now_s = time.time()
        answers = await ask({"device": device.mac.value, "key": None, "limit": SHOWN})
        return pages.page(
            "nic.html",
            visitor,
            status=status,
            row=row(device, now_s),
            endpoints=endpoints(),
            **await command_values(desk, visitor, device, now_s),
            deliveries=deliveries_of(answers, visitor)[:SHOWN],
            refusals=refusals_of(answers),
            known_paths=KNOWN_PATHS,
            sent=sent,
            error=error,
            order=order or NEW_ORDER,
        )

    @routes.get("/console/network/{mac}")
    async def nic(request: Request, mac: str, path: str = "") -> Response:
        visitor = await pages.visitor(request)
        order = NEW_ORDER | {"path": path[:255]} if path else NEW_ORDER
        return await page(visitor, device_of(registry, visitor, mac), order=order)

    @routes.post("/console/network/{mac}/commands")
    async def send(request: Request, mac: str) -> Response:
        """Send a command and show what came of it within a few seconds."""
        form = await pages.form(request)
        device, principal = device_of(registry, form.visitor, mac), principal_of(form.visitor)
        order = {name: form.text(name) for name in ("method", "path", "payload", "mode", "ttl")}
        is_stored = order["mode"] == "stored"
        try:
            body = OrderBody.model_validate(
                {name: order[name] for name in ("method", "path", "mode")}
                | {"payload": order["payload"] or None, "ttl": order["ttl"] if is_stored else None}
            )
            submission = await desk.submit(order_of(body), device.mac, principal, "console")
        except ValidationError as error:
            return await page(form.visitor, device, status=422, error=_first(error), order=order)
        except CommandError as error:
            return await page(form.visitor, device, status=409, error=str(error), order=order)
        if submission.failure is not None:
            reason = f"Not sent: {submission.failure.reason}. A stored command would wait for it."
            return await page(form.visitor, device, status=409, error=reason, order=order)
        document = await after(
            submission.command, 0.0 if is_stored and not row(device, time.time()).is_online else WAIT_S
        )
        return await page(form.visitor, device, sent=document, order=order)

    async def after(command: Command, wait_s: float) -> dict[str, Any]:
        """The command as it is at its end, or after the time."""
        last: Event | None = None
        if wait_s and not command.is_final:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s), contextlib.aclosing(desk.follow(command)) as events:
                    async for event in events:
                        last = event
        command = await desk.again(command)
        result = last if last is not None and last.kind in FINAL_STATES else None
        document = command_document(command, position=desk.position(command), result=result)
        return document | {"said": _said(result)}

    @routes.post("/console/network/{mac}/commands/cancel")
    async def cancel_all(request: Request, mac: str) -> Response:
        """Every command that waits; what is under way by now goes on."""
        form = await pages.form(request)
        device, principal = device_of(registry, form.visitor, mac), principal_of(form.visitor)
        for each in await desk.select(Filter(None, device.mac, None, True, 100), principal):
            with contextlib.suppress(CommandError):
                await desk.cancel(device.mac, each.key.id, principal)
        return pages.go(f"/console/network/{device.mac}")

    @routes.post("/console/network/{mac}/commands/{command}/cancel")
    async def cancel(request: Request, mac: str, command: str) -> Response:
        form = await pages.form(request)
        device = device_of(registry, form.visitor, mac)
        try:
            await desk.cancel(device.mac, command, principal_of(form.visitor))
        except CommandError as error:
            return await page(form.visitor, device, status=409, error=str(error))
        return pages.go(f"/console/network/{device.mac}")

    return routes


def _said(end: Event | None) -> str:
    """A device's answer for people; the document has its octets."""
    if end is None or end.answer is None or not end.answer.payload:
        return ""
    text = end.answer.payload.decode(errors="replace")
    is_lines = all(line.isprintable() for line in text.splitlines()) and "\ufffd" not in text
    return text[:MOST_SAID] if is_lines else payload_text(end.answer, MOST_SAID)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{first['loc'][0] if first['loc'] else 'form'}: {first['msg']}"
