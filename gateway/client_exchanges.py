"""The message layer towards clients over plain UDP (RFC 7252 section 4): requests in, a handler's answers out.

Does: recognise repetitions, acknowledge what takes long, repeat what is confirmable, end observations by Reset, by a
new request with the same token, and when the client acknowledges no more. Does not: look into a request.

A piggybacked answer where it is in time; else an empty acknowledgement and a separate confirmable answer. A request
that is not confirmable is answered likewise, under its own message ID (dialect D.4). Notifications are of the type of
their registration; of confirmable ones one is under way, and the newest state is what is sent next (RFC 7641 section
4.5.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import structlog

from gateway.addresses import Address
from gateway.deadlines import Deadlines
from gateway.deduplication import EXCHANGE_LIFETIME_S, ExpiringTable
from gateway.exchange import GiveUp, Handler, Response
from gateway.statistics import Event, Statistics
from meshwire.coap import ACK, CON, NON, RST, Message, codes, encode, options

__all__ = ["ClientExchanges"]

ACK_TIMEOUT_S: Final = 2.0
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 4
"""RFC 7252 section 4.8."""
MAX_REQUESTS: Final = 65_536
"""Remembered requests that change something: each of them reaches the device once."""
MAX_READS: Final = 16_384
"""Remembered GETs and FETCHes; one that is repeated after this many others is asked again, which does no harm."""
CONFIRM_EVERY_S: Final = 86_400.0 / 2
"""A client that gets notifications without confirmation must confirm one now and then (RFC 7641 section 4.5)."""
MAX_NOTIFICATIONS: Final = 20_000
MAX_PEERS: Final = 20_000
PEER_LIFETIME_S: Final = 3600.0

_log = structlog.get_logger(__name__)

_Key = tuple[str, int, str, int]
"""Host, port and security of a client's address, and a message ID."""
_TokenKey = tuple[str, int, str, bytes]
_NO_RESPONSE_BIT: Final = {2: 2, 4: 8, 5: 16}
"""Class of a response to the bit by which a client says that it wants none (RFC 7967 section 2.1)."""


class _Exchange:
    """One request of a client."""

    __slots__ = (
        "confirmed_s",
        "give_up",
        "key",
        "observes",
        "octets",
        "owner",
        "pending",
        "request",
        "source",
        "under_way",
    )

    def __init__(self, owner: ClientExchanges, request: Message, source: Address, key: _Key) -> None:
        self.owner = owner
        self.request: Message | None = request
        """None when the exchange is over."""
        self.source = source
        self.key = key
        self.octets: bytes | None = None
        """What a repetition of the request is answered by, once there is something."""
        self.observes = False
        self.confirmed_s = 0.0
        """When the client has last shown that it is there."""
        self.give_up: GiveUp | None = None
        self.under_way: _Transmission | None = None
        self.pending: Response | None = None
        """A newer notification than the one under way."""

    def reply(self, response: Response) -> None:
        """Take an answer of the handler."""
        if self.request is not None:
            self.owner.answer(self, self.request, response)

    def acknowledge(self) -> None:
        """The time is over in which an answer could have come with the acknowledgement."""
        if self.octets is None and self.request is not None:
            self.owner.acknowledge(self, self.request)


class _Transmission:
    """A confirmable message under way to a client."""

    __slots__ = ("attempts", "exchange", "key", "octets", "owner", "timeout_s")

    def __init__(self, owner: ClientExchanges, exchange: _Exchange, key: _Key, octets: bytes) -> None:
        self.owner = owner
        self.exchange = exchange
        self.key = key
        self.octets = octets
        self.attempts = 0
        self.timeout_s = ACK_TIMEOUT_S * random.uniform(1.0, ACK_RANDOM_FACTOR)

    def expire(self) -> None:
        """The acknowledgement has not come in time."""
        self.owner.repeat(self)


class ClientExchanges:
    """See the module's text.

    Args:
        handler: answers requests.
        send: takes datagrams for clients.
        statistics: counted here.
        now_s: the clock of `deadlines`.
        deadlines: for everything that is due later.
        empty_ack_s: a confirmable request is acknowledged after so long when there is no answer yet.
    """

    def __init__(
        self,
        handler: Handler,
        send: Callable[[bytes, Address], None],
        statistics: Statistics,
        *,
        now_s: Callable[[], float],
        deadlines: Deadlines,
        empty_ack_s: float,
    ) -> None:
        self._handler = handler
        self._send = send
        self._statistics = statistics
        self._now_s = now_s
        self._deadlines = deadlines
        self._empty_ack_s = empty_ack_s
        self._changes: ExpiringTable[_Key, _Exchange | bytes] = ExpiringTable(EXCHANGE_LIFETIME_S, MAX_REQUESTS)
        self._reads: ExpiringTable[_Key, _Exchange | bytes] = ExpiringTable(EXCHANGE_LIFETIME_S, MAX_READS)
        """Of an exchange that is over only the answer's octets: the garbage collector does not walk over these."""
        self._transmissions: dict[_Key, _Transmission] = {}
        self._notified: ExpiringTable[_Key, _Exchange] = ExpiringTable(EXCHANGE_LIFETIME_S, MAX_NOTIFICATIONS)
        self._observing: dict[_TokenKey, _Exchange] = {}
        self._next_mid: ExpiringTable[Address, int] = ExpiringTable(PEER_LIFETIME_S, MAX_PEERS)

    def receive(self, octets: bytes, message: Message, source: Address) -> None:
        """Take one datagram; `message` is what the codec read in it."""
        mtype, code = message.mtype, message.code
        if 0 < code < 0x20 and mtype <= NON:
            self._request(message, source)
        elif mtype >= ACK:
            self._settle(message, source)
        elif mtype == CON:
            # A ping, a response that nobody asked for, a reserved class (RFC 7252 sections 4.2 and 4.3).
            self._send(encode(Message(RST, codes.EMPTY, message.mid)), source)

    def close(self) -> None:
        """End every observation and every wait; nothing more is sent."""
        self._send = _nowhere
        for exchange in list(self._observing.values()):
            self._end(exchange)
        self._transmissions.clear()

    # --- in

    def _request(self, message: Message, source: Address) -> None:
        now = self._now_s()
        key = (source.host, source.port, source.security, message.mid)
        table = self._table(message.code)
        known = table.get(key, now)
        if known is not None:
            self._repeated(known, source)
            return
        exchange = _Exchange(self, message, source, key)
        table.put(key, exchange, now)
        if self._observing:
            self._supersede(message, source)
        try:
            give_up = self._handler(message, source, exchange.reply)
            if exchange.request is not None:
                exchange.give_up = give_up
        except Exception:  # The client must not wait for ever because of a fault of ours.
            _log.exception("a request could not be answered", request=str(message))
            exchange.reply(Response(codes.INTERNAL_SERVER_ERROR, b"gateway: internal error"))
        if exchange.octets is None and message.mtype == CON:
            self._deadlines.at(now + self._empty_ack_s, exchange.acknowledge)

    def _repeated(self, known: _Exchange | bytes, source: Address) -> None:
        self._statistics.count(Event.DUPLICATE, "client")
        octets = known.octets if isinstance(known, _Exchange) else known
        if octets is not None:
            self._send(octets, source)

    def _supersede(self, message: Message, source: Address) -> None:
        """A token in use again ends the observation that it stood for (RFC 7641 section 3.6)."""
        old = self._observing.get((source.host, source.port, source.security, message.token))
        if old is not None:
            self._end(old)

    def _settle(self, message: Message, source: Address) -> None:
        """An acknowledgement or a Reset of what was sent to the client."""
        key = (source.host, source.port, source.security, message.mid)
        transmission = self._transmissions.pop(key, None)
        if message.mtype == RST:
            exchange = transmission.exchange if transmission is not None else self._notified.get(key, self._now_s())
            if exchange is not None:
                self._end(exchange)
        elif transmission is not None:
            exchange = transmission.exchange
            exchange.confirmed_s = self._now_s()
            if exchange.under_way is transmission:
                exchange.under_way = None
                self._send_pending(exchange)

    def _end(self, exchange: _Exchange) -> None:
        """The client wants no more of it."""
        request, exchange.request = exchange.request, None
        exchange.pending = None
        if request is None:
            return
        self._forget(exchange, request)
        if exchange.under_way is not None:
            self._transmissions.pop(exchange.under_way.key, None)
        give_up, exchange.give_up = exchange.give_up, None
        if give_up is not None:
            give_up()

    def _forget(self, exchange: _Exchange, request: Message) -> None:
        if exchange.observes:
            source = exchange.source
            self._observing.pop((source.host, source.port, source.security, request.token), None)

    # --- out

    def answer(self, exchange: _Exchange, request: Message, response: Response) -> None:
        """Send an answer, as what the state of its exchange allows."""
        if response.last:
            exchange.request = exchange.give_up = None
            self._forget(exchange, request)
        elif not exchange.observes:
            exchange.observes = True
            exchange.confirmed_s = self._now_s()
            source = exchange.source
            self._observing[source.host, source.port, source.security, request.token] = exchange
        if (wish := request.option(options.NO_RESPONSE)) is not None and not _is_wanted(response.code, wish):
            if request.mtype == CON and exchange.octets is None:
                self.acknowledge(exchange, request)
            return
        if exchange.octets is None:
            self._answer_in_time(exchange, request, response)
        elif request.mtype == NON and self._now_s() - exchange.confirmed_s < CONFIRM_EVERY_S:
            self._notify(exchange, request, response)
        elif exchange.under_way is not None and not response.last:
            exchange.pending = response
        else:
            self._confirm(exchange, request, response)

    def _answer_in_time(self, exchange: _Exchange, request: Message, response: Response) -> None:
        mid = request.mid
        if request.mtype == CON:
            mtype = ACK
        else:
            mtype = NON
            if exchange.key in self._transmissions or self._notified.get(exchange.key, self._now_s()) is not None:
                mid = self._new_mid(exchange.source)
            if not response.last:
                source = exchange.source
                self._notified.put((source.host, source.port, source.security, mid), exchange, self._now_s())
        message = Message(mtype, response.code, mid, request.token, response.options, response.payload)
        exchange.octets = octets = encode(message)
        if response.code == codes.UNAUTHORIZED:
            # Nothing was done: after a login the same datagram is a new request.
            self._table(request.code).drop(exchange.key)
        elif response.last:
            self._table(request.code).replace(exchange.key, octets)
        self._send(octets, exchange.source)

    def _table(self, code: int) -> ExpiringTable[_Key, _Exchange | bytes]:
        return self._reads if code in (codes.GET, codes.FETCH) else self._changes

    def acknowledge(self, exchange: _Exchange, request: Message) -> None:
        """Acknowledge a request without an answer."""
        exchange.octets = encode(Message(ACK, codes.EMPTY, request.mid))
        self._send(exchange.octets, exchange.source)

    def _notify(self, exchange: _Exchange, request: Message, response: Response) -> None:
        key, octets = self._encode(NON, exchange, request, response)
        self._notified.put(key, exchange, self._now_s())
        self._send(octets, exchange.source)

    def _confirm(self, exchange: _Exchange, request: Message, response: Response) -> None:
        key, octets = self._encode(CON, exchange, request, response)
        self._transmit(_Transmission(self, exchange, key, octets))

    def _transmit(self, transmission: _Transmission) -> None:
        transmission.exchange.under_way = transmission
        self._transmissions[transmission.key] = transmission
        self._send(transmission.octets, transmission.exchange.source)
        self._deadlines.at(self._now_s() + transmission.timeout_s, transmission.expire)

    def repeat(self, transmission: _Transmission) -> None:
        """Send a confirmable message again, or what is newer; a client that acknowledges nothing has gone."""
        exchange, request = transmission.exchange, transmission.exchange.request
        if self._transmissions.get(transmission.key) is not transmission:
            return
        transmission.attempts += 1
        if transmission.attempts > MAX_RETRANSMIT:
            del self._transmissions[transmission.key]
            self._end(exchange)
            return
        transmission.timeout_s *= 2
        if exchange.pending is not None and request is not None and exchange.under_way is transmission:
            del self._transmissions[transmission.key]
            self._notified.put(transmission.key, exchange, self._now_s())
            response, exchange.pending = exchange.pending, None
            transmission.key, transmission.octets = self._encode(CON, exchange, request, response)
        self._transmit(transmission)

    def _send_pending(self, exchange: _Exchange) -> None:
        response, exchange.pending = exchange.pending, None
        if response is not None and exchange.request is not None:
            self._confirm(exchange, exchange.request, response)

    def _encode(self, mtype: int, exchange: _Exchange, request: Message, response: Response) -> tuple[_Key, bytes]:
        """A message of our own, under a new message ID."""
        source = exchange.source
        mid = self._new_mid(source)
        message = Message(mtype, response.code, mid, request.token, response.options, response.payload)
        return (source.host, source.port, source.security, mid), encode(message)

    def _new_mid(self, source: Address) -> int:
        """The next message ID towards a client, none that one of its own requests was answered under."""
        now = self._now_s()
        mid = self._next_mid.get(source, now)
        if mid is None:
            mid = random.randrange(0x10000)
        key = (source.host, source.port, source.security, mid)
        while (
            key in self._transmissions
            or self._reads.get(key, now) is not None
            or self._changes.get(key, now) is not None
            or self._notified.get(key, now) is not None
        ):
            mid = (mid + 1) & 0xFFFF
            key = (source.host, source.port, source.security, mid)
        self._next_mid.put(source, (mid + 1) & 0xFFFF, now)
        return mid


def _is_wanted(code: int, wish: bytes) -> bool:
    """Whether the client wants an answer of this class (RFC 7967 section 2.1)."""
    return not options.decode_uint(wish) & _NO_RESPONSE_BIT.get(code >> 5, 0)


def _nowhere(octets: bytes, to: Address) -> None:
    """Nothing more is sent."""
