"""The NIC's UDP socket: aiocoap's `udp6` transport with what it leaves open.

Adds: counts of what was received and discarded, by reason; a Reset for a confirmable message that can't be read (RFC
7252 section 4.2); a Reset to a non-confirmable notification ends the relation (RFC 7641 section 3.6; aiocoap looks at
confirmable ones only); a bounded memory for deduplication; a receive buffer above 256 datagrams; and no SO_REUSEPORT,
so that two NICs on one port are an error and not a lottery. Built on aiocoap's classes, whose version is pinned.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

import aiocoap
import structlog
from aiocoap.numbers.constants import TransportTuning
from aiocoap.transports.udp6 import MessageInterfaceUDP6, UDP6EndpointAddress

from meshwire.coap import codes
from meshwire.coap.message import CON, RST, Message, MessageError, decode, encode
from meshwire.coap.options import OBSERVE
from meshwire.coap_link import attach_message_interface
from nic_sim.errors import ListenError
from nic_sim.relations import EndReason, RelationTable
from nic_sim.settings import HostPort

__all__ = ["NicEndpoint", "open_context"]

RECEIVE_BUFFER_OCTETS: Final = 1 << 20
MAX_REMEMBERED: Final = 4096
"""Requests that aiocoap remembers for deduplication, 2 KiB each; beyond this it forgets them after `_BRIEF_S`."""
_BRIEF_S: Final = 5.0
MAX_TRACKED_NOTIFICATIONS: Final = 1024
_RESERVED_CLASSES: Final = frozenset({1, 6, 7})

_log = structlog.get_logger(__name__)
_new_context: Callable[..., aiocoap.Context] = aiocoap.Context
_new_address: Callable[..., Any] = UDP6EndpointAddress


class _BriefMemory(TransportTuning):
    """For requests that come while very many are remembered."""

    EXCHANGE_LIFETIME = _BRIEF_S


class NicEndpoint(MessageInterfaceUDP6):
    """See the module. `attach` gives it what it reports to; before that nothing is received."""

    counters: Counter[str]
    relations: RelationTable
    _notified: OrderedDict[tuple[Any, int], bytes]
    """(client, message ID) of recent notifications to their tokens."""

    def prepare(self, counters: Counter[str], relations: RelationTable) -> None:
        self.counters = counters
        self.relations = relations
        self._notified = OrderedDict()

    @property
    def port(self) -> int:
        """The local UDP port."""
        local_port: Callable[[], int] = self._local_port
        return local_port()

    # ---- incoming

    def datagram_msg_received(self, data: bytes, ancdata: Any, flags: int, address: Any) -> None:
        self.counters["datagrams"] += 1
        try:
            message = decode(data)
        except MessageError as error:
            self.counters[f"discarded-{error.reason}"] += 1
            if error.mtype == CON and error.mid is not None:
                self._reset(error.mid, address)
            return
        if message.code >> 5 in _RESERVED_CLASSES:
            self.counters["discarded-reserved-class"] += 1
            if message.mtype == CON:
                self._reset(message.mid, address)
            return
        self._watch(message, _new_address(address, self))
        try:
            receive: Callable[..., None] = super().datagram_msg_received
            receive(data, ancdata, flags, address)
        except Exception as error:
            # aiocoap reads text options strictly and raises what the decoder raises; the datagram is to blame.
            self.counters["discarded-unreadable"] += 1
            _log.debug("datagram discarded", error=repr(error))
            if message.mtype == CON:
                self._reset(message.mid, address)

    def _watch(self, message: Message, remote: Any) -> None:
        """Note what this message means for the relations with its sender, before aiocoap acts on it."""
        if message.mtype == RST:
            token = self._notified.pop((remote, message.mid), None)
            if token is not None:
                self.relations.note(remote, token, EndReason.RESET)
                self._stop(remote, token)
        elif codes.is_request(message.code):
            ends = message.code in (codes.GET, codes.FETCH) and message.uint(OBSERVE) == 1
            reason = EndReason.DEREGISTERED if ends else EndReason.REPLACED
            self.relations.note(remote, message.token, reason, request_mid=message.mid)

    def _stop(self, remote: Any, token: bytes) -> None:
        """End the handling of a request whose client has lost interest."""
        manager: Any = self._ctx
        pending = manager.token_manager.incoming_requests.get((token, remote))
        if pending is not None:
            _, stop = pending
            stop()

    def _reset(self, mid: int, address: Any) -> None:
        self.counters["resets-sent"] += 1
        self.transport.sendmsg(encode(Message(RST, codes.EMPTY, mid)), [], 0, address)

    def datagram_errqueue_received(self, data: bytes, ancdata: Any, flags: int, address: Any) -> None:
        self.counters["icmp-errors"] += 1
        self.relations.note_all(_new_address(address, self), EndReason.UNREACHABLE)
        receive: Callable[..., None] = super().datagram_errqueue_received
        receive(data, ancdata, flags, address)

    # ---- outgoing

    def send(self, message: Any) -> None:
        self.counters["datagrams-sent"] += 1
        if message.token and message.code.is_response() and message.opt.observe is not None:
            self._notified[message.remote, message.mid] = message.token
            if len(self._notified) > MAX_TRACKED_NOTIFICATIONS:
                self._notified.popitem(last=False)
        send: Callable[..., None] = super().send
        send(message)


class _BoundedManager:
    """What stands between the endpoint and aiocoap's message manager: it keeps the deduplication memory in bounds."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def dispatch_message(self, message: Any) -> None:
        if len(self._manager._recent_messages) > MAX_REMEMBERED:
            message.transport_tuning = _BriefMemory()
        self._manager.dispatch_message(message)


async def open_context(
    listen: HostPort, counters: Counter[str], relations: RelationTable
) -> tuple[aiocoap.Context, NicEndpoint]:
    """A CoAP context, server and client on one socket; set its `serversite` to serve.

    Raises:
        ListenError: the address can't be bound.
    """
    loop = asyncio.get_running_loop()
    bound = await _bind(listen)
    context = _new_context(loop=loop, loggername="coap.nic")
    made: list[NicEndpoint] = []

    async def make(manager: Any) -> NicEndpoint:
        create: Callable[..., Any] = NicEndpoint._create_transport_endpoint
        endpoint: NicEndpoint = await create(bound, _BoundedManager(manager), context.log, loop)
        endpoint.prepare(counters, relations)
        made.append(endpoint)
        return endpoint

    await attach_message_interface(context, make)
    return context, made[0]


async def _bind(listen: HostPort) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        found = await asyncio.get_running_loop().getaddrinfo(
            listen.host, listen.port, family=socket.AF_INET6, type=socket.SOCK_DGRAM, flags=socket.AI_V4MAPPED
        )
        sock.bind(found[0][4])
    except OSError as error:
        sock.close()
        raise ListenError(
            f"the NIC can't listen on {listen}",
            evidence=str(error),
            fix="choose another --listen HOST:PORT, or end what holds it (port 0 lets the system choose)",
        ) from None
    return sock
