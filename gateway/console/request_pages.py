"""What a NIC and its board can be asked for, and an observation as it comes: for the form on a NIC's page."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Any, Final, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError

from gateway.commands.documents import answer_document
from gateway.commands.errors import CommandError
from gateway.commands.orders import OrderBody, request_of
from gateway.commands.records import bare
from gateway.console.events import KEEP_ALIVE, Streams, event
from gateway.console.nic_words import Resource, resources
from gateway.console.ownership import device_of, is_still_theirs
from gateway.console.rendering import SECURITY_HEADERS, PageRoute, Pages
from gateway.device_failure import DeviceFailure
from gateway.device_reader import DeviceReader
from gateway.exchange import Response as Answer
from gateway.registry import Device, Registry
from meshwire.coap import codes, options
from meshwire.frame_text import payload_text
from meshwire.identity import DeviceId, TenantId

__all__ = ["router"]

CORE: Final = {"nic": (".well-known/core", ""), "board": ("snsr/.well-known/core", "snsr/")}
"""Who is asked where, and what stands in front of the paths that it names."""
KEPT_S: Final = 600.0
"""A list is asked for once in so long, whoever opens the page."""
MOST_KEPT: Final = 1_000
MOST_PAGES: Final = 50
MOST_S: Final = 600.0


class _Lists:
    """Lists of resources, kept for a while.

    Args:
        reader: asks devices.
    """

    def __init__(self, reader: DeviceReader) -> None:
        self._reader = reader
        self._kept: OrderedDict[tuple[DeviceId, TenantId, str], tuple[float, list[Resource]]] = OrderedDict()

    async def of(self, device: Device, whose: str) -> list[Resource]:
        """What the NIC, or its board, names.

        Raises:
            DeviceFailure: no answer, or none that lists anything.
        """
        key, now = (device.mac, device.tenant, whose), time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < KEPT_S:
            return kept[1]
        path, prefix = CORE[whose]
        answer = await self._reader.ask(device.mac, path)
        if answer.code != codes.CONTENT:
            raise DeviceFailure(codes.code_text(answer.code))
        found = resources(answer.payload, prefix)
        self._kept[key] = now, found
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found


def router(pages: Pages, registry: Registry, reader: DeviceReader) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    lists, streams = _Lists(reader), Streams(MOST_PAGES, MOST_S)

    @routes.get("/console/network/{mac}/resources/{whose}")
    async def discovered(request: Request, mac: str, whose: Literal["nic", "board"]) -> Response:
        """Resources as the device itself names them (RFC 6690)."""
        device = device_of(registry, await pages.visitor(request), mac)
        try:
            content: dict[str, Any] = {"resources": [each.model_dump() for each in await lists.of(device, whose)]}
        except DeviceFailure as failure:
            content = {"resources": [], "missing": str(failure)}
        return Response(json.dumps(content), media_type="application/json", headers=SECURITY_HEADERS)

    @routes.get("/console/network/{mac}/observe")
    async def observe(request: Request, mac: str, path: str = "") -> Response:
        """Notifications of a resource, an event each, as long as the page is open."""
        device = device_of(registry, await pages.visitor(request), mac)
        try:
            request_of(OrderBody(method="GET", path=path))
        except (CommandError, ValidationError) as error:
            raise HTTPException(422, f"the path can't be asked for: {error}") from None
        may_still = pages.may_still(request, lambda: is_still_theirs(registry, device))
        return streams.answer(notifications(device, path), may_still)

    async def notifications(device: Device, path: str) -> AsyncGenerator[str]:
        async with reader.observing(device.mac, device.tenant, path) as answers:
            while True:
                answer = await answers.next()
                if answer is None:
                    yield KEEP_ALIVE
                    continue
                yield event(json.dumps(_document(answer)))
                if answer.last:
                    yield event('"last"', name="over")
                    return

    return routes


def _document(answer: Answer) -> dict[str, object]:
    """One answer: time, code, Observe number, payload for people and as octets."""
    message = bare(answer.code, answer.options, answer.payload)
    return {
        "at": round(time.time(), 3),
        **answer_document(message),
        "observe": answer.uint(options.OBSERVE),
        "text": payload_text(message, 500) if answer.payload else "",
    }
