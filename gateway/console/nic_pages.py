"""One NIC: how it is, what it has sent and where that is, commands that wait, and a form to send one; and the page that
follows any notification.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError

from gateway.api.deliveries import Ask, DeliveryAnswer, RefusalAnswer
from gateway.commands.desk import CommandDesk
from gateway.commands.documents import command_document
from gateway.commands.errors import CommandError
from gateway.commands.orders import OrderBody, order_of
from gateway.commands.records import FINAL_STATES, Command, Event
from gateway.commands.store import Filter
from gateway.console.nic_commands import command_values
from gateway.console.ownership import device_of, principal_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry

__all__ = ["router"]

SHOWN: Final = 10
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

_CURES: Final = {
    "unknown-device": "provision it: `meshwire device add MAC --tenant TENANT`",
    "disabled-device": "enable it: `meshwire device set MAC --enable`",
    "outbox-full": "bring the broker back, or raise gateway.outbox.max_octets; the NIC keeps what it has",
    "malformed": "see the NIC's log: its request is not of the form the gateway takes",
    "oscore-required": "start the NIC with its key, --oscore-key FILE; it keeps what it has",
    "oscore-no-key": "make a key: `meshwire device provision MAC --out FILE`, and give it to the NIC",
    "oscore-wrong-key": "give the NIC the file of its latest key, or make one: `meshwire device provision MAC --renew`",
    "oscore-replay": "somebody sends recorded datagrams, or the NIC has lost its state: then renew its key",
    "no-receiver": "a direct reading; start a service that takes them, the NIC sends it again",
    "receivers-busy": "a direct reading; start more services that take them, the NIC sends it again",
    "no-answer": "a direct reading; see why its receivers do not acknowledge, the NIC sends it again",
    "broker-away": "a direct reading; bring the broker back, the NIC sends it again",
}
_WAITS: Final = {
    False: "its acknowledgement has not come; it is sent again",
    True: "its receivers have not answered; the NIC waits",
}
"""By whether a reading is direct."""


@dataclass(frozen=True, slots=True)
class Step:
    """One hop of a notification's way, for the page."""

    name: str
    at: float | None
    state: str
    """done, now, failed or open."""
    words: str


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
            deliveries=_deliveries(answers, visitor)[:SHOWN],
            refusals=_refusals(answers),
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
        return command_document(command, position=desk.position(command), result=result)

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

    @routes.get("/console/explain")
    async def explain(request: Request, what: str = "") -> Response:
        """Where notifications are: by MAC the newest, by key the one."""
        visitor, what = await pages.visitor(request), what.strip()
        found: list[dict[str, Any]] = []
        refusals: list[RefusalAnswer] = []
        error = None
        if what:
            named, _, rest = what.partition("/")
            try:
                device = device_of(registry, visitor, named)
                answers = await ask({"device": device.mac.value, "key": what if rest else None, "limit": 20})
                found = [{"item": each, "steps": steps(each)} for each in _deliveries(answers, visitor)]
                refusals = [] if rest else _refusals(answers)
                if not found and not refusals:
                    error = "Nothing is known of it: it never came here, or so long ago that it is forgotten."
            except HTTPException:
                error = "There is no such device: paste a MAC (16 hex digits) or the `key` of a message."
        return pages.page("explain.html", visitor, what=what, found=found, refusals=refusals, error=error, cures=_CURES)

    return routes


def steps(item: DeliveryAnswer) -> list[Step]:
    """A notification's way hop by hop; what failed is named where it failed."""
    is_lost = item.state in ("dropped", "refused")
    way = [Step("sampled at the board", item.sampled_at, "done", "the NIC's own clock")]
    if item.direct:
        way.append(Step("came to the gateway", item.received_at, "done", "a direct reading, which is not stored"))
    else:
        way.append(Step("stored in the gateway's outbox", item.received_at, "done", "and acknowledged to the NIC"))
    if item.published_at is not None:
        way.append(Step("sent to the broker", item.published_at, "done", ""))
    elif not is_lost:
        way.append(Step("sent to the broker", None, "now", "it waits for the broker; nothing is lost meanwhile"))
    if item.acknowledged_at is not None or item.state == "acknowledged":
        way.append(Step("taken by the broker", item.acknowledged_at, "done", ""))
    elif is_lost:
        way.append(Step(item.state, item.dropped_at, "failed", _cure(item.reason or "unknown")))
    elif item.published_at is not None:
        way.append(Step("taken by the broker", None, "now", _WAITS[item.direct]))
    return way


def _cure(reason: str) -> str:
    return f"{reason}: {_CURES.get(reason, 'see the gateway log of that time')}"


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{first['loc'][0] if first['loc'] else 'form'}: {first['msg']}"


def _deliveries(answers: Sequence[Mapping[str, Any]], visitor: Visitor | None) -> list[DeliveryAnswer]:
    items = [DeliveryAnswer(**item) for answer in answers for item in answer.get("deliveries", ())]
    mine = visitor is None or visitor.tenant is None
    shown = [item for item in items if mine or (visitor and visitor.tenant and item.tenant == visitor.tenant.value)]
    return sorted(shown, key=lambda item: -item.received_at)


def _refusals(answers: Sequence[Mapping[str, Any]]) -> list[RefusalAnswer]:
    return [RefusalAnswer(**item) for answer in answers for item in answer.get("refusals", ())]
