"""The gateway's own CoAP resources, and the door to the proxy: which handler takes a client's request.

`POST /sessions` with a token as payload or with `?user=&pass=` opens a session (2.01), `DELETE /sessions` ends it
(2.02). Real clients send an empty Uri-Query, a zero-length Content-Format, Uri-Host and the elective option 124
beside (dialect D.2): none of these matters.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from gateway.access import Access
from gateway.addresses import Address
from gateway.exchange import Handler, Response
from gateway.statistics import Event, Statistics
from gateway.target import is_proxied
from meshwire.coap import Message, codes, options

__all__ = ["Reception"]

_LINKS: Final = b'</sessions>;rt="meshwire.sessions";title="POST a token to open a session",</.well-known/core>;ct=40'
_UNDERSTOOD: Final = frozenset(
    {options.URI_HOST, options.URI_PORT, options.URI_PATH, options.URI_QUERY, options.ACCEPT, options.BLOCK2}
)
_LINK_FORMAT: Final = ((options.CONTENT_FORMAT, options.encode_uint(options.LINK_FORMAT)),)


class Reception:
    """See the module's text.

    Args:
        access: opens and closes sessions.
        proxy: takes requests for devices.
        statistics: answers are counted here.
    """

    def __init__(self, access: Access, proxy: Handler, statistics: Statistics) -> None:
        self._access = access
        self._proxy = proxy
        self._statistics = statistics

    async def __call__(self, request: Message, source: Address) -> AsyncGenerator[Response, None]:
        """Answer one request."""
        if not is_proxied(request):
            yield await self._own(request, source)
            return
        async with contextlib.aclosing(self._proxy(request, source)) as answers:
            async for response in answers:
                self._statistics.count(Event.PROXY, codes.code_text(response.code))
                yield response

    async def _own(self, request: Message, source: Address) -> Response:
        for number, _ in request.options:
            if options.is_critical(number) and number not in _UNDERSTOOD:
                return Response(codes.BAD_OPTION, f"gateway: option {number}".encode())
        match request.path():
            case ("sessions",):
                return await self._sessions(request, source)
            case (".well-known", "core"):
                if request.code != codes.GET:
                    return Response(codes.METHOD_NOT_ALLOWED)
                return Response(codes.CONTENT, _LINKS, _LINK_FORMAT)
            case _:
                return Response(codes.NOT_FOUND, b"gateway: no such resource")

    async def _sessions(self, request: Message, source: Address) -> Response:
        match request.code:
            case codes.POST:
                opened = await self._open(request, source)
                return Response(codes.CREATED) if opened else Response(codes.UNAUTHORIZED, b"gateway: login refused")
            case codes.DELETE:
                self._access.close(source)
                return Response(codes.DELETED)
            case _:
                return Response(codes.METHOD_NOT_ALLOWED)

    async def _open(self, request: Message, source: Address) -> bool:
        arguments = dict(query.split("=", 1) for query in request.query() if "=" in query)
        if "user" in arguments:
            return await self._access.open_with_password(source, arguments["user"], arguments.get("pass", ""))
        return self._access.open_with_token(source, request.payload.decode(errors="replace"))
