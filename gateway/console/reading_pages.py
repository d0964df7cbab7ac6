"""One NIC's readings: numbers over time as plots, and the same as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from gateway.api.deliveries import Ask
from gateway.console.ownership import device_of
from gateway.console.readings import Reading, Series, series_of
from gateway.console.rendering import SECURITY_HEADERS, PageRoute, Pages
from gateway.console.rows import Row
from gateway.decoders import DecoderSettings
from gateway.registry import Device, Registry
from meshwire.identity import DeviceId, TenantId

__all__ = ["router"]

MOST: Final = 1_000
"""Notifications of a plot."""
IN_TABLE: Final = 50
KEPT_S: Final = 3.0
"""Many pages of one NIC read the log once in so long."""
MOST_KEPT: Final = 100


class _Source:
    """Series of devices, read from the log and kept for a moment.

    Args:
        ask: every lane.
        decoders: by device type.
    """

    def __init__(self, ask: Ask, decoders: Mapping[str, DecoderSettings]) -> None:
        self._ask = ask
        self._decoders = decoders
        self._kept: dict[tuple[DeviceId, TenantId], tuple[float, list[Series]]] = {}

    async def series(self, device: Device) -> list[Series]:
        """What a device has sent as its present tenant's; what it sent as another's stays with that one."""
        key, now = (device.mac, device.tenant), time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < KEPT_S:
            return kept[1]
        answers = await self._ask({"readings": device.mac.value, "limit": MOST})
        series = series_of(_owned(answers, device.tenant), self._decoders)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[key] = now, series
        return series


def router(
    pages: Pages,
    registry: Registry,
    row: Callable[[Device, float], Row],
    ask: Ask,
    decoders: Mapping[str, DecoderSettings],
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    source = _Source(ask, decoders)

    @routes.get("/console/network/{mac}/readings")
    async def readings(request: Request, mac: str) -> Response:
        visitor, now_s = await pages.visitor(request), time.time()
        device = device_of(registry, visitor, mac)
        series = await source.series(device)
        return pages.page(
            "readings.html",
            visitor,
            row=row(device, now_s),
            now_s=now_s,
            lines=_lines(series),
            count=len(series),
            most=MOST,
            in_table=IN_TABLE,
        )

    @routes.get("/console/network/{mac}/readings.json")
    async def data(request: Request, mac: str) -> Response:
        """Series for the plots."""
        device = device_of(registry, await pages.visitor(request), mac)
        content = [
            {"path": each.path, "name": each.name, "unit": each.unit, "points": each.points}
            for each in await source.series(device)
        ]
        return Response(json.dumps(content), media_type="application/json", headers=SECURITY_HEADERS)

    return routes


def _owned(answers: Sequence[Mapping[str, Any]], tenant: TenantId) -> list[Reading]:
    readings = [Reading(*reading) for answer in answers for reading in answer.get("readings", ())]
    return [reading for reading in readings if reading.tenant == tenant.value]


def _lines(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The newest values of all series, for the table."""
    newest = sorted(
        ((at, value, each) for each in series for at, value in each.points[-IN_TABLE:]),
        key=lambda line: line[0],
        reverse=True,
    )
    return [
        {"at": at, "value": value, "name": each.name, "unit": each.unit, "path": each.path}
        for at, value, each in newest[:IN_TABLE]
    ]
