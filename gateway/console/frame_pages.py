"""One NIC's live frames: the page, its stream, and the file for Wireshark."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

from gateway.console.events import KEEP_ALIVE, Streams, event, last_event
from gateway.console.frame_feed import KEPT, FrameFeeds
from gateway.console.ownership import device_of, is_still_theirs
from gateway.console.rendering import SECURITY_HEADERS, PageRoute, Pages
from gateway.console.rows import Row
from gateway.registry import Device, Registry
from meshwire.capture.file import CaptureFile

__all__ = ["router"]

MOST_PAGES: Final = 50
MOST_S: Final = 600.0
"""A page watches so long without being asked again."""


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row], feeds: FrameFeeds) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    streams = Streams(MOST_PAGES, MOST_S)

    @routes.get("/console/network/{mac}/frames")
    async def frames(request: Request, mac: str) -> Response:
        visitor, now_s = await pages.visitor(request), time.time()
        device = device_of(registry, visitor, mac)
        return pages.page("frames.html", visitor, row=row(device, now_s), now_s=now_s, kept=KEPT, most_s=MOST_S)

    @routes.get("/console/network/{mac}/frames/live")
    async def live(request: Request, mac: str) -> Response:
        """Arrays of records, one event each; watching lasts as long as the stream."""
        device = device_of(registry, await pages.visitor(request), mac)
        if not feeds.has_room(device):
            raise HTTPException(503, "so many NICs are watched already; try again later")
        may_still = pages.may_still(request, lambda: is_still_theirs(registry, device))
        return streams.answer(events(device, last_event(request)), may_still)

    async def events(device: Device, after: int | None) -> AsyncGenerator[str]:
        with feeds.watching(device) as feed:
            async for batch in feed.follow(after):
                yield event(f"[{','.join(item.text for item in batch)}]", id=batch[-1].serial) if batch else KEEP_ALIVE

    @routes.get("/console/network/{mac}/frames.pcapng")
    async def file(request: Request, mac: str) -> Response:
        """What is kept of the last watching, for Wireshark."""
        device = device_of(registry, await pages.visitor(request), mac)
        feed = feeds.kept(device)
        records = [] if feed is None else feed.records()
        if not records:
            raise HTTPException(404, "nothing is kept of this NIC's line: watch it first, then download")
        stream = io.BytesIO()
        capture = CaptureFile(stream, f"NIC {device.mac}")
        for record in records:
            capture(record)
        name = f"{device.mac}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.pcapng"
        headers = SECURITY_HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(stream.getvalue(), media_type="application/octet-stream", headers=headers)

    return routes
