"""Live streams of pages: server-sent events (HTML Living Standard, section 9.2) that end when the right to them does.

A stream is bounded in time, so that a page that was left open does not cost a device its air for ever; the page says so
and offers to go on. `Last-Event-ID` lets a browser that lost the connection go on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from gateway.console.rendering import SECURITY_HEADERS

__all__ = ["Streams", "event", "last_event"]

KEEP_ALIVE: Final = ":\n\n"


def event(data: str, *, name: str = "", id: int | None = None) -> str:
    """One event; `data` is one line."""
    head = (f"event: {name}\n" if name else "") + (f"id: {id}\n" if id is not None else "")
    return f"{head}data: {data}\n\n"


def last_event(request: Request) -> int | None:
    """The number of the last event that the browser has, if it says so."""
    text = request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


class Streams:
    """Streams of one kind.

    Args:
        most: at the same time; further ones are answered 503.
        most_s: how long one lasts, in seconds.
    """

    def __init__(self, most: int, most_s: float) -> None:
        self._most = most
        self._most_s = most_s
        self._open = 0

    def answer(self, events: AsyncGenerator[str], may_still: Callable[[], Awaitable[bool]]) -> Response:
        """A stream of `events`, each a whole event or a comment.

        Args:
            events: closed at the end, whoever ends it.
            may_still: asked before each event: whether the visitor may still see them.

        Raises:
            HTTPException: 503, too many are open.
        """
        if self._open >= self._most:
            raise HTTPException(503, "too many pages are open", {"Retry-After": "60"})
        headers = SECURITY_HEADERS | {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._until_over(events, may_still), headers=headers)

    async def _until_over(
        self, events: AsyncGenerator[str], may_still: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[str]:
        ends_s = asyncio.get_running_loop().time() + self._most_s
        self._open += 1
        try:
            yield KEEP_ALIVE
            async for each in events:
                if not await may_still():
                    yield event('"ended"', name="over")
                    return
                yield each
                if asyncio.get_running_loop().time() >= ends_s:
                    yield event('"time"', name="over")
                    return
        finally:
            self._open -= 1
            await events.aclose()
