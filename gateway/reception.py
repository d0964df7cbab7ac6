"""The gateway's own CoAP resources, and the door to the proxy: which handler takes a client's request.

`POST /sessions` with a token as payload or with `?user=&pass=` opens a session (2.01), `DELETE /sessions` ends it
(2.02). Real clients send an empty Uri-Query, a zero-length Content-Format, Uri-Host and the elective option 124
beside (dialect D.2): none of these matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Protocol

import structlog

from gateway.access import Access
from gateway.addresses import Address
from gateway.blocks import Block, BlockTable, BodyKey
from gateway.commands.coap_intake import CoapIntake
from gateway.exchange import GiveUp, Handler, Reply, Response
from gateway.statistics import Event, Statistics
from gateway.target import is_by_path, is_proxied
from meshwire.coap import Message, codes, options

__all__ = ["Directory", "Reception"]

_UNDERSTOOD: Final = frozenset(
    {
        options.URI_HOST,
        options.URI_PORT,
        options.URI_PATH,
        options.URI_QUERY,
        options.ACCEPT,
        options.BLOCK1,
        options.BLOCK2,
    }
)
_TEXTS: Final = (options.URI_HOST, options.URI_PATH, options.URI_QUERY)
_INTERNAL: Final = Response(codes.INTERNAL_SERVER_ERROR, b"gateway: internal error")

_log = structlog.get_logger(__name__)


class Directory(Protocol):
    """Who knows what there is: the gateway's own resources and those of devices."""

    def answers(self, path: tuple[str, ...]) -> bool:
        """Whether a path is one of the directory's."""

    def answer(self, request: Message, source: Address) -> Response | Coroutine[object, object, Response]:
        """Answer a GET, at once or later."""


class Reception:
    """See the module's text.

    Args:
        access: opens and closes sessions.
        proxy: takes requests for devices.
        directory: takes requests for what there is.
        commands: shows and cancels commands.
        statistics: answers are counted here.
        blocks: large answers are held here for who fetches them block by block.
        now_s: a clock in seconds.
    """

    def __init__(
        self,
        access: Access,
        proxy: Handler,
        directory: Directory,
        commands: CoapIntake,
        statistics: Statistics,
        blocks: BlockTable,
        now_s: Callable[[], float],
    ) -> None:
        self._access = access
        self._proxy = proxy
        self._directory = directory
        self._commands = commands
        self._statistics = statistics
        self._blocks = blocks
        self._now_s = now_s
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: Message, source: Address, reply: Reply) -> GiveUp | None:
        """Answer one request."""
        if not is_proxied(request) and not is_by_path(request):
            return self._own(request, source, reply)
        count = self._statistics.count

        def counted(response: Response) -> None:
            count(Event.PROXY, codes.code_text(response.code))
            reply(response)

        return self._proxy(request, source, counted)

    async def close(self) -> None:
        """End what is still at work."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _own(self, request: Message, source: Address, reply: Reply) -> GiveUp | None:
        wish = Block.parse(request.option(options.BLOCK2) or b"")
        key = BodyKey(source, (request.code, request.path(), request.query()))
        if wish is not None and wish.number and (part := self._blocks.fetch(key, wish, self._now_s())) is not None:
            reply(part)
            return None
        sized = partial(self._sized, key, wish if request.option(options.BLOCK2) is not None else None, reply)
        return self._whole(request, source, sized)

    def _sized(self, key: BodyKey, wish: Block | None, reply: Reply, response: Response) -> None:
        reply(self._blocks.sized(key, wish, response, self._now_s()))

    def _whole(self, request: Message, source: Address, reply: Reply) -> GiveUp | None:
        answer = self._answer(request, source)
        if isinstance(answer, Response):
            reply(answer)
            return None
        task = asyncio.create_task(self._later(answer, reply), name="client request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def end() -> None:
            task.cancel()

        return end

    @staticmethod
    async def _later(answer: Coroutine[object, object, Response], reply: Reply) -> None:
        try:
            response = await answer
        except Exception:  # The client must not wait for ever because of a fault of ours.
            _log.exception("a request could not be answered")
            response = _INTERNAL
        reply(response)

    def _answer(self, request: Message, source: Address) -> Response | Coroutine[object, object, Response]:
        if (refusal := _refusal(request)) is not None:
            return refusal
        path = request.path()
        if path == ("sessions",):
            return self._sessions(request, source)
        if path[:1] == ("commands",):
            principal = self._access.principal(source, None)
            if principal is None:
                return Response(codes.UNAUTHORIZED, b"gateway: open a session first (POST /sessions)")
            return self._commands.resource(request, path[1:], principal)
        if self._directory.answers(path):
            return self._directory.answer(request, source) if request.code == codes.GET else _not_allowed(request)
        return Response(codes.NOT_FOUND, b"gateway: no such resource")

    def _sessions(self, request: Message, source: Address) -> Response | Coroutine[object, object, Response]:
        match request.code:
            case codes.POST:
                return self._open(request, source)
            case codes.DELETE:
                self._access.close(source)
                return Response(codes.DELETED)
            case _:
                return _not_allowed(request)

    def _open(self, request: Message, source: Address) -> Response | Coroutine[object, object, Response]:
        arguments = dict(query.split("=", 1) for query in request.query() if "=" in query)
        if "user" in arguments:
            return self._open_with_password(source, arguments["user"], arguments.get("pass", ""))
        return _opened(self._access.open_with_token(source, request.payload.decode(errors="replace")))

    async def _open_with_password(self, source: Address, user: str, password: str) -> Response:
        return _opened(await self._access.open_with_password(source, user, password))


def _refusal(request: Message) -> Response | None:
    for number, value in request.options:
        if options.is_critical(number) and number not in _UNDERSTOOD:
            return Response(codes.BAD_OPTION, f"gateway: option {number}".encode())
        if number in _TEXTS and not _is_text(value):
            # RFC 7252 section 5.4.3: a value that can't be read is an option that is not understood.
            return Response(codes.BAD_OPTION, f"gateway: option {number} can't be read".encode())
    if options.decode_uint(request.option(options.BLOCK1) or b"") > 7:
        return Response(codes.REQUEST_ENTITY_TOO_LARGE, b"gateway: send it in one block")
    return None


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _opened(opened: bool) -> Response:
    return Response(codes.CREATED) if opened else Response(codes.UNAUTHORIZED, b"gateway: login refused")


def _not_allowed(request: Message) -> Response:
    return Response(codes.METHOD_NOT_ALLOWED, f"gateway: {codes.code_text(request.code)} is not for this".encode())
