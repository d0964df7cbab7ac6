"""What one light NIC does, without I/O: observe its board, register, post readings, answer requests.

Does: one confirmable request in flight (NSTART 1) with the retransmission of RFC 7252 section 4.2; a bounded queue that
drops its oldest reading; what an answer of the gateway means, by the same table as the real NIC (`uplink.judge`); own
resources by the real NIC's table (`resources`), everything below `/snsr` to the board; recognise repeated requests.
Does not: own a socket, a task or a timer. The host owes: datagrams to `receive`, `due` at the time that was scheduled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from meshwire.coap import ACK, CON, NON, RST, Message, MessageError, codes, decode, encode, options
from meshwire.coap.observe import SEQUENCE_MODULUS
from meshwire.identity import DeviceId
from meshwire.notification import Notification, uplink_request
from nic_sim.fleet.board import CLASSIFIER, RESOURCE, SENSOR
from nic_sim.fleet.own import answer_own_resource
from nic_sim.fleet.watched import WatchedNics
from nic_sim.fleet.wire import Wire
from nic_sim.instruments import Instruments
from nic_sim.uplink import DEFAULT_MAX_AGE_S, LONGEST_MAX_AGE_S, REFUSED_WAIT_S, REGISTER, Verdict, judge

__all__ = ["Fate", "Host", "LightNic", "NicPlan", "Reading"]

SNSR: Final = "snsr"
ACK_TIMEOUT_S: Final = 2.0
ACK_RANDOM: Final = 0.5
MAX_RETRANSMIT: Final = 4
"""RFC 7252 section 4.8."""
FIRST_BACKOFF_S: Final = 1.0
REMEMBERED: Final = 4
"""Requests whose answers are kept for their repetition (RFC 7252 section 4.5)."""
_NEVER: Final = float("inf")
_OBSERVE_TOKEN: Final = b"ob"
_ASK_TOKEN: Final = b"rq"


class Fate(StrEnum):
    """What became of a reading, as its NIC knows it."""

    TAKEN = "taken"
    """The gateway has acknowledged it."""
    REFUSED = "refused-by-gateway"
    """The gateway will never take it (4.xx)."""
    QUEUE_FULL = "queue-full-at-nic"
    """The oldest had to go for a newer one."""
    REPORT_LOST = "board-not-observed"
    """The board had nobody to tell."""


class Reading(NamedTuple):
    """One notification of the board in the NIC's queue; a tuple, because there are many."""

    observe: int
    epoch: int
    time_s: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class NicPlan:
    """What all NICs of a fleet have in common. Times in seconds.

    Args:
        period_s: between readings; 0: none.
        register_s: between registrations.
        queue_limit: readings kept while the gateway does not answer.
        longest_backoff_s: longest pause between attempts to reach a silent gateway.
        gateways: how many there are; each NIC has a first one by its MAC and goes on to the next when it is silent.
    """

    period_s: float = 60.0
    register_s: float = 3600.0
    queue_limit: int = 64
    longest_backoff_s: float = 5.0
    gateways: int = 1


class Host(Protocol):
    """Who drives the NICs."""

    plan: NicPlan
    watched: WatchedNics

    def send_up(self, nic: LightNic, octets: bytes, gateway: int) -> None:
        """Send a datagram to a gateway, by its number."""
        ...

    def schedule(self, nic: LightNic, at: float) -> None:
        """Call `due` at `at` or soon after; a call too many does no harm."""
        ...

    def random(self) -> float:
        """A number from 0 to 1."""
        ...

    def unix_time(self, now: float) -> float:
        """Unix seconds at `now`."""
        ...

    def instruments(self, nic: LightNic) -> Instruments:
        """What the NIC measures about itself."""
        ...

    def made(self, nic: LightNic, reading: Reading, now: float) -> None:
        """The board has reported."""
        ...

    def settled(self, nic: LightNic, reading: Reading, fate: Fate, now: float) -> None:
        """A reading has left the NIC."""
        ...

    def registered(self, nic: LightNic, now: float) -> None:
        """The gateway has acknowledged a registration."""
        ...


class _Flight:
    """The one request that waits for its answer."""

    __slots__ = ("attempts", "due_at", "octets", "reading", "timeout_s")

    def __init__(self, octets: bytes, reading: Reading | None, timeout_s: float, now: float) -> None:
        self.octets = octets
        self.reading = reading
        """None: a registration."""
        self.timeout_s = timeout_s
        self.due_at = now + timeout_s
        self.attempts = 0


class LightNic:
    """One NIC with its board; see the module's text.

    Args:
        number: within the fleet.
        mac: its EUI-64.
        wire: to its board.
        host: who drives it.
        epoch: of its observe registrations; grows with each restart.
    """

    __slots__ = (
        "_answers", "_backoff_s", "_flight", "_gateway", "_host", "_mid", "_pause_until", "_queue",
        "_register_at", "_report_at", "_sequence", "epoch", "is_on",
        "is_registered", "mac", "number", "wake_at", "wire",
    )  # fmt: skip

    def __init__(self, number: int, mac: DeviceId, wire: Wire, host: Host, epoch: int) -> None:
        self.number = number
        self.mac = mac
        self.wire = wire
        self.epoch = epoch
        self.is_on = False
        self.is_registered = False
        self.wake_at = _NEVER
        self._host = host
        self._mid = number * 7919 & 0xFFFF
        self._queue: deque[Reading] | None = None
        self._flight: _Flight | None = None
        self._gateway = first_gateway(mac, host.plan.gateways)
        self._backoff_s = FIRST_BACKOFF_S
        self._pause_until = 0.0
        self._register_at = self._report_at = _NEVER
        self._sequence = -1
        self._answers: list[tuple[tuple[object, int], bytes]] | None = None

    # --- life

    def start(self, now: float, first_report_at: float) -> None:
        """Power up: observe the board, register, report at `first_report_at` and then every period."""
        self.is_on = True
        self._observe(now)
        self._register_at = now
        self._report_at = first_report_at if self._host.plan.period_s else _NEVER
        self.due(now)

    def stop(self, now: float) -> None:
        """Power down; the queue is on flash and stays."""
        self.is_on = self.is_registered = False
        self._put_back()
        self._report_at = self._register_at = self.wake_at = _NEVER
        self.wire.restart(now)

    def restart(self, now: float, first_report_at: float) -> None:
        """Power up again, with a new epoch of observes."""
        self.epoch += 1
        self._sequence = -1
        self._backoff_s, self._pause_until = FIRST_BACKOFF_S, now
        self.start(now, first_report_at)

    def register_again(self, now: float) -> None:
        """The address has changed: register at once, before any data."""
        if self.is_on:
            self._put_back()
            self.is_registered = False
            self._register_at, self._pause_until, self._backoff_s = now, now, FIRST_BACKOFF_S
            self._go_on(now)

    def stop_reporting(self) -> None:
        """Let the board be silent from now on."""
        self._report_at = _NEVER

    @property
    def waiting(self) -> list[Reading]:
        """Readings that the gateway has not acknowledged, oldest first."""
        flight = [] if self._flight is None or self._flight.reading is None else [self._flight.reading]
        return [*flight, *(self._queue or ())]

    # --- time

    def due(self, now: float) -> None:
        """Do what is due."""
        if not self.is_on:
            return
        if now >= self.wake_at:
            self.wake_at = _NEVER
        flight = self._flight
        if flight is not None and flight.due_at <= now:
            self._timed_out(flight, now)
        if self._report_at <= now:
            self._report_at = max(self._report_at + self._host.plan.period_s, now)
            self.report(now)
        self._go_on(now)

    def report(self, now: float) -> None:
        """Let the board take a reading now."""
        octets = self.wire.report(now, self._host.unix_time(now))
        if octets is None:
            # The board has forgotten us (it rebooted without a word): observe it again, and report then. Its Observe
            # numbers begin anew, so the epoch has to grow, or new readings would look like old ones.
            self.epoch += 1
            self._observe(now)
            octets = self.wire.report(now, self._host.unix_time(now))
        if octets is not None:
            self._take(decode(octets), now)

    # --- datagrams

    def receive(self, octets: bytes, source: object, now: float) -> bytes | None:
        """Take a datagram; gives the answer to send back to where it came from.

        Args:
            octets: as they came.
            source: names the sender, for recognising repetitions.
            now: seconds.
        """
        try:
            message = decode(octets)
        except MessageError as error:
            if error.mtype == CON and error.mid is not None:
                return encode(Message(RST, codes.EMPTY, error.mid))
            return None
        if codes.is_request(message.code):
            return self._serve(message, source, now)
        flight = self._flight
        if (
            flight is not None
            and message.mid == int.from_bytes(flight.octets[2:4], "big")
            and message.mtype in (ACK, RST)
        ):
            self._answered(flight, message, now)
        elif message.mtype == CON:
            return encode(Message(RST, codes.EMPTY, message.mid))
        return None

    # --- private: the board

    def _observe(self, now: float) -> None:
        pairs = ((options.OBSERVE, b""), *_board_options((CLASSIFIER, SENSOR), ("sens",)))
        octets = self._ask(Message(CON, codes.GET, self._next_mid(), _OBSERVE_TOKEN, pairs), now)
        if octets is not None:
            self._sequence = decode(octets).uint(options.OBSERVE) or 0

    def _ask(self, message: Message, now: float) -> bytes | None:
        return self.wire.ask(encode(message), now, self._host.unix_time(now))

    def _take(self, message: Message, now: float) -> None:
        """A notification; one that is not newer is dropped (RFC 7641 section 3.4)."""
        observe = message.uint(options.OBSERVE)
        if message.token != _OBSERVE_TOKEN or observe is None:
            return
        if self._sequence >= 0 and (observe - self._sequence) % SEQUENCE_MODULUS >= SEQUENCE_MODULUS // 2:
            return
        self._sequence = observe
        reading = Reading(observe, self.epoch, round(self._host.unix_time(now), 3), message.payload)
        self._host.made(self, reading, now)
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        if len(queue) >= self._host.plan.queue_limit:
            self._host.settled(self, queue.popleft(), Fate.QUEUE_FULL, now)
        queue.append(reading)

    # --- private: towards the gateway

    def _go_on(self, now: float) -> None:
        """Send what can be sent, and say when to come back."""
        if self._flight is None and now >= self._pause_until:
            if self._register_at <= now:
                self._send(self._registration(), None, now)
            elif self._queue:
                reading = self._queue.popleft()
                if not self._queue:
                    self._queue = None
                self._send(self._post(reading), reading, now)
        if self._flight is not None:
            wake = self._flight.due_at
        else:
            wake = self._register_at
            if self._queue:
                wake = min(wake, max(self._pause_until, now))
            wake = max(wake, self._pause_until)
        self._wake(min(wake, self._report_at))

    def _wake(self, at: float) -> None:
        if at != _NEVER and at != self.wake_at:
            self.wake_at = at
            self._host.schedule(self, at)

    def _send(self, message: Message, reading: Reading | None, now: float) -> None:
        timeout_s = ACK_TIMEOUT_S * (1 + ACK_RANDOM * self._host.random())
        self._flight = _Flight(encode(message), reading, timeout_s, now)
        self._host.send_up(self, self._flight.octets, self._gateway)

    def _registration(self) -> Message:
        pairs = (
            (options.URI_PATH, REGISTER.encode()),
            (options.URI_PATH, self.mac.value.encode()),
            (options.CONTENT_FORMAT, options.encode_uint(options.LINK_FORMAT)),
            (options.URI_QUERY, f"lt={self._host.plan.register_s:.0f}".encode()),
        )
        mid = self._next_mid()
        return Message(CON, codes.POST, mid, mid.to_bytes(2, "big"), pairs, _LINKS)

    def _post(self, reading: Reading) -> Message:
        notification = Notification(
            self.mac, RESOURCE, reading.observe, reading.epoch, options.CBOR, reading.payload, reading.time_s
        )
        segments, queries = uplink_request(notification)
        pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
        pairs.append((options.CONTENT_FORMAT, b"\x3c"))
        pairs += [(options.URI_QUERY, query.encode()) for query in queries]
        mid = self._next_mid()
        return Message(CON, codes.POST, mid, mid.to_bytes(2, "big"), tuple(pairs), reading.payload)

    def _timed_out(self, flight: _Flight, now: float) -> None:
        if flight.attempts < MAX_RETRANSMIT:
            flight.attempts += 1
            flight.timeout_s *= 2
            flight.due_at = now + flight.timeout_s
            self._host.send_up(self, flight.octets, self._gateway)
            return
        self._put_back()
        self._gateway = (self._gateway + 1) % self._host.plan.gateways
        if self._host.plan.gateways > 1:
            self._register_at = now
        self._pause(self._backoff_s, now)
        self._backoff_s = min(2 * self._backoff_s, self._host.plan.longest_backoff_s)

    def _pause(self, seconds: float, now: float) -> None:
        self._pause_until = now + seconds * (1 + 0.25 * self._host.random())

    def _put_back(self) -> None:
        """What was in flight is the oldest of the queue again."""
        flight, self._flight = self._flight, None
        if flight is not None and flight.reading is not None:
            if self._queue is None:
                self._queue = deque()
            self._queue.appendleft(flight.reading)

    def _answered(self, flight: _Flight, message: Message, now: float) -> None:
        if message.mtype == ACK and message.code == codes.EMPTY:
            flight.attempts, flight.due_at = MAX_RETRANSMIT, now + 30  # a separate response will come
            self._wake(min(flight.due_at, self._report_at))
            return
        verdict = Verdict.LATER if message.mtype == RST else judge(message.code)
        if verdict is Verdict.TAKEN:
            self._taken(flight, now)
        elif verdict is Verdict.DROP:
            self._flight = None
            if flight.reading is None:
                self._register_at = now + self._host.plan.register_s
            else:
                self._host.settled(self, flight.reading, Fate.REFUSED, now)
        else:
            self._put_back()
            max_age_s = message.uint(options.MAX_AGE)
            later_s = min(DEFAULT_MAX_AGE_S if max_age_s is None else max_age_s, LONGEST_MAX_AGE_S)
            self._pause(REFUSED_WAIT_S if verdict is Verdict.REFUSED else later_s, now)
        self._go_on(now)

    def _taken(self, flight: _Flight, now: float) -> None:
        self._flight = None
        self._backoff_s = FIRST_BACKOFF_S
        if flight.reading is not None:
            self._host.settled(self, flight.reading, Fate.TAKEN, now)
            return
        self.is_registered = True
        self._register_at = now + self._host.plan.register_s * (0.9 + 0.1 * self._host.random())
        self._host.registered(self, now)

    # --- private: requests of others

    def _serve(self, request: Message, source: object, now: float) -> bytes | None:
        key = (source, request.mid)
        for known, octets in self._answers or ():
            if known == key:
                return octets
        answer = self._respond(request, now)
        octets = encode(answer)
        if self._answers is None:
            self._answers = []
        self._answers.append((key, octets))
        del self._answers[:-REMEMBERED]
        return octets

    def _respond(self, request: Message, now: float) -> Message:
        mtype = ACK if request.mtype == CON else NON
        mid = request.mid if request.mtype == CON else self._next_mid()
        if request.path()[:1] == (SNSR,):
            asked = Message(CON, request.code, self._next_mid(), _ASK_TOKEN, _for_board(request), request.payload)
            octets = self._ask(asked, now)
            if octets is None:
                text = f"nic {self.mac}: the board did not answer"
                return Message(mtype, codes.GATEWAY_TIMEOUT, mid, request.token, (), text.encode())
            response = decode(octets)
        else:
            response = answer_own_resource(request, self, self._host, now)
        return Message(mtype, response.code, mid, request.token, response.options, response.payload)

    def _next_mid(self) -> int:
        self._mid = self._mid + 1 & 0xFFFF
        return self._mid


_LINKS: Final = f'</snsr>,</{RESOURCE}>;rt="{SENSOR}";obs'.encode()


def first_gateway(mac: DeviceId, gateways: int) -> int:
    """Which gateway a NIC belongs to: an even partition by MAC, the same for every NIC and every release."""
    return int(mac.value, 16) * 0x9E37_79B9_7F4A_7C15 % (1 << 64) * gateways >> 64


def _board_options(path: Sequence[str], query: Sequence[str]) -> tuple[tuple[int, bytes], ...]:
    return (
        *((options.URI_PATH, segment.encode()) for segment in path),
        *((options.URI_QUERY, argument.encode()) for argument in query),
    )


def _for_board(request: Message) -> tuple[tuple[int, bytes], ...]:
    """The request's options without what names this hop, without the first path segment, and without Observe: the
    NIC observes for everybody."""
    kept: list[tuple[int, bytes]] = []
    first = True
    for number, value in request.options:
        if number == options.URI_PATH and first:
            first = False
        elif number not in (options.URI_HOST, options.URI_PORT, options.OBSERVE):
            kept.append((number, value))
    return tuple(kept)
