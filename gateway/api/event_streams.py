"""Event streams of the HTTP API (server-sent events, HTML Living Standard section 9.2): how many, how long, how slow.

A stream is counted for its account from its first octet to its last. It is kept alive by comments. Whoever does not
take what is sent for `SEND_S` is cut off, so that nobody who has gone without a word holds a place; that is counted,
and logged with its reason. A stream ends with the right to it: when the token ends, or its client is removed; the
database is asked before an event, but not more often than every `FRESH_S`, for events may come by the hundred.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

import structlog
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from starlette.types import Send

from gateway.api.callers import Callers, account_of
from meshwire.identity import Principal

__all__ = ["EVENT_STREAM", "STREAMED", "EventStreams", "sent"]

EVENT_STREAM: Final = "text/event-stream"
STREAMED: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}}
"""For the OpenAPI document: the answer of a route that is an event stream (with `response_class=Response`)."""

KEEP_ALIVE_S: Final = 15.0
SEND_S: Final = 30.0
FRESH_S: Final = 0.5
RETRY_AFTER_S: Final = 30

_log = structlog.get_logger(__name__)


def sent(document: object, name: str, id: str | int | None = None) -> str:
    """One server-sent event."""
    id_line = f"id: {id}\n" if id is not None else ""
    return f"{id_line}event: {name}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n"


class EventStreams:
    """The streams of one gateway.

    Args:
        callers: know whether a caller's right still holds, and bounds.
        send_s: how long a reader may take for what is sent, in seconds.
    """

    def __init__(self, callers: Callers, send_s: float = SEND_S) -> None:
        self._callers = callers
        self._limits = callers.limits
        self._send_s = send_s
        self._open: Counter[str] = Counter()

    def answer(self, lines: AsyncGenerator[str], caller: Principal) -> StreamingResponse:
        """A stream of whole events; closes `lines` at its end, whoever ends it.

        Raises:
            HTTPException: 429, the account has as many open as it may; 503, everybody together has.
        """
        account, settings = account_of(caller), self._limits.settings
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        if self._open[account] >= settings.max_streams_per_account:
            self._limits.count("streams")
            raise HTTPException(429, f"the account has {self._open[account]} event streams open", headers)
        if self._open.total() >= settings.max_streams:
            self._limits.count("streams")
            raise HTTPException(503, "too many event streams are open", headers)
        return _Stream(self._counted(lines, caller), self._send_s, lambda: self._too_slow(account))

    async def _counted(self, lines: AsyncGenerator[str], caller: Principal) -> AsyncGenerator[str]:
        account = account_of(caller)
        self._open[account] += 1
        try:
            async with contextlib.aclosing(_kept_alive(lines, lambda: self._callers.holds(caller))) as living:
                async for line in living:
                    yield line
        finally:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]

    def _too_slow(self, account: str) -> None:
        self._limits.count("slow")
        _log.warning("an event stream was cut off", tenant=account, reason=f"nothing was read for {self._send_s:g} s")


class _Stream(StreamingResponse):
    def __init__(self, lines: AsyncGenerator[str], send_s: float, too_slow: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(lines, media_type=EVENT_STREAM, headers=headers)
        self._lines = lines
        self._send_s = send_s
        self._too_slow = too_slow

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Any) -> None:
            async with asyncio.timeout(self._send_s):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            self._too_slow()
        finally:
            # In a task of its own, for this one is cancelled again and again when the reader has gone.
            await asyncio.shield(asyncio.ensure_future(self._lines.aclose()))


async def _kept_alive(lines: AsyncGenerator[str], holds: Callable[[], Awaitable[bool]]) -> AsyncGenerator[str]:
    """With a comment now and then, so that nobody between takes the stream for dead; ends with the right to it."""
    yield ":\n\n"
    async with contextlib.aclosing(lines):
        following: asyncio.Task[str] | None = None
        asked_s = -math.inf
        try:
            while True:
                following = following or asyncio.ensure_future(anext(lines))
                done, _ = await asyncio.wait({following}, timeout=KEEP_ALIVE_S)
                now_s = asyncio.get_running_loop().time()
                if now_s - asked_s >= FRESH_S:
                    asked_s = now_s
                    if not await holds():
                        yield sent({"reason": "the token does not hold any more"}, "over")
                        return
                if not done:
                    yield ": still there\n\n"
                    continue
                try:
                    line = following.result()
                except StopAsyncIteration:
                    return
                following = None
                yield line
        finally:
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following
