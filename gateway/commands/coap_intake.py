"""Commands over CoAP: `?mode=stored&ttl=60` on a proxied request, and the gateway's resource `/commands/{mac}/{id}`.

A stored command is answered by 2.01 (2.04 when it took the place of an older one) with its id; a direct one by the
device's own answer. Refusals and failures are answered as the proxy answers them, with a diagnostic payload.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.commands.desk import CommandDesk
from gateway.commands.documents import command_document
from gateway.commands.errors import CommandError, NoSuchCommand, NoSuchDevice
from gateway.commands.orders import coap_order
from gateway.commands.records import FINAL_STATES, Command, Event, Mode, State
from gateway.exchange import GiveUp, Reply, Response
from gateway.forwarding import returned_response
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId, IdentityError, Principal

__all__ = ["CoapIntake"]

RETRY_AFTER_S: Final = 10
_JSON: Final = ((options.CONTENT_FORMAT, options.encode_uint(options.JSON)),)
_log = structlog.get_logger(__name__)
_LATER: Final = ((options.MAX_AGE, options.encode_uint(RETRY_AFTER_S)),)


class CoapIntake:
    """See the module's text."""

    def __init__(self, desk: CommandDesk) -> None:
        self._desk = desk
        self._tasks: set[asyncio.Task[None]] = set()

    def command(
        self, arguments: Sequence[bytes], request: Message, mac: DeviceId, principal: Principal, reply: Reply
    ) -> GiveUp:
        """Take a proxied request as a command.

        Args:
            arguments: ours, from `split_arguments`.
            request: what is forwarded; our arguments are taken out of it.
            mac: a device that is the party's.
            principal: who asks.
            reply: takes the answer.

        Returns:
            The function that ends the wait for an answer; what was accepted stays accepted.
        """

        async def run() -> None:
            try:
                reply(await self._take(arguments, request, mac, principal))
            except Exception:  # The client must not wait for ever because of a fault of ours.
                _log.exception("a command could not be handled", mac=str(mac))
                reply(Response(codes.INTERNAL_SERVER_ERROR, b"gateway: internal error"))

        task = asyncio.create_task(run(), name="a command by CoAP")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def end() -> None:
            task.cancel()

        return end

    async def _take(
        self, arguments: Sequence[bytes], request: Message, mac: DeviceId, principal: Principal
    ) -> Response:
        try:
            order = coap_order(arguments, request)
            submission = await self._desk.submit(order, mac, principal, "coap")
        except CommandError as error:
            return _refusal(error)
        if submission.failure is not None:
            return _end(submission.failure)
        if order.mode is Mode.DIRECT:
            return await self._outcome(submission.command)
        return _accepted(submission.command, codes.CHANGED if submission.replaced else codes.CREATED)

    async def _outcome(self, command: Command) -> Response:
        async with contextlib.aclosing(self._desk.follow(command)) as events:
            async for event in events:
                if event.kind in FINAL_STATES:
                    return _end(event)
        raise AssertionError("a command has no end")

    async def resource(self, request: Message, path: Sequence[str], principal: Principal) -> Response:
        """`/commands/{mac}/{id}`: GET shows a command, DELETE cancels it."""
        try:
            mac, id = DeviceId.parse(path[0]), path[1]
        except (IdentityError, IndexError):
            return _refusal(NoSuchDevice())
        try:
            match request.code:
                case codes.GET:
                    command = await self._desk.find(mac, id, principal)
                    return Response(codes.CONTENT, await self._shown(command), _JSON)
                case codes.DELETE:
                    await self._desk.cancel(mac, id, principal)
                    return Response(codes.DELETED)
                case _:
                    return Response(codes.METHOD_NOT_ALLOWED)
        except CommandError as error:
            return _refusal(error)

    async def _shown(self, command: Command) -> bytes:
        events = await self._desk.events(command, command.events - 1) if command.is_final else []
        result = events[-1] if events else None
        document = command_document(command, position=self._desk.position(command), result=result)
        return json.dumps(document, separators=(",", ":")).encode()


def _accepted(command: Command, code: int) -> Response:
    document = {"id": command.key.id, "state": command.state.value, "expires": round(command.expires_s, 3)}
    location = tuple(
        (options.LOCATION_PATH, part.encode()) for part in ("commands", command.key.mac.value, command.key.id)
    )
    return Response(code, json.dumps(document, separators=(",", ":")).encode(), (*location, *_JSON))


def _refusal(error: CommandError) -> Response:
    if isinstance(error, NoSuchDevice):
        # The same octets as the proxy's for a device that is not there.
        return Response(codes.NOT_FOUND, b"gateway: no such device")
    words = error.what if isinstance(error, NoSuchCommand) else str(error)
    later = _LATER if error.coap_code == codes.SERVICE_UNAVAILABLE else ()
    return Response(error.coap_code, f"gateway: {words}".encode(), later)


def _end(event: Event) -> Response:
    """A direct command's end as the answer to its client."""
    if event.answer is not None:
        return returned_response(Response(event.answer.code, event.answer.payload, event.answer.options))
    diagnostic = f"{event.hop or 'gateway'}: {event.reason or 'the command is ' + event.kind}".encode()
    match event.kind:
        case State.FAILED:
            return Response(codes.SERVICE_UNAVAILABLE, diagnostic, _LATER)
        case State.CANCELLED:
            return Response(codes.CONFLICT, diagnostic)
        case _:
            return Response(codes.GATEWAY_TIMEOUT, diagnostic)
