"""`/`, `/sys/time` and `/sys/log` of the standard board, and the site that refuses what it does not understand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from aiocoap import Message, error
from aiocoap.numbers.codes import CHANGED, CONTENT
from aiocoap.pipe import Pipe
from aiocoap.resource import Resource, Site

from meshwire.coap import options
from sensor_sim.clock import BoardClock
from sensor_sim.standard.journal import Journal

__all__ = ["BoardResource", "BoardSite", "LogResource", "RootResource", "TimeResource"]

_UNDERSTOOD: Final = frozenset(
    (
        options.URI_HOST,
        options.URI_PORT,
        options.URI_PATH,
        options.URI_QUERY,
        options.ACCEPT,
        options.BLOCK1,
        options.BLOCK2,
    )
)
"""Critical options that this server acts on; any other is a 4.02 (RFC 7252 section 5.4.1)."""
_ABSOLUTE_TIME: Final = 6
_TIME_DELTA: Final = 7
_TIME_STRUCTURE: Final = struct.Struct(">BBiI")
"""Type, length 8, seconds (signed for a delta), milliseconds: the structure of dialect B.3."""


class BoardSite(Site):
    """A site that checks critical options before any resource sees the request."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def add(self, path: str, resource: Resource) -> None:
        """Serve a resource at a path such as `/sys/time`."""
        self.add_resource([segment for segment in path.split("/") if segment], resource)  # type: ignore[no-untyped-call]

    async def render_to_pipe(self, request: Pipe) -> None:
        """Route the request; raises BadOption or ProxyingNotSupported, which aiocoap turns into answers."""
        for option in request.request.opt.option_list():
            number = int(option.number)
            if number in (options.PROXY_URI, options.PROXY_SCHEME):
                raise error.ProxyingNotSupported
            if options.is_critical(number) and number not in _UNDERSTOOD:
                raise error.BadOption(f"option {number}")
        await super().render_to_pipe(request)


class BoardResource(Resource):
    """A resource of the board; the one place where aiocoap's untyped constructor is called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]


class RootResource(BoardResource):
    """What the board is."""

    ct = options.TEXT

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    async def render_get(self, request: Message) -> Message:
        """The text."""
        return Message(code=CONTENT, payload=self._text.encode(), content_format=options.TEXT)


class LogResource(BoardResource):
    """The journal as text."""

    ct = options.TEXT
    rt = "log"

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    async def render_get(self, request: Message) -> Message:
        """All lines; aiocoap cuts them into blocks."""
        return Message(code=CONTENT, payload=self._journal.text().encode(), content_format=options.TEXT)


class TimeResource(BoardResource):
    """The clock: four octets of Unix seconds; PUT sets it absolutely or by a difference.

    Args:
        clock: the board's clock.
        now: seconds of the driver's clock.
    """

    ct = options.OCTET_STREAM
    rt = "time"

    def __init__(self, clock: BoardClock, now: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._now = now

    async def render_get(self, request: Message) -> Message:
        """Unix seconds, big-endian."""
        seconds = self._clock.epoch(self._now()) & 0xFFFFFFFF
        return Message(code=CONTENT, payload=struct.pack(">I", seconds), content_format=options.OCTET_STREAM)

    async def render_put(self, request: Message) -> Message:
        """Take `06 08 seconds milliseconds`, or `07 08 …` for a difference."""
        payload: Any = request.payload
        if len(payload) != _TIME_STRUCTURE.size or payload[1] != 8:
            raise error.BadRequest("time is 06 08 or 07 08, seconds and milliseconds, ten octets")
        kind, _, seconds, milliseconds = _TIME_STRUCTURE.unpack(payload)
        fraction_s = milliseconds / 1000
        now = self._now()
        if kind == _ABSOLUTE_TIME:
            self._clock.set((seconds & 0xFFFFFFFF) + fraction_s, now)
        elif kind == _TIME_DELTA:
            self._clock.set(self._clock.time_s(now) + seconds + fraction_s, now)
        else:
            raise error.BadRequest(f"no time structure of type {kind}")
        return Message(code=CHANGED)
