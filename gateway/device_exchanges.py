"""The message layer towards devices: confirmable requests out, answers and notifications back (RFC 7252 section 4).

Does: number, repeat, match by token and address, acknowledge, bound what is under way to one device, and tell why no
answer comes, ICMP errors included. Does not: look into an answer, or assemble blocks.

Two repetitions only: a device that acknowledges nothing is given up after 14 to 21 s, before the client's patience is
at its end.
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway import message_log
from gateway.addresses import Address
from gateway.deadlines import Deadlines
from gateway.deduplication import EXCHANGE_LIFETIME_S, ExpiringTable
from gateway.device_failure import DeviceBusy, DeviceFailure, DeviceRefused, DeviceSilent, DeviceUnreachable
from gateway.exchange import GiveUp, Response
from meshwire.coap import ACK, CON, RST, Message, MessageError, codes, decode, encode, options
from meshwire.logs import tells_messages

__all__ = ["DeviceExchanges"]

ACK_TIMEOUT_S: Final = 2.0
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 2
MAX_WAITING: Final = 256
"""Requests for one device that wait for their turn; a further one is refused."""
MAX_PEERS: Final = 20_000
PEER_LIFETIME_S: Final = 3600.0
MAX_SEPARATE: Final = 16_384
_TOKEN_OCTETS: Final = 6

_MidKey = tuple[str, int, int]


class _Peer:
    """What is known of one device's address."""

    __slots__ = ("address", "next_mid", "under_way", "waiting")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.next_mid = random.randrange(0x10000)
        self.under_way = 0
        """Requests that the device has not acknowledged."""
        self.waiting: deque[_Request] = deque()


class _Request:
    """One request to a device."""

    __slots__ = (
        "answered",
        "attempts",
        "ends_s",
        "farewell",
        "is_over",
        "message",
        "mid",
        "octets",
        "on_acknowledged",
        "on_answer",
        "on_end",
        "owner",
        "peer",
        "timeout_s",
        "unacknowledged",
        "wait_s",
    )

    def __init__(
        self,
        owner: DeviceExchanges,
        peer: _Peer,
        message: Message,
        on_answer: Callable[[Response], None] | None,
        on_end: Callable[[DeviceFailure], None] | None,
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
        farewell: Callable[[], Message] | None = None,
    ) -> None:
        self.owner = owner
        self.peer = peer
        self.message = message
        """With its token; the message ID is given when it leaves."""
        self.on_answer = on_answer
        self.on_end = on_end
        self.on_acknowledged = on_acknowledged
        self.farewell = farewell
        self.timeout_s = timeout_s
        self.mid = 0
        self.octets = b""
        self.attempts = 0
        self.wait_s = 0.0
        self.ends_s = 0.0
        self.unacknowledged = False
        self.answered = False
        """An observation that stands: nothing is due any more."""
        self.is_over = False

    def expire(self) -> None:
        """A time is over: for an acknowledgement, or for the answer."""
        if not self.is_over and not self.answered:
            self.owner.expire(self)

    def give_up(self) -> None:
        """Nobody wants the answer any more; an observation is also cancelled at the device."""
        if not self.is_over:
            self.owner.give_up(self)


class DeviceExchanges:
    """See the module's text.

    Args:
        send: takes datagrams for devices; says why one can't leave.
        now_s: the clock of `deadlines`.
        deadlines: for everything that is due later.
        max_under_way: requests to one device that it has not acknowledged yet.
    """

    def __init__(
        self,
        send: Callable[[bytes, Address], str | None],
        *,
        now_s: Callable[[], float],
        deadlines: Deadlines,
        max_under_way: int,
    ) -> None:
        self._send = send
        self._now_s = now_s
        self._deadlines = deadlines
        self._max_under_way = max_under_way
        self._by_token: dict[bytes, _Request] = {}
        self._by_mid: dict[_MidKey, _Request] = {}
        self._peers: ExpiringTable[tuple[str, int], _Peer] = ExpiringTable(PEER_LIFETIME_S, MAX_PEERS)
        self._separate: ExpiringTable[_MidKey, bool] = ExpiringTable(EXCHANGE_LIFETIME_S, MAX_SEPARATE)
        """Confirmable answers that were taken, by message ID: acknowledged again when they are repeated."""
        self._next_token = secrets.randbits(8 * _TOKEN_OCTETS)

    def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
        farewell: Callable[[], Message] | None = None,
    ) -> GiveUp:
        """Send a request; one of the first two functions is called later, never from within.

        Args:
            request: code, options and payload count; Observe 0 registers an observation; an empty message is a ping,
                which somebody who is there answers by a Reset (RFC 7252 section 4.3): DeviceRefused.
            address: where the device is.
            on_answer: called for the answer, or for each notification; `last` says whether more may come.
            on_end: called in place of an answer when none will come.
            timeout_s: how long the device may take for its (first) answer.
            on_acknowledged: called when the device says that it has the request, and will answer later.
            farewell: makes the request by which an observation is cancelled; None: the same one, with Observe 1.

        Returns:
            The function that gives the exchange up: nothing of it leaves any more. An observation is also cancelled
            at the device.

        Raises:
            DeviceUnreachable: there is no way to that address, or too many wait for it already.
        """
        peer = self._peer(address)
        if len(peer.waiting) >= MAX_WAITING:
            raise DeviceBusy(f"{MAX_WAITING} requests wait for it already")
        token = self._new_token()
        message = Message(CON, request.code, 0, token, request.options, request.payload)
        pending = _Request(self, peer, message, on_answer, on_end, timeout_s, on_acknowledged, farewell)
        pending.ends_s = self._now_s() + timeout_s
        self._by_token[token] = pending
        if tells_messages():
            message_log.of_request(message, address)
        if peer.under_way < self._max_under_way:
            self._transmit(pending)
        else:
            peer.waiting.append(pending)
            self._deadlines.at(pending.ends_s, pending.expire)
        return pending.give_up

    def close(self) -> None:
        """End every exchange; nothing more is called."""
        for pending in list(self._by_token.values()):
            pending.is_over = True
        self._by_token.clear()
        self._by_mid.clear()

    # --- out

    def _peer(self, address: Address) -> _Peer:
        now, key = self._now_s(), (address.host, address.port)
        peer = self._peers.get(key, now)
        if peer is None:
            peer = _Peer(address)
            self._peers.put(key, peer, now)
        return peer

    def _new_token(self) -> bytes:
        while True:
            self._next_token = (self._next_token + 1) & (1 << 8 * _TOKEN_OCTETS) - 1
            token = self._next_token.to_bytes(_TOKEN_OCTETS, "big")
            if token not in self._by_token:
                return token

    def _transmit(self, pending: _Request) -> None:
        """Send a request for the first time."""
        peer, message = pending.peer, pending.message
        host, port, mid = peer.address.host, peer.address.port, peer.next_mid
        while (host, port, mid) in self._by_mid:
            mid = (mid + 1) & 0xFFFF
        peer.next_mid = (mid + 1) & 0xFFFF
        # An empty message has no token on the wire (section 4.1).
        token = message.token if message.code != codes.EMPTY else b""
        octets = encode(Message(CON, message.code, mid, token, message.options, message.payload))
        failure = self._send(octets, peer.address)
        if failure is not None:
            self._by_token.pop(message.token, None)
            pending.is_over = True
            raise DeviceUnreachable(failure)
        pending.mid, pending.octets = mid, octets
        self._by_mid[host, port, mid] = pending
        pending.unacknowledged = True
        peer.under_way += 1
        pending.wait_s = ACK_TIMEOUT_S * random.uniform(1.0, ACK_RANDOM_FACTOR)
        self._deadlines.at(min(self._now_s() + pending.wait_s, pending.ends_s), pending.expire)

    def expire(self, pending: _Request) -> None:
        """Repeat a request that is not acknowledged, or tell that there is no answer."""
        now = self._now_s()
        if now >= pending.ends_s:
            self._fail(pending, DeviceSilent(f"{pending.timeout_s:g} s"))
        elif not pending.unacknowledged:
            self._deadlines.at(pending.ends_s, pending.expire)
        elif pending.attempts >= MAX_RETRANSMIT:
            self._fail(pending, DeviceSilent("not acknowledged"))
        else:
            pending.attempts += 1
            pending.wait_s *= 2
            self._send(pending.octets, pending.peer.address)
            self._deadlines.at(min(now + pending.wait_s, pending.ends_s), pending.expire)

    def give_up(self, pending: _Request) -> None:
        """Tell the device that an observation ends: non-confirmable notifications would go on for ever otherwise."""
        was_sent = bool(pending.octets)
        self._finish(pending)
        if not was_sent or pending.message.uint(options.OBSERVE) != 0:
            return
        # RFC 7641 section 3.6: a GET with the same token and Observe 1.
        request = _cancelling(pending.message) if pending.farewell is None else pending.farewell()
        message = replace(request, mtype=CON, mid=0, token=pending.message.token)
        farewell = _Request(self, pending.peer, message, None, None, EXCHANGE_LIFETIME_S)
        farewell.ends_s = self._now_s() + EXCHANGE_LIFETIME_S
        self._by_token[message.token] = farewell
        try:
            self._transmit(farewell)
        except DeviceUnreachable:
            return

    # --- in

    def receive(self, octets: bytes, source: Address) -> None:
        """Take a datagram of a device."""
        try:
            message = decode(octets)
        except MessageError as error:
            if error.mtype == CON and error.mid is not None:
                self._send(encode(Message(RST, codes.EMPTY, error.mid)), source)
            return
        mtype = message.mtype
        if mtype == ACK:
            self._acknowledged(message, source)
        elif mtype == RST:
            pending = self._by_mid.get((source.host, source.port, message.mid))
            if pending is not None:
                self._fail(pending, DeviceRefused("rejected by Reset"))
        elif codes.is_response(message.code):
            self._separate_answer(message, source)
        elif mtype == CON:
            self._send(encode(Message(RST, codes.EMPTY, message.mid)), source)

    def _acknowledged(self, message: Message, source: Address) -> None:
        pending = self._by_mid.get((source.host, source.port, message.mid))
        if pending is None:
            return
        if message.code == codes.EMPTY:
            self._settle(pending)
            if pending.on_acknowledged is not None:
                pending.on_acknowledged()
        elif message.token == pending.message.token and codes.is_response(message.code):
            self._answer(pending, message)

    def _separate_answer(self, message: Message, source: Address) -> None:
        key = (source.host, source.port, message.mid)
        pending = self._by_token.get(message.token)
        known = message.mtype == CON and self._separate.get(key, self._now_s()) is not None
        if known:
            self._send(encode(Message(ACK, codes.EMPTY, message.mid)), source)
            return
        if pending is None or pending.peer.address != source:
            self._send(encode(Message(RST, codes.EMPTY, message.mid)), source)
            return
        if message.mtype == CON:
            self._send(encode(Message(ACK, codes.EMPTY, message.mid)), source)
            self._separate.put(key, True, self._now_s())
        self._answer(pending, message)

    def _answer(self, pending: _Request, message: Message) -> None:
        last = not (
            codes.is_success(message.code)
            and message.option(options.OBSERVE) is not None
            and pending.message.uint(options.OBSERVE) == 0
        )
        if last:
            self._finish(pending)
        else:
            pending.answered = True
            self._settle(pending)
        if tells_messages():
            message_log.of_answer(message, pending.peer.address)
        if pending.on_answer is not None:
            pending.on_answer(Response(message.code, message.payload, message.options, last))

    def unreachable(self, address: Address, reason: str) -> None:
        """The network says that a datagram to that address did not arrive (ICMP)."""
        for pending in [one for one in self._by_token.values() if one.peer.address == address and one.octets]:
            if not pending.answered or pending.unacknowledged:
                self._fail(pending, DeviceUnreachable(reason))

    # --- the end

    def _settle(self, pending: _Request) -> None:
        """The device has the request: no repetition any more, and the next one has its turn."""
        if not pending.unacknowledged:
            return
        pending.unacknowledged = False
        peer = pending.peer
        del self._by_mid[peer.address.host, peer.address.port, pending.mid]
        peer.under_way -= 1
        while peer.waiting and peer.under_way < self._max_under_way:
            following = peer.waiting.popleft()
            if following.is_over:
                continue
            try:
                self._transmit(following)
            except DeviceUnreachable as failure:
                if following.on_end is not None:
                    following.on_end(failure)

    def _finish(self, pending: _Request) -> None:
        pending.is_over = True
        token = pending.message.token
        if self._by_token.get(token) is pending:
            del self._by_token[token]
        self._settle(pending)

    def _fail(self, pending: _Request, failure: DeviceFailure) -> None:
        self._finish(pending)
        if pending.on_end is not None:
            pending.on_end(failure)


def _cancelling(request: Message) -> Message:
    pairs = tuple((number, b"\x01" if number == options.OBSERVE else value) for number, value in request.options)
    return Message(CON, request.code, 0, request.token, pairs)
