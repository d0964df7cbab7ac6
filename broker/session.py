"""The session of one client: its subscriptions, what waits for it, and both directions of QoS 1 and 2. No socket, no
clock.

Laws:
1. All state of a delivery is in this file; every acknowledgement goes through `_STEPS`, looked up before anything
   moves.
2. A message is in exactly one place: waiting (`queue`), in flight (`_inflight`), or gone and counted.
3. Order: messages leave the queue as they came, and after a reconnect what was in flight is sent again, first and in
   order ([MQTT-4.6.0-1]).

Does: packet identifiers, the window (Receive Maximum), redelivery with DUP, the bounded queue, recognition of repeated
QoS 2 publishes.
Does not: match topics, ask permissions, know about connections beyond `Outlet`, end itself.
The caller owes: `attach`/`detach` with each connection, `pump` when an outlet can take more, `now` in loop seconds.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from broker.message import Message
from broker.policy import NOTHING, Permissions
from broker.router import Subscription
from broker.settings import FullQueue, Limits
from broker.statistics import Drop, Statistics
from meshwire.identity import LoginKind, Principal
from meshwire.mqtt import PacketError, ProtocolVersion, PubRel, ReasonCode, Will, encode

__all__ = ["Outlet", "Session", "SessionKey"]


class SessionKey(NamedTuple):
    """What makes a session one client's own: equal client ids of two tenants, or of a token and a password, are two
    sessions.
    """

    tenant: str
    kind: LoginKind
    client_id: str


class Outlet(Protocol):
    """The connection as a session sees it."""

    version: ProtocolVersion
    max_packet_octets: int
    """What the client accepts (Maximum Packet Size)."""
    receive_maximum: int
    """QoS 1 and 2 messages the client takes at once."""
    is_full: bool
    """The transport wants a pause: QoS 1 and 2 messages wait in the queue."""
    backlog_octets: int
    """Written and not yet taken by the network."""

    def write(self, data: bytes) -> None:
        """Takes octets to send in this loop turn."""

    def taken_over(self) -> None:
        """Another connection has the session now; this one ends."""


class Step(Enum):
    """Where a delivery stands."""

    AWAIT_PUBACK = auto()
    AWAIT_PUBREC = auto()
    AWAIT_PUBCOMP = auto()
    DONE = auto()


class Answer(Enum):
    """What a client said about a delivery."""

    PUBACK = auto()
    PUBREC = auto()
    PUBREC_FAILURE = auto()
    PUBCOMP = auto()


_STEPS: Final[dict[tuple[Step, Answer], Step]] = {
    (Step.AWAIT_PUBACK, Answer.PUBACK): Step.DONE,
    (Step.AWAIT_PUBREC, Answer.PUBREC): Step.AWAIT_PUBCOMP,
    (Step.AWAIT_PUBREC, Answer.PUBREC_FAILURE): Step.DONE,
    (Step.AWAIT_PUBCOMP, Answer.PUBREC): Step.AWAIT_PUBCOMP,  # our PUBREL is repeated
    (Step.AWAIT_PUBCOMP, Answer.PUBCOMP): Step.DONE,
}
"""MQTT 5.0 section 4.3; what is not here is a protocol error of the client."""


@dataclass(slots=True)
class Delivery:
    """One message for one client."""

    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    step: Step = Step.DONE


class Session:
    """See the module.

    Args:
        key: whose session.
        limits: bounds of queue and window.
        statistics: where losses are counted.
    """

    __slots__ = (
        "_inflight",
        "_last_packet_id",
        "_limits",
        "_queued_octets",
        "_resend",
        "_statistics",
        "expires_at",
        "expiry_s",
        "incoming",
        "key",
        "outlet",
        "permissions",
        "principal",
        "queue",
        "subscriptions",
        "will",
        "will_due_at",
    )

    def __init__(self, key: SessionKey, limits: Limits, statistics: Statistics) -> None:
        self.key = key
        self.permissions: Permissions = NOTHING
        self.principal: Principal | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.queue: deque[Delivery] = deque()
        self.incoming: set[int] = set()
        """QoS 2 packet identifiers of the client between PUBLISH and PUBREL."""
        self.outlet: Outlet | None = None
        self.expiry_s = 0
        self.expires_at: float | None = None
        self.will: Will | None = None
        self.will_due_at: float | None = None
        self._limits = limits
        self._statistics = statistics
        self._inflight: dict[int, Delivery] = {}
        self._resend: deque[int] = deque()
        self._queued_octets = 0
        self._last_packet_id = 0

    @property
    def inflight_count(self) -> int:
        return len(self._inflight)

    # --- connection -------------------------------------------------------------------------------------------------

    def attach(self, outlet: Outlet) -> None:
        """A connection took the session; call `pump` after its CONNACK is written."""
        self.outlet = outlet
        self.expires_at = None
        self._resend = deque(self._inflight)

    def detach(self) -> None:
        """The connection is gone. QoS 0 messages are never kept for a client that is away."""
        self.outlet = None
        kept = deque(item for item in self.queue if item.qos)
        self._drop(Drop.QOS0_OFFLINE, len(self.queue) - len(kept))
        self._replace_queue(kept)

    def pump(self, now: float) -> None:
        """Sends what was in flight before, then what waits, as far as the window and the outlet allow."""
        outlet = self.outlet
        if outlet is None:
            return
        while self._resend and not outlet.is_full and len(self._inflight) - len(self._resend) < outlet.receive_maximum:
            self._send_again(outlet, self._resend.popleft(), now)
        if self._resend:
            return
        while self.queue and not outlet.is_full and len(self._inflight) < outlet.receive_maximum:
            item = self.queue.popleft()
            self._queued_octets -= item.message.octets
            if item.message.is_expired(now):
                self._drop(Drop.EXPIRED)
            else:
                self._send(outlet, item.message, item.qos, item.retain, item.identifiers, now)

    def _send_again(self, outlet: Outlet, packet_id: int, now: float) -> None:
        """[MQTT-4.4.0-1]: unacknowledged PUBLISH (with DUP, [MQTT-3.3.1-1]) and PUBREL, with their identifiers."""
        item = self._inflight.get(packet_id)
        if item is None:
            return
        if item.step is Step.AWAIT_PUBCOMP:
            outlet.write(encode(PubRel(packet_id), outlet.version))
            return
        head, tail = item.message.parts_for(outlet.version, item.qos, item.retain, item.identifiers, now)
        outlet.write(bytes((head[0] | 8,)) + head[1:] + packet_id.to_bytes(2, "big") + tail)
        self._statistics.messages_sent[item.qos] += 1

    # --- towards the client -----------------------------------------------------------------------------------------

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], now: float) -> None:
        """Sends the message now, or keeps it, or drops and counts it."""
        outlet = self.outlet
        if qos == 0:
            if outlet is None:
                self._drop(Drop.QOS0_OFFLINE)
            elif outlet.backlog_octets > self._limits.qos0_backlog_octets:
                self._drop(Drop.QOS0_BACKLOG)
            else:
                self._send(outlet, message, 0, retain, identifiers, now)
        elif (
            outlet is None
            or self.queue
            or self._resend
            or outlet.is_full
            or len(self._inflight) >= outlet.receive_maximum
        ):
            self._enqueue(Delivery(message, qos, retain, identifiers))
        else:
            self._send(outlet, message, qos, retain, identifiers, now)

    def deliver_retained(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        """The same for a message found at SUBSCRIBE: many may come at once, so even QoS 0 waits its turn. Call `pump`
        afterwards.
        """
        self._enqueue(Delivery(message, qos, retain, identifiers))

    def _send(
        self, outlet: Outlet, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], now: float
    ) -> None:
        if message.expires_at is None and not identifiers:
            head, tail = message.parts(outlet.version, qos, retain)
        else:
            head, tail = message.parts_for(outlet.version, qos, retain, identifiers, now)
        if len(head) + len(tail) + 2 > outlet.max_packet_octets:
            self._drop(Drop.TOO_LARGE_FOR_CLIENT)  # [MQTT-3.1.2-25]: as if it had been sent
            return
        if qos == 0:
            outlet.write(head + tail)
        else:
            packet_id = self._free_packet_id()
            step = Step.AWAIT_PUBACK if qos == 1 else Step.AWAIT_PUBREC
            self._inflight[packet_id] = Delivery(message, qos, retain, identifiers, step)
            outlet.write(b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 0xFF, tail))
        self._statistics.messages_sent[qos] += 1

    def _free_packet_id(self) -> int:
        """[MQTT-2.2.1-3]: an identifier not in use; the window is smaller than their number, so there is one."""
        packet_id = self._last_packet_id % 65_535 + 1
        while packet_id in self._inflight:
            packet_id = packet_id % 65_535 + 1
        self._last_packet_id = packet_id
        return packet_id

    def _enqueue(self, item: Delivery) -> None:
        limits, octets = self._limits, item.message.octets
        while len(self.queue) >= limits.max_queued_messages or self._queued_octets + octets > limits.max_queued_octets:
            self._drop(Drop.QUEUE_FULL)
            if limits.when_queue_is_full is FullQueue.DISCARD_NEW or octets > limits.max_queued_octets:
                return
            self._queued_octets -= self.queue.popleft().message.octets
        self.queue.append(item)
        self._queued_octets += octets

    # --- acknowledgements of the client -----------------------------------------------------------------------------

    def acknowledge(self, packet_id: int, answer: Answer, now: float) -> bool:
        """The gate of all acknowledgements; sends PUBREL where the flow asks for it, and what now fits the window.

        Returns:
            False when no delivery has this identifier.

        Raises:
            PacketError: the answer does not fit the delivery's step.
        """
        item = self._inflight.get(packet_id)
        if item is None:
            return False
        step = _STEPS.get((item.step, answer))
        if step is None:
            raise PacketError(ReasonCode.PROTOCOL_ERROR, f"{answer.name} for a delivery that is {item.step.name}")
        item.step = step
        if step is Step.AWAIT_PUBCOMP:
            if self.outlet is not None:
                self.outlet.write(b"\x62\x02%c%c" % (packet_id >> 8, packet_id & 0xFF))
            return True
        del self._inflight[packet_id]
        if answer is Answer.PUBREC_FAILURE:
            self._drop(Drop.REFUSED_BY_CLIENT)
        if self.queue or self._resend:
            self.pump(now)
        return True

    # --- rights and end ---------------------------------------------------------------------------------------------

    def retain_only(self, keep: Callable[[Delivery], bool]) -> int:
        """Removes waiting messages that `keep` denies; returns how many (they are counted as refused at delivery)."""
        kept = deque(item for item in self.queue if keep(item))
        removed = len(self.queue) - len(kept)
        self._drop(Drop.RECEIVE_REFUSED, removed)
        self._replace_queue(kept)
        return removed

    def clear(self) -> None:
        """The session ends: everything it holds is dropped and counted."""
        self._drop(Drop.SESSION_ENDED, len(self.queue) + len(self._inflight))
        self._replace_queue(deque())
        self._inflight.clear()
        self._resend.clear()
        self.incoming.clear()
        self.subscriptions.clear()

    def _replace_queue(self, queue: deque[Delivery]) -> None:
        self.queue = queue
        self._queued_octets = sum(item.message.octets for item in queue)

    def _drop(self, reason: Drop, count: int = 1) -> None:
        if count:
            self._statistics.drops[reason] += count
