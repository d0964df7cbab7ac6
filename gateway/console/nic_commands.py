"""A NIC's commands as a table that follows them: those that wait, in their turn, then the last that have ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from gateway.commands.desk import CommandDesk
from gateway.commands.documents import command_document
from gateway.commands.store import Filter
from gateway.console.events import KEEP_ALIVE, Streams, event
from gateway.console.ownership import device_of, is_still_theirs, principal_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry

__all__ = ["command_values", "router"]

MOST_WAITING: Final = 100
MOST_ENDED: Final = 10
CALM_S: Final = 0.25
"""Changes that come together are shown together."""
QUIET_S: Final = 15.0
"""Without a change what is left of the commands' time is told anew so often."""


async def command_values(desk: CommandDesk, visitor: Visitor, device: Device, now_s: float) -> dict[str, Any]:
    """What the table's template needs, but for the device's row."""
    principal = principal_of(visitor)
    waiting = await desk.select(Filter(None, device.mac, None, True, MOST_WAITING), principal)
    ended = await desk.select(Filter(None, device.mac, None, False, MOST_ENDED), principal)
    positions = desk.positions(waiting)
    return {
        "waiting": [command_document(each, position=positions.get(each.key)) for each in waiting],
        "ended": [command_document(each) for each in ended],
        "now_s": now_s,
    }


def router(pages: Pages, registry: Registry, desk: CommandDesk, streams: Streams) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    @routes.get("/console/network/{mac}/commands/live")
    async def live(request: Request, mac: str) -> Response:
        """The table as it is now, and again whenever a command of this NIC has changed."""
        visitor = await pages.visitor(request)
        device = device_of(registry, visitor, mac)
        may_still = pages.may_still(request, lambda: is_still_theirs(registry, device))
        return streams.answer(tables(visitor, device), may_still)

    async def tables(visitor: Visitor, device: Device) -> AsyncGenerator[str]:
        shown = None
        with desk.watching(device.mac) as changed:
            while True:
                changed.clear()
                values = await command_values(desk, visitor, device, time.time())
                table = pages.text("_nic_commands.html", visitor, mac=device.mac, **values)
                yield (
                    KEEP_ALIVE
                    if table == shown
                    else event(json.dumps({"waiting": len(values["waiting"]), "table": table}))
                )
                shown = table
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_S):
                        await changed.wait()
                await asyncio.sleep(CALM_S)

    return routes
