"""Server-sent events for open pages (HTML Living Standard, section 9.2), with a bound on how many are open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse

from gateway.console.rendering import SECURITY_HEADERS

__all__ = ["MAX_VIEWERS", "Viewers", "event_stream"]

MAX_VIEWERS: Final = 100
"""Live streams at once; further pages show the figures of their loading."""


class Viewers(asyncio.Semaphore):
    """Places for live streams."""

    def __init__(self) -> None:
        super().__init__(MAX_VIEWERS)


def event_stream(viewers: Viewers, events: AsyncGenerator[str | None]) -> Response:
    """An answer that goes on while the page is open.

    Args:
        viewers: a place is taken until the page is closed.
        events: data of one event each; None: nothing new, which tells whether the page is still there.

    Raises:
        HTTPException: 503, all places are taken.
    """
    if viewers.locked():
        raise HTTPException(503, "too many pages are open", {"Retry-After": "60"})
    headers = SECURITY_HEADERS | {"Content-Type": "text/event-stream"}
    return StreamingResponse(_lines(viewers, events), headers=headers)


async def _lines(viewers: Viewers, events: AsyncGenerator[str | None]) -> AsyncIterator[str]:
    async with viewers, contextlib.aclosing(events):
        async for data in events:
            yield ":\n\n" if data is None else f"data: {data}\n\n"
