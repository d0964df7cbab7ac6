"""What is done with one request of a NIC: a bubble-up notification or an address registration. No socket, no clock.

Does: judge the request, find the device and its tenant, recognise repetitions, put the notification into the outbox,
and say what is answered and when. Does not: write to disk or to sockets. The caller owes: a commit of the outbox
after `receive` has deferred answers, then `committed` or `failed`, and the datagrams that these give sent.

A notification is answered 2.04 only after its commit: from then on the gateway is responsible for it (dialect H.5:
unknown devices get 4.03; a full store 5.03 with Max-Age, so that the NIC keeps what it has).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol

from gateway import message_log
from gateway.addresses import Address, of_nic
from gateway.deduplication import EXCHANGE_LIFETIME_S, RecentKeys
from gateway.direct import DirectDelivery
from gateway.envelope import StoredNotification, pack
from gateway.intake import Batch, Datagram, ExchangeKey, Exchanges, Intake, Memory, Owners, Storing
from gateway.nic_oscore.guard import NicGuard, Protect, ProtectionError, is_of_nic
from gateway.outbox import Outbox, OutboxFull
from gateway.registry import Device
from gateway.statistics import Event, Statistics
from meshwire.coap import ACK, CON, NON, Message, codes, decode, encode, options
from meshwire.identity import DeviceId, IdentityError
from meshwire.logs import tells_messages
from meshwire.mesh_place import MeshPlace, parse_place
from meshwire.notification import BUBBLE_UP, NotificationError, parse_uplink
from meshwire.oscore import Challenge, Response

__all__ = ["KEY_LIFETIME_S", "REGISTER", "Datagram", "Directory", "Sink", "is_for_guarded_sink", "is_for_sink"]

REGISTER: Final = "register"
"""First path segment of an address registration: `POST /register/{mac}`."""

MAX_MESSAGES: Final = 65_536
KEY_LIFETIME_S: Final = 86_400.0
"""How long a stored notification is recognised at least when a NIC sends it again with another message ID, as long as
it is one of the device's latest (`RecentKeys`)."""

_UNDERSTOOD: Final = frozenset(
    {options.URI_HOST, options.URI_PORT, options.URI_PATH, options.URI_QUERY, options.ACCEPT}
)
"""Critical options that do not stop us (RFC 7252 section 5.4.1)."""


@dataclass(frozen=True, slots=True)
class _Answer:
    code: int
    diagnostic: str = ""
    max_age_s: int | None = None


class _Refusal(Exception):
    """The request is not taken; carries the answer and the reason for the counters."""

    def __init__(self, answer: _Answer, reason: str, mac: str = "") -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason
        self.mac = mac
        """Whose it says it is, where the request itself does not tell."""


@dataclass(slots=True)
class _Exchange:
    """One message ID of one peer whose answer is not known; then the table holds the answer in its place."""

    key: ExchangeKey


@dataclass(slots=True)
class _ProtectedExchange(_Exchange):
    """One that came under the key of its NIC, as its answer will."""

    protect: Protect


class _Waiting(NamedTuple):
    """A request whose answer waits for a commit: of its own notification, or of the earlier one that it repeats."""

    source: Address
    request: Message
    exchange: _Exchange
    key: bytes
    entry: Storing
    repeats: bool


_CHANGED: Final = _Answer(codes.CHANGED)
_DIRECT_REASONS: Final = {
    "no-receiver": "no receiver is there for readings of this tenant",
    "receivers-busy": "the receivers take no more at present",
    "broker-away": "the broker is away",
    "no-answer": "no receiver has taken it in time",
}
"""What a NIC that has to keep a direct reading is told."""


def is_for_sink(message: Message) -> bool:
    """Whether a request is of a NIC to the gateway itself, and not of a client or for a device."""
    first = message.option(options.URI_PATH)
    return (
        first in (BUBBLE_UP.encode(), REGISTER.encode())
        and codes.is_request(message.code)
        and message.option(options.PROXY_URI) is None
        and message.option(options.PROXY_SCHEME) is None
    )


def is_for_guarded_sink(message: Message) -> bool:
    """As `is_for_sink`, of a sink that opens what NICs have protected, too."""
    return is_for_sink(message) or is_of_nic(message)


class Directory(Owners, Protocol):
    """What the sink asks of the registry."""

    def registered(
        self, mac: DeviceId, address: Address, now_s: float, interval_s: float | None, place: MeshPlace | None = None
    ) -> None:
        """It has registered at its place in the mesh, and will again every `interval_s`."""


class Sink:
    """See the module's text.

    Args:
        registry: who owns which device.
        outbox: where notifications go.
        statistics: counted here.
        next_message_id: message ID for an answer of its own to a NON request.
        on_registration: told of each device that has registered.
        on_refusal: told of each notification that was refused: its MAC as it was spelled, reason, source, Unix time.
        retry_after_s: Max-Age of the answer while the outbox is full.
        direct: takes readings that are not to be stored; None: all are.
        guard: opens what NICs have protected, and says who must; None: nobody's is, and nobody must.
    """

    def __init__(
        self,
        registry: Directory,
        outbox: Outbox,
        statistics: Statistics,
        *,
        next_message_id: Callable[[], int],
        on_registration: Callable[[Device], None] = lambda device: None,
        on_refusal: Callable[[str, str, Address, float], None] = lambda mac, reason, source, now_s: None,
        retry_after_s: int = 10,
        direct: DirectDelivery | None = None,
        guard: NicGuard | None = None,
    ) -> None:
        self.on_answer: Callable[[Datagram], None] = lambda datagram: None
        """Takes answers that are known later, of direct readings."""
        self._direct = direct
        self._guard = guard
        self._on_refusal = on_refusal
        self._registry = registry
        self._outbox = outbox
        self._statistics = statistics
        self._next_message_id = next_message_id
        self._on_registration = on_registration
        self._full = _Answer(codes.SERVICE_UNAVAILABLE, "gateway: outbox is full", retry_after_s)
        self._unwritable = _Answer(codes.SERVICE_UNAVAILABLE, "gateway: outbox can't be written", retry_after_s)
        self._memory = Memory(Exchanges(EXCHANGE_LIFETIME_S, MAX_MESSAGES), {}, RecentKeys(KEY_LIFETIME_S))
        self._now = 0.0
        """Monotonic time of the latest request."""
        self._intake = Intake(registry, outbox, statistics, self._memory, direct, guard)
        self._appended: list[_Waiting] = []
        self._committing: list[_Waiting] = []
        self._batches: list[Batch] = []
        self._committing_batches: list[Batch] = []

    def recall(self, stored: Iterable[tuple[bytes, float]], now: float) -> None:
        """Know what an earlier process has stored: a NIC that got no answer, for we were killed, sends it again.

        Args:
            stored: keys, and how many seconds ago each was stored; the oldest first.
            now: a monotonic time in seconds.
        """
        for key, age_s in stored:
            if age_s < KEY_LIFETIME_S:
                self._memory.stored.add(key, now)

    def receive(self, message: Message, source: Address, now: float, now_s: float) -> Datagram | None:
        """Take one request in.

        Args:
            message: for which `is_for_sink` holds, or `is_for_guarded_sink` where there is a guard.
            source: who sent it.
            now: a monotonic time in seconds, for lifetimes.
            now_s: Unix time in seconds, for what is stored.

        Returns:
            The answer, or None when it waits for a commit or has been lost to a repetition.
        """
        exchange_key = source.octets + message.mid.to_bytes(2, "big")
        known = self._memory.exchanges.get(exchange_key, now)
        if known is not None:
            self._statistics.count(Event.DUPLICATE, "message-id")
            return Datagram(source, known) if isinstance(known, bytes) and known else None
        exchange, self._now = _Exchange(exchange_key), now
        self._memory.exchanges.put(exchange_key, exchange, now)
        try:
            if self._guard is None or message.option(options.OSCORE) is None:
                answer = self._handle(message, source, source, exchange, now_s)
            else:
                opened = self._open(self._guard, message, exchange_key)
                if isinstance(opened, Challenge):
                    return self._challenge(message, source, exchange, opened)
                mac, message, exchange = opened
                answer = self._handle_protected(mac, message, source, exchange, now_s)
        except _Refusal as refusal:
            self._statistics.count(Event.REFUSED, refusal.reason)
            if tells_messages():
                message_log.of_refusal(refusal.mac or _spelled_mac(message), refusal.reason, source)
            self._on_refusal(refusal.mac or _spelled_mac(message), refusal.reason, source, now_s)
            answer = refusal.answer
        return None if answer is None else self._answer(message, source, exchange, answer)

    def receive_all(
        self,
        datagrams: Iterator[tuple[bytes, Address]],
        now: float,
        now_s: float,
        other: Callable[[bytes, Address], None],
    ) -> None:
        """Take notifications in their usual spelling: what `receive` would do with each, at a small part of the cost.

        Args:
            datagrams: as they came; the answers to those taken wait for a commit.
            now, now_s: as for `receive`.
            other: called, in turn, with what is to be looked at closer: nothing has happened with it.
        """
        self._now = now
        while (unusual := self._intake.take(datagrams, now, now_s, self._batches)) is not None:
            other(*unusual)

    @property
    def is_waiting(self) -> bool:
        """Whether answers wait for the next commit."""
        return bool(self._appended or self._batches)

    def committing(self) -> None:
        """The outbox has begun a commit: what was appended so far is in it."""
        self._committing, self._appended = self._appended, []
        self._committing_batches, self._batches = self._batches, []

    def committed(self) -> list[Datagram]:
        """The commit has succeeded: the answers to all that waited for it."""
        done, self._committing = self._committing, []
        batches, self._committing_batches = self._committing_batches, []
        answers = [answer for batch in batches for answer in self._intake.stored(batch, self._now)]
        stored = len(answers)
        for waiting in done:
            if not waiting.repeats:
                self._memory.note_stored(waiting.key, waiting.entry, self._now)
                stored += 1
        self._statistics.count(Event.STORED, times=stored)
        if tells_messages():
            keys = [key for batch in batches for key in batch.keys]
            message_log.of_stored(self._registry, [*keys, *(each.key for each in done if not each.repeats)])
        return answers + self._answers(done)

    def failed(self) -> list[Datagram]:
        """The commit has failed: nothing of it was stored, and the NICs keep it."""
        done, self._committing = self._committing, []
        batches, self._committing_batches = self._committing_batches, []
        for waiting in done:
            if not waiting.repeats:
                del self._memory.underway[waiting.key]
                self._statistics.count(Event.REFUSED, "unwritable")
        answers = self._answers(done)
        for batch in batches:
            self._intake.failed(batch)
            self._statistics.count(Event.REFUSED, "unwritable", len(batch.requests))
            for (octets, source), key in zip(batch.requests, batch.exchanges, strict=True):
                refusal = self._answer(decode(octets), source, _Exchange(key), self._unwritable)
                answers += [] if refusal is None else [refusal]
        return answers

    # --- private

    def _answers(self, done: list[_Waiting]) -> list[Datagram]:
        answers = []
        for source, request, exchange, _, entry, _ in done:
            answer = self._answer(request, source, exchange, _CHANGED if entry.stored else self._unwritable)
            if answer is not None:
                answers.append(answer)
        return answers

    def _open(
        self, guard: NicGuard, message: Message, key: ExchangeKey
    ) -> tuple[DeviceId, Message, _ProtectedExchange] | Challenge:
        try:
            opened = guard.open(message)
        except ProtectionError as error:
            raise _Refusal(_Answer(error.code, error.diagnostic, 0), error.reason, error.mac.value) from None
        if isinstance(opened, Challenge):
            return opened
        return opened.mac, opened.request, _ProtectedExchange(key, opened.protect)

    def _handle_protected(
        self, mac: DeviceId, message: Message, source: Address, exchange: _Exchange, now_s: float
    ) -> _Answer | None:
        if not is_for_sink(message):
            raise _Refusal(_Answer(codes.NOT_FOUND, "gateway: a NIC registers and bubbles up"), "malformed", mac.value)
        if _spelled_mac(message) != mac.value:
            raise _Refusal(_Answer(codes.FORBIDDEN, f"gateway: the key is of {mac}"), "oscore-other-device", mac.value)
        return self._handle(message, source, of_nic(mac, source), exchange, now_s)

    def _challenge(self, request: Message, source: Address, exchange: _Exchange, challenge: Challenge) -> Datagram:
        """Ask whether the NIC is there now: the first time that it is heard since the gateway has started."""
        octets = self._encode_response(request, challenge.answer)
        self._memory.exchanges.replace(exchange.key, octets)
        return Datagram(source, octets)

    def _handle(
        self, message: Message, source: Address, seen_at: Address, exchange: _Exchange, now_s: float
    ) -> _Answer | None:
        if message.code != codes.POST:
            raise _Refusal(_Answer(codes.METHOD_NOT_ALLOWED), "method")
        for number, _ in message.options:
            if options.is_critical(number) and number not in _UNDERSTOOD:
                raise _Refusal(_Answer(codes.BAD_OPTION, f"gateway: option {number}"), "option")
        if message.option(options.URI_PATH) == REGISTER.encode():
            return self._register(message, seen_at, now_s)
        return self._bubble_up(message, source, seen_at, exchange, now_s)

    def _register(self, message: Message, seen_at: Address, now_s: float) -> _Answer:
        path = message.path()
        try:
            mac = DeviceId.parse(path[1] if len(path) == 2 else "")
        except IdentityError as error:
            raise _Refusal(_Answer(codes.BAD_REQUEST, f"gateway: {error}"), "malformed") from None
        device, query = self._device(mac, seen_at), message.query()
        self._intake.moves += 1
        self._registry.registered(mac, seen_at, now_s, _interval_s(query), parse_place(query))
        self._statistics.count(Event.REGISTERED)
        self._on_registration(device)
        return _CHANGED

    def _bubble_up(
        self, message: Message, source: Address, seen_at: Address, exchange: _Exchange, now_s: float
    ) -> _Answer | None:
        content_format = message.uint(options.CONTENT_FORMAT)
        try:
            notification = parse_uplink(message.path(), message.query(), content_format, message.payload)
        except NotificationError as error:
            raise _Refusal(_Answer(codes.BAD_REQUEST, f"gateway: {error}"), "malformed") from None
        device = self._device(notification.device, seen_at)
        self._intake.moves += 1
        self._registry.seen(device.mac, seen_at, now_s)
        key = notification.key.encode()
        entry = self._memory.underway.get(key)
        repeats = entry is not None
        if repeats or key in self._memory.stored:
            self._statistics.count(Event.DUPLICATE, "key")
        if entry is None:
            if key in self._memory.stored:
                return _CHANGED
            stored, entry = StoredNotification(device.tenant, notification), Storing()
            if self._direct is not None and self._direct.takes(stored):
                self._memory.underway[key] = entry
                waiting = _Waiting(source, message, exchange, key, entry, False)
                self._direct.send(stored, partial(self._direct_done, waiting, now_s))
                return None
            self._append(stored, now_s)
            self._memory.underway[key] = entry
        self._appended.append(_Waiting(source, message, exchange, key, entry, repeats))
        return None

    def _direct_done(self, waiting: _Waiting, now_s: float, reason: str) -> None:
        """A direct reading was taken (no reason), or the NIC is to keep it."""
        source, request, exchange, key, entry, _ = waiting
        assert self._direct is not None
        if reason:
            del self._memory.underway[key]
            self._statistics.count(Event.REFUSED, reason)
            self._on_refusal(_spelled_mac(request), reason, source, now_s)
            words = f"gateway: {_DIRECT_REASONS.get(reason, reason)}"
            answer = _Answer(codes.SERVICE_UNAVAILABLE, words, self._direct.retry_after_s)
        else:
            self._memory.note_stored(key, entry, self._now)
            self._statistics.count(Event.PUBLISHED)
            answer = _CHANGED
        datagram = self._answer(request, source, exchange, answer)
        if datagram is not None:
            self.on_answer(datagram)

    def _append(self, stored: StoredNotification, now_s: float) -> None:
        try:
            self._outbox.append(pack(stored), int(now_s * 1000))
        except OutboxFull:
            raise _Refusal(self._full, "outbox-full") from None
        except ValueError:
            raise _Refusal(_Answer(codes.REQUEST_ENTITY_TOO_LARGE), "too-large") from None

    def _device(self, mac: DeviceId, seen_at: Address) -> Device:
        device = self._registry.device(mac)
        if device is None or not device.enabled:
            if device is not None and device.refusal:
                raise _Refusal(_Answer(codes.FORBIDDEN, f"gateway: {device.refusal}"), "account-not-served")
            raise _Refusal(
                _Answer(codes.FORBIDDEN, "gateway: device is not provisioned"),
                "unknown-device" if device is None else "disabled-device",
            )
        if self._guard is not None and not seen_at.security and self._guard.wants(device):
            raise _Refusal(_Answer(codes.UNAUTHORIZED, "gateway: OSCORE is required"), "oscore-required")
        return device

    def _answer(self, request: Message, source: Address, exchange: _Exchange, answer: _Answer) -> Datagram | None:
        octets = self._encode(request, answer, exchange)
        self._memory.exchanges.replace(exchange.key, octets)
        return Datagram(source, octets) if octets else None

    def _encode(self, request: Message, answer: _Answer, exchange: _Exchange) -> bytes:
        if (request.uint(options.NO_RESPONSE) or 0) & 1 << (answer.code >> 5) - 1:
            # RFC 7967: no answer wanted; a confirmable request is acknowledged all the same.
            return encode(Message(ACK, codes.EMPTY, request.mid)) if request.mtype == CON else b""
        max_age = () if answer.max_age_s is None else ((options.MAX_AGE, options.encode_uint(answer.max_age_s)),)
        response = Response(answer.code, max_age, answer.diagnostic.encode())
        if isinstance(exchange, _ProtectedExchange):
            response = exchange.protect(response)
        return self._encode_response(request, response)

    def _encode_response(self, request: Message, response: Response) -> bytes:
        """CON is answered by a piggybacked ACK, NON by NON (RFC 7252 sections 5.2.1 and 5.2.3)."""
        mtype, mid = (ACK, request.mid) if request.mtype == CON else (NON, self._next_message_id())
        return encode(Message(mtype, response.code, mid, request.token, response.options, response.payload))


def _interval_s(queries: tuple[str, ...]) -> float | None:
    """`lt=`: how often the device registers, in seconds, when it says so and it makes sense."""
    for query in queries:
        name, _, value = query.partition("=")
        if name == "lt" and value.isascii() and value.isdigit() and 0 < int(value[:10]) <= 0xFFFF_FFFF:
            return float(value[:10])
    return None


def _spelled_mac(message: Message) -> str:
    """The MAC in canonical spelling where there is one, else what stands in its place, shortened."""
    second = message.path()[1:2]
    try:
        return DeviceId.parse(second[0]).value if second else "-"
    except IdentityError:
        return second[0][:32]
