"""The server side of aiocoap: datagrams of clients in, the handler's answers out.

Adds what aiocoap leaves out: an empty acknowledgement after 1.5 s in place of 0.1 s, a bound on what is remembered of
answered requests, and that a Reset ends an observation with non-confirmable notifications, too.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import aiocoap
import structlog
from aiocoap import error, interfaces
from aiocoap.interfaces import MessageInterface, MessageManager
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import NON as AIOCOAP_NON

from gateway.addresses import Address
from gateway.coap_context.translation import to_ours, to_theirs
from gateway.deduplication import EXCHANGE_LIFETIME_S, ExpiringTable
from gateway.exchange import Handler, Response
from gateway.sockets import DatagramSockets
from gateway.statistics import Event, Statistics
from meshwire.coap import ACK, CON, NON, RST, Message, codes, encode
from meshwire.coap_link import attach_message_interface

__all__ = ["ClientContext"]

NON_LIFETIME_S: Final = 145.0
"""How long a message ID of a non-confirmable message means that message (RFC 7252 section 4.8.2)."""
MAX_NOTIFICATIONS: Final = 20_000
MAX_LONG_EXCHANGES: Final = 10_000
"""aiocoap keeps some 2 KiB per answered request for 247 s; beyond so many, new ones are kept for less long."""
BUSY_LIFETIME_S: Final = 10.0

_log = structlog.get_logger(__name__)

# aiocoap is not annotated; these are the calls into it, named once.
_decode_message: Callable[..., Any] = aiocoap.Message.decode
_init_context: Callable[..., None] = aiocoap.Context.__init__


class ClientRemote(interfaces.EndpointAddress):
    """The far end of a client's datagram, as aiocoap wants it. Two of the same address are the same."""

    scheme = "coap"
    is_multicast = False
    is_multicast_locally = False
    maximum_block_size_exp: int = 6

    def __init__(self, address: Address) -> None:
        self.address = address

    @property
    def hostinfo(self) -> str:
        return str(self.address)

    @property
    def hostinfo_local(self) -> str:
        # A name, always: aiocoap asks for the request's URI, and raising here would become 5.00.
        return "gateway"

    @property
    def uri_base(self) -> str:
        return f"coap://{self.hostinfo}"

    @property
    def uri_base_local(self) -> str:
        return "coap://gateway"

    @property
    def blockwise_key(self) -> Address:
        return self.address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientRemote) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return f"ClientRemote({self.address})"


class _ClientInterface(MessageInterface):
    """Moves messages between aiocoap's manager and our sockets."""

    def __init__(self, manager: MessageManager, send: Callable[[Any], None]) -> None:
        self.manager: Any = manager
        self._send = send

    def send(self, message: Any) -> None:
        self._send(message)

    async def determine_remote(self, message: Any) -> None:
        """We only answer here; requests to devices have a context of their own."""

    async def recognize_remote(self, remote: object) -> bool:
        """Is this a client? (Not in aiocoap's interface description, but its message manager asks.)"""
        return isinstance(remote, ClientRemote)

    async def shutdown(self) -> None:
        """The sockets are not ours to close."""


class _ServerContext(aiocoap.Context):
    """Hands each request to the handler, without aiocoap's path matching, block assembly and costly task names."""

    def __init__(self, handler: Handler) -> None:
        _init_context(self, loggername="gateway.coap")
        self._handler = handler

    def render_to_pipe(self, pipe: Any) -> None:
        """Called by aiocoap for each new request; the client's loss of interest cancels the task."""
        pipe.on_interest_end(self.loop.create_task(self._render(pipe), name="client request").cancel)

    async def _render(self, pipe: Any) -> None:
        request = to_ours(pipe.request)
        try:
            async with contextlib.aclosing(self._handler(request, pipe.request.remote.address)) as answers:
                async for answer in answers:
                    self._answer(pipe, answer)
                    if answer.last:
                        return
        except Exception:  # The client must not wait for ever because of a fault of ours.
            _log.exception("a request could not be answered", request=str(request))
            self._answer(pipe, Response(codes.INTERNAL_SERVER_ERROR, b"gateway: internal error"))

    def _answer(self, pipe: Any, answer: Response) -> None:
        message = to_theirs(answer.code, answer.options, answer.payload)
        # Given back so that aiocoap, which knows what is due on its layer, may keep the answer to itself (RFC 7967).
        message.opt.no_response = pipe.request.opt.no_response
        pipe.add_response(message, is_last=answer.last)


class ClientContext:
    """The server side: datagrams of clients in, the handler's answers out.

    Args:
        handler: answers requests.
        sockets: where datagrams leave.
        statistics: counted here.
        empty_ack_s: a confirmable request is acknowledged after so long when there is no answer yet.
    """

    def __init__(
        self, handler: Handler, sockets: DatagramSockets, statistics: Statistics, *, empty_ack_s: float
    ) -> None:
        self._sockets = sockets
        self._statistics = statistics
        self._context: Any = _ServerContext(handler)
        self._interface: _ClientInterface | None = None
        self._patient, self._busy = _tuning(empty_ack_s, None), _tuning(empty_ack_s, BUSY_LIFETIME_S)
        self._long: deque[float] = deque()
        self._notified: ExpiringTable[tuple[Address, int], bytes] = ExpiringTable(NON_LIFETIME_S, MAX_NOTIFICATIONS)

    async def open(self) -> None:
        """Must be awaited before the first datagram."""

        async def make(manager: MessageManager) -> MessageInterface:
            self._interface = _ClientInterface(manager, self._send)
            return self._interface

        await attach_message_interface(self._context, make)

    async def close(self) -> None:
        """End every exchange; nothing more is sent."""
        await self._context.shutdown()
        self._interface = None

    def receive(self, octets: bytes, message: Message, source: Address) -> None:
        """Take one datagram of a client; `message` is what the pure codec read in it."""
        if self._interface is None:
            return
        if message.mtype == RST:
            self._end_observation(source, message.mid)
        try:
            incoming = _decode_message(octets, remote=ClientRemote(source))
        except (error.UnparsableMessage, ValueError, OverflowError):
            self._refuse_undecodable(message, source)
            return
        if codes.is_request(message.code):
            incoming.transport_tuning = self._tuning_for_next()
        self._interface.manager.dispatch_message(incoming)

    def _refuse_undecodable(self, message: Message, source: Address) -> None:
        """An option value that aiocoap can't read, such as a path that is not UTF-8 (RFC 7252 section 5.4.3)."""
        self._statistics.count(Event.MALFORMED, "undecodable")
        if message.mtype not in (CON, NON):
            return
        if codes.is_request(message.code):
            mtype = ACK if message.mtype == CON else NON
            diagnostic = b"gateway: an option's value can't be read"
            answer = Message(mtype, codes.BAD_OPTION, message.mid, message.token, (), diagnostic)
            self._sockets.send(encode(answer), source)
        elif message.mtype == CON:
            self._sockets.send(encode(Message(RST, codes.EMPTY, message.mid)), source)

    def _tuning_for_next(self) -> TransportTuning:
        """Bound what aiocoap remembers of answered requests, however many come."""
        now = self._context.loop.time()
        while self._long and now - self._long[0] > EXCHANGE_LIFETIME_S:
            self._long.popleft()
        if len(self._long) >= MAX_LONG_EXCHANGES:
            return self._busy
        self._long.append(now)
        return self._patient

    def _send(self, message: Any) -> None:
        try:
            octets = message.encode()
        except (ValueError, TypeError, OverflowError) as failure:
            self._statistics.count(Event.SEND_FAILED, "encoding")
            _log.error("an answer can't be encoded", error=str(failure))
            return
        address = message.remote.address
        if message.mtype is AIOCOAP_NON and message.opt.observe is not None:
            self._notified.put((address, message.mid), message.token, self._context.loop.time())
        self._sockets.send(octets, address)

    def _end_observation(self, source: Address, mid: int) -> None:
        """RFC 7641 section 3.6: rejecting a notification ends the observation, be it confirmable or not.

        aiocoap sees to confirmable ones only.
        """
        token = self._notified.get((source, mid), self._context.loop.time())
        if token is None or self._interface is None:
            return
        requests = self._interface.manager.token_manager.incoming_requests
        _, stop = requests.get((token, ClientRemote(source)), (None, None))
        if stop is not None:
            stop()


def _tuning(empty_ack_s: float, lifetime_s: float | None) -> TransportTuning:
    attributes = {"EMPTY_ACK_DELAY": empty_ack_s}
    if lifetime_s is not None:
        attributes["EXCHANGE_LIFETIME"] = lifetime_s
    tuning: TransportTuning = type("GatewayTuning", (TransportTuning,), attributes)()
    return tuning
