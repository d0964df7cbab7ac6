"""What one NIC says of itself: its own resources, the figures of its serial link, and its persistent observes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from gateway.console.nic_words import counter_lines, figures, observe_lines, resources
from gateway.console.ownership import device_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.device_failure import DeviceFailure
from gateway.device_reader import DeviceReader
from gateway.registry import Device, Registry
from meshwire.coap import codes
from meshwire.identity import DeviceId

__all__ = ["router"]

ASKED: Final = (
    "sys/link/stats",
    "sys/observe",
    "sys/battery",
    "sys/signal",
    "sys/temperature",
    "sys/uplink",
    ".well-known/core",
)
PATIENCE_S: Final = 4.0
"""The page waits so long for all of it; what has not come then is said."""


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row], reader: DeviceReader) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    async def ask(mac: DeviceId, path: str) -> bytes | str:
        """A payload, or why there is none."""
        try:
            answer = await reader.ask(mac, path, timeout_s=PATIENCE_S)
        except DeviceFailure as failure:
            return f"no answer ({failure})"
        if answer.code != codes.CONTENT:
            return f"{codes.code_text(answer.code)} {answer.payload.decode(errors='replace')[:100]}".strip()
        return answer.payload

    @routes.get("/console/network/{mac}/link")
    async def link(request: Request, mac: str) -> Response:
        visitor, now_s = await pages.visitor(request), time.time()
        device = device_of(registry, visitor, mac)
        answers = dict(zip(ASKED, await asyncio.gather(*(ask(device.mac, path) for path in ASKED)), strict=True))
        said = {path: answer for path, answer in answers.items() if isinstance(answer, bytes)}
        missing = {path: answer for path, answer in answers.items() if isinstance(answer, str)}
        observes = []
        try:
            observes = observe_lines(said["sys/observe"]) if "sys/observe" in said else []
        except ValueError as error:
            missing["sys/observe"] = str(error)
        return pages.page(
            "link.html",
            visitor,
            row=row(device, now_s),
            now_s=now_s,
            figures=figures(said),
            counters=counter_lines(said.get("sys/link/stats", b"")),
            observes=observes,
            resources=resources(said.get(".well-known/core", b"")),
            missing=missing,
            is_silent=not said,
        )

    return routes
