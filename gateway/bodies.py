"""Whole bodies to and from devices: what is too long for one message goes and comes in blocks (RFC 7959).

Nearly every request and answer fits into one message and passes straight through. Otherwise a task sends the body
block by block, or fetches the blocks that follow the first; the caller sees one request and one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Final, Protocol

import structlog

from gateway.addresses import Address
from gateway.blocks import MAX_PAYLOAD_OCTETS, Block
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceSilent
from gateway.exchange import GiveUp, Response
from meshwire.coap import Message, codes, options

__all__ = ["Bodies", "Devices"]

_SZX: Final = 6

_log = structlog.get_logger(__name__)


class Devices(Protocol):
    """Who sends single messages to devices: see `DeviceExchanges.start`."""

    def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> GiveUp:
        """Send a request; raises DeviceUnreachable."""


class Bodies:
    """See the module's text.

    Args:
        devices: sends single messages.
        max_body_octets: longest answer that is put together.
    """

    def __init__(self, devices: Devices, max_body_octets: int) -> None:
        self._devices = devices
        self._max_body_octets = max_body_octets
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> GiveUp:
        """As `Devices.start`, for a body of any length; the time is that of each message, and a body that is sent in
        blocks is acknowledged with the last one.
        """
        if len(request.payload) > MAX_PAYLOAD_OCTETS:
            return self._spawn(self._upload(request, address, timeout_s, on_acknowledged), on_answer, on_end)

        fetches: list[GiveUp] = []

        def whole(response: Response) -> None:
            if (first := _first_of_more(response)) is None:
                if response.option(options.BLOCK2) is not None:
                    response = replace(response, options=response.with_option(options.BLOCK2, None))
                on_answer(response)
                return
            fetch = self._fetch(request, address, first, response, timeout_s)
            fetches[:] = [self._spawn(fetch, on_answer, on_end)]

        give_up = self._devices.start(request, address, whole, on_end, timeout_s, on_acknowledged)

        def end() -> None:
            give_up()
            for fetch in fetches:
                fetch()

        return end

    def _spawn(
        self,
        transfer: Coroutine[object, object, Response],
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
    ) -> GiveUp:
        async def run() -> None:
            try:
                response = await transfer
            except DeviceFailure as failure:
                on_end(failure)
            else:
                on_answer(response)

        task = asyncio.create_task(run(), name="block-wise transfer with a device")
        self._tasks.add(task)
        task.add_done_callback(self._done)

        def end() -> None:
            task.cancel()

        return end

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a block-wise transfer failed", error=repr(error))

    async def close(self) -> None:
        """End every transfer."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- a transfer

    async def _upload(
        self, request: Message, address: Address, timeout_s: float, on_acknowledged: Callable[[], None] | None
    ) -> Response:
        """Send the body in blocks; the device may ask for smaller ones (RFC 7959 section 2.5)."""
        body, offset, szx = request.payload, 0, _SZX
        while True:
            size = 1 << szx + 4
            part = body[offset : offset + size]
            block = Block(offset // size, offset + len(part) < len(body), szx)
            extra = [(options.BLOCK1, block.encode())]
            if offset == 0:
                extra.append((options.SIZE1, options.encode_uint(len(body))))
            message = replace(request, payload=part).with_options(extra)
            response = await self._ask(message, address, timeout_s, None if block.more else on_acknowledged)
            theirs = _block(response, options.BLOCK1)
            if theirs is not None and theirs.szx < szx and response.code in _SMALLER_PLEASE:
                szx = theirs.szx
                if response.code == codes.REQUEST_ENTITY_TOO_LARGE:
                    offset = 0
                    continue
            if not block.more or response.code != codes.CONTINUE:
                response = replace(response, options=response.with_option(options.BLOCK1, None))
                first = _first_of_more(response)
                return response if first is None else await self._fetch(request, address, first, response, timeout_s)
            offset += len(part)

    async def _fetch(
        self, request: Message, address: Address, first: Block, response: Response, timeout_s: float
    ) -> Response:
        """The blocks after the first (RFC 7959 section 2.4)."""
        body, etag, block, offset = bytearray(response.payload), response.option(options.ETAG), first, 0
        plain = replace(request.without(options.OBSERVE, options.BLOCK1, options.BLOCK2, options.ETAG), payload=b"")
        while block.more:
            offset = len(body)
            if offset > self._max_body_octets or offset % block.size:
                raise DeviceRefused(f"its answer can't be put together at octet {offset}")
            wanted = Block(offset // block.size, False, block.szx)
            part = await self._ask(plain.with_options([(options.BLOCK2, wanted.encode())]), address, timeout_s)
            got = _block(part, options.BLOCK2)
            if part.code != response.code or got is None or got.offset != offset or not part.payload:
                raise DeviceRefused(f"block {wanted.number} of its answer is missing")
            if part.option(options.ETAG) != etag:
                raise DeviceRefused("its answer changed while it was fetched")
            body += part.payload
            block = got
        pairs = tuple(pair for pair in response.options if pair[0] not in (options.BLOCK2, options.SIZE2))
        return replace(response, payload=bytes(body), options=pairs)

    async def _ask(
        self,
        request: Message,
        address: Address,
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        give_up = self._devices.start(
            request,
            address,
            lambda response: None if answer.done() else answer.set_result(response),
            lambda failure: None if answer.done() else answer.set_exception(failure),
            timeout_s,
            on_acknowledged,
        )
        try:
            async with asyncio.timeout(2 * timeout_s):
                return await answer
        except TimeoutError:
            raise DeviceSilent(f"{timeout_s:g} s") from None
        finally:
            give_up()


_SMALLER_PLEASE: Final = (codes.CONTINUE, codes.REQUEST_ENTITY_TOO_LARGE)


def _block(response: Response, number: int) -> Block | None:
    value = response.option(number)
    return None if value is None else Block.parse(value)


def _first_of_more(response: Response) -> Block | None:
    """The block, if a body begins here and goes on in others."""
    block = _block(response, options.BLOCK2)
    return block if block is not None and block.more and block.number == 0 else None
