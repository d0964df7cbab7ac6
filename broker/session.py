"""The session of one client: its subscriptions, what waits for it, and both directions of QoS 1 and 2. No socket, no
clock.

Laws:
1. All state of a delivery is in this file; every acknowledgement goes through `STEPS`, looked up before anything
   moves.
2. A message is in exactly one place: waiting (`queue`), in flight (`_inflight`), or gone and counted.
3. Order: messages leave the queue as they came, and after a reconnect what was in flight is sent again, first and in
   order ([MQTT-4.6.0-1]).
4. Of a durable session (`journal`), each change of a delivery is told to the journal at the place where it happens.

Does: packet identifiers, the window (Receive Maximum), redelivery with DUP, the bounded queue, recognition of repeated
QoS 2 publishes.
Does not: match topics, ask permissions, know about connections beyond `Outlet`, end itself.
The caller owes: `attach`/`detach` with each connection, `pump` when an outlet can take more, `now` in loop seconds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import structlog

from broker.aliases import OutgoingAliases
from broker.delivery import STEPS, Answer, Delivery, Lease, Step
from broker.message import Message
from broker.outlet import ConnectionFacts, Outlet, SessionKey
from broker.plugins import Client, Hooks
from broker.policy import NOTHING, Permissions
from broker.router import Subscription
from broker.settings import FullQueue, Limits
from broker.statistics import Drop, Statistics
from broker.tenants import Tenant
from meshwire.identity import Principal
from meshwire.mqtt import PacketError, PubRel, ReasonCode, Will, encode

if TYPE_CHECKING:
    from broker.addresses.competing import CompetingAddress
    from broker.addresses.outcome import Receipt
    from broker.journal import Journal

_log = structlog.get_logger()

_AWAIT_PUBACK: Final = Step.AWAIT_PUBACK
_AWAIT_PUBCOMP: Final = Step.AWAIT_PUBCOMP
_PUBREC_FAILURE: Final = Answer.PUBREC_FAILURE
_step_after: Final = STEPS.get
"""Looked up once: a member of an enumeration costs as much as a call, and these are asked for every message."""

__all__ = ["Session"]


class Session:
    """See the module.

    Args:
        key: whose session.
        limits: bounds of queue and window.
        statistics: where losses are counted.
        tenant: the account that its queue is written to.
    """

    __slots__ = (
        "_inflight",
        "_is_full_told",
        "_last_packet_id",
        "_limits",
        "_queued_octets",
        "_queued_qos0",
        "_resend",
        "_statistics",
        "addresses",
        "aliases",
        "expires_at",
        "expiry_s",
        "facts",
        "hooks",
        "incoming",
        "journal",
        "key",
        "may_explain",
        "number",
        "outlet",
        "permissions",
        "principal",
        "publishable",
        "queue",
        "received",
        "sent",
        "subscriptions",
        "tenant",
        "will",
        "will_due_at",
        "withheld",
    )

    def __init__(self, key: SessionKey, limits: Limits, statistics: Statistics, tenant: Tenant | None = None) -> None:
        self.tenant = tenant or Tenant()
        self.key = key
        self.permissions: Permissions = NOTHING
        self.principal: Principal | None = None
        self.aliases: OutgoingAliases | None = None
        """Of the connection, where the client takes topic aliases."""
        self.hooks: Hooks | None = None
        """Who is told of deliveries and drops; None: nobody."""
        self.publishable: dict[str, ReasonCode] = {}
        """Decisions of the policy on topics the client published to, while it is connected."""
        self.subscriptions: dict[str, Subscription] = {}
        self.addresses: tuple[CompetingAddress, ...] = ()
        """Those whose messages it competes for: they are asked when it can take more."""
        self.withheld: set[Receipt] | None = None
        """Acknowledgements of its client's messages that wait for somebody else; made when the first one does."""
        self.queue: deque[Delivery] = deque()
        self.incoming: set[int] = set()
        """QoS 2 packet identifiers of the client between PUBLISH and PUBREL; changed by `open_incoming` and
        `close_incoming`.
        """
        self.journal: Journal | None = None
        """Where changes are recorded; None: nothing of this session outlives the broker."""
        self.number = 0
        """Its key in the store; 0: not stored."""
        self.outlet: Outlet | None = None
        self.facts: ConnectionFacts | None = None
        """Of the connection, for operators."""
        self.received = 0
        """PUBLISH packets of the client on this connection."""
        self.sent = 0
        """PUBLISH packets to it on this connection."""
        self.may_explain = True
        """The connected client takes reason strings (Request Problem Information, MQTT 5.0 section 3.1.2.11.7)."""
        self.expiry_s = 0
        self.expires_at: float | None = None
        self.will: Will | None = None
        self.will_due_at: float | None = None
        self._limits = limits
        self._statistics = statistics
        self._inflight: dict[int, Delivery] = {}
        self._resend: deque[int] = deque()
        self._queued_octets = 0
        self._queued_qos0 = 0
        self._is_full_told = False
        self._last_packet_id = 0

    @property
    def inflight_count(self) -> int:
        return len(self._inflight)

    @property
    def client(self) -> Client:
        """As hooks see it."""
        return Client(self.key.tenant, self.key.client_id, self.key.kind.value)

    def is_publisher_of(self, message: Message) -> bool:
        """The client published it, with this session or a former one of the same client id."""
        publisher = message.publisher
        return isinstance(publisher, Session) and publisher.key == self.key

    def deliveries(self) -> Iterator[Delivery]:
        """Everything that waits or is in flight, in order."""
        yield from self._inflight.values()
        yield from self.queue

    def restore(self, items: list[Delivery]) -> None:
        """Takes what the store held, in order; no client is connected yet."""
        self._inflight = {item.packet_id: item for item in items if item.packet_id}
        self._replace_queue(deque(item for item in items if not item.packet_id))
        self._last_packet_id = next(reversed(self._inflight), 0)

    # --- connection -------------------------------------------------------------------------------------------------

    def attach(self, outlet: Outlet, facts: ConnectionFacts | None = None) -> None:
        """A connection took the session; call `pump` after its CONNACK is written."""
        self.outlet = outlet
        self.facts = facts
        self.received = self.sent = 0
        self.expires_at = None
        known = self._inflight
        self._resend = deque(sorted(known, key=lambda packet_id: known[packet_id].step is not Step.AWAIT_PUBCOMP))

    def detach(self) -> None:
        """The connection is gone. QoS 0 messages are never kept for a client that is away."""
        self.outlet = self.aliases = self.facts = None
        self.publishable.clear()
        leases = self._give_back()
        kept = deque(item for item in self.queue if item.qos)
        self._drop(Drop.QOS0_OFFLINE, count=len(self.queue) - len(kept))
        self._replace_queue(kept)
        for lease in leases:
            lease.returned()
        for receipt in self.withheld or ():
            receipt.is_void = True
        self.withheld = None
        for address in self.addresses:
            address.left()

    def _give_back(self) -> list[Lease]:
        """Takes out what addresses own; returns their leases in the order of delivery."""
        carried = [item for item in self.deliveries() if item.lease is not None]
        if not carried:
            return []
        self._inflight = {number: item for number, item in self._inflight.items() if item.lease is None}
        self._replace_queue(deque(item for item in self.queue if item.lease is None))
        return [item.lease for item in carried if item.lease is not None]

    def pump(self, now: float) -> None:
        """Sends what was in flight before, then what waits, as far as the window and the outlet allow."""
        outlet = self.outlet
        if outlet is None:
            return
        while self._resend and not outlet.is_full and self._may_send_again(outlet):
            self._send_again(outlet, self._resend.popleft(), now)
        if self._resend:
            return
        while self.queue and not outlet.is_full and len(self._inflight) < outlet.receive_maximum:
            item = self._pop_queue()
            if item.message.is_expired(now):
                self._lose(item, Drop.EXPIRED)
            elif item.qos:
                self._send(outlet, item, now)
            else:
                self._send_qos0(outlet, item.message, item.retain, item.identifiers, now)
                if item.lease is not None:
                    item.lease.taken(now)
        for address in self.addresses:
            address.pump(now)

    @property
    def has_room(self) -> bool:
        """The client takes one more QoS 1 message now: its Receive Maximum is the credit."""
        outlet = self.outlet
        return (
            outlet is not None
            and not outlet.is_full
            and not self.queue
            and not self._resend
            and len(self._inflight) < outlet.receive_maximum
        )

    def _may_send_again(self, outlet: Outlet) -> bool:
        """The window holds up PUBLISH alone; PUBREL, which comes first, never waits ([MQTT-3.3.4-10])."""
        item = self._inflight.get(self._resend[0])
        if item is None or item.step is Step.AWAIT_PUBCOMP:
            return True
        return len(self._inflight) - len(self._resend) < outlet.receive_maximum

    def _send_again(self, outlet: Outlet, packet_id: int, now: float) -> None:
        """[MQTT-4.4.0-1]: unacknowledged PUBLISH (with DUP, [MQTT-3.3.1-1]) and PUBREL, with their identifiers."""
        item = self._inflight.get(packet_id)
        if item is None:
            return
        if item.step is Step.AWAIT_PUBCOMP:
            outlet.write(encode(PubRel(packet_id), outlet.version))
            return
        head, tail = item.message.parts_for(outlet.version, item.qos, item.retain, item.identifiers, now)
        if len(head) + len(tail) + 2 > outlet.max_packet_octets:  # the client takes less than on its last connection
            del self._inflight[packet_id]
            self._lose(item, Drop.TOO_LARGE_FOR_CLIENT)
            return
        outlet.write(bytes((head[0] | 8,)) + head[1:] + packet_id.to_bytes(2, "big") + tail)
        self.sent += 1
        self._statistics.messages_sent[item.qos] += 1
        self._statistics.payload_octets_sent[item.qos] += len(item.message.payload)

    # --- towards the client -----------------------------------------------------------------------------------------

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], now: float) -> None:
        """Sends the message now, or keeps it, or drops and counts it."""
        outlet = self.outlet
        if qos == 0:
            if outlet is None:
                self._drop(Drop.QOS0_OFFLINE, message.topic)
            elif self._queued_qos0:  # retained ones, maybe of this topic: the newer must not overtake the older
                self._enqueue(Delivery(message, 0, retain, identifiers))
            elif outlet.backlog_octets > self._limits.qos0_backlog_octets:
                self._drop(Drop.QOS0_BACKLOG, message.topic)
            else:
                self._send_qos0(outlet, message, retain, identifiers, now)
            return
        item = Delivery(message, qos, retain, identifiers)
        if (
            outlet is None
            or self.queue
            or self._resend
            or outlet.is_full
            or len(self._inflight) >= outlet.receive_maximum
        ):
            self._enqueue(item)
        else:
            self._send(outlet, item, now)

    def carry(
        self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], lease: Lease, now: float
    ) -> None:
        """Sends a message that an address owns, or lets it wait its turn while the client is connected; the lease is
        told how it ended.

        Args:
            qos: 0 or 1.
        """
        outlet = self.outlet
        item = Delivery(message, qos, retain, identifiers, lease=lease)
        if outlet is None:
            lease.returned()
        elif self.has_room:
            if qos:
                self._send(outlet, item, now)
            else:
                self._send_qos0(outlet, message, retain, identifiers, now)
                lease.taken(now)
        else:
            self._enqueue(item)

    def deliver_retained(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        """The same for a message found at SUBSCRIBE: many may come at once, so even QoS 0 waits its turn. Call `pump`
        afterwards.
        """
        self._enqueue(Delivery(message, qos, retain, identifiers))

    def _send_qos0(
        self, outlet: Outlet, message: Message, retain: bool, identifiers: tuple[int, ...], now: float
    ) -> None:
        alias = 0
        if message.expires_at is None and not identifiers and self.aliases is None:
            head, tail = message.parts(outlet.version, 0, retain)
        else:
            head, tail, alias = self._encode(outlet, message, 0, retain, identifiers, now)
        if len(head) + len(tail) > outlet.max_packet_octets:
            self._drop(Drop.TOO_LARGE_FOR_CLIENT, message.topic)  # [MQTT-3.1.2-25]: as if it had been sent
            return
        if alias and self.aliases is not None:
            self.aliases.sent(message.topic, alias)
        outlet.write(head + tail)
        self.sent += 1
        statistics = self._statistics
        statistics.messages_sent[0] += 1
        statistics.payload_octets_sent[0] += len(message.payload)
        if self.hooks is not None:
            self.hooks.fire(self.hooks.delivered, self.client, message.topic, 0)

    def _send(self, outlet: Outlet, item: Delivery, now: float) -> None:
        message, qos = item.message, item.qos
        alias = 0
        if message.expires_at is None and not item.identifiers and self.aliases is None:
            head, tail = message.parts(outlet.version, qos, item.retain)
        else:
            head, tail, alias = self._encode(outlet, message, qos, item.retain, item.identifiers, now)
        if len(head) + len(tail) + 2 > outlet.max_packet_octets:
            self._lose(item, Drop.TOO_LARGE_FOR_CLIENT)
            return
        if alias and self.aliases is not None:
            self.aliases.sent(message.topic, alias)
        packet_id = self._last_packet_id + 1 if self._last_packet_id < 65_535 else 1
        while packet_id in self._inflight:  # [MQTT-2.2.1-3]; the window is smaller than the number of identifiers
            packet_id = packet_id % 65_535 + 1
        self._last_packet_id = item.packet_id = packet_id
        item.step = _AWAIT_PUBACK if qos == 1 else Step.AWAIT_PUBREC
        self._inflight[packet_id] = item
        journal = self.journal
        if journal is not None and item.lease is None:
            if item.number:
                journal.moved(self, item)
            else:
                journal.add(self, item)
        outlet.write(head + packet_id.to_bytes(2, "big") + tail)
        self.sent += 1
        statistics = self._statistics
        statistics.messages_sent[qos] += 1
        statistics.payload_octets_sent[qos] += len(message.payload)

    def _encode(
        self, outlet: Outlet, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], now: float
    ) -> tuple[bytes, bytes, int]:
        """What is not the same for all subscribers; with the alias that the client is told by it, or 0."""
        alias, is_known = self.aliases.of(message.topic) if self.aliases is not None and qos < 2 else (0, False)
        head, tail = message.parts_for(outlet.version, qos, retain, identifiers, now, alias, is_known)
        return head, tail, 0 if is_known else alias

    def _enqueue(self, item: Delivery) -> None:
        limits, octets = self._limits, item.message.octets
        while len(self.queue) >= limits.max_queued_messages or self._queued_octets + octets > limits.max_queued_octets:
            if limits.when_queue_is_full is FullQueue.DISCARD_NEW or octets > limits.max_queued_octets:
                self._on_full_queue(item)
                return
            self._on_full_queue(self._pop_queue())
        refusal = self.tenant.refusal(octets)
        if refusal is not None:
            self._lose(item, refusal)
            return
        self.queue.append(item)
        self._queued_octets += octets
        if not item.qos:
            self._queued_qos0 += 1
        self.tenant.queued(1, octets)
        if self.journal is not None and item.qos and item.lease is None:
            self.journal.add(self, item)

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
        step = _step_after((item.step, answer))
        if step is None:
            raise PacketError(ReasonCode.PROTOCOL_ERROR, f"{answer.name} for a delivery that is {item.step.name}")
        item.step = step
        if step is _AWAIT_PUBCOMP:
            if self.journal is not None:
                self.journal.moved(self, item)
            if self.outlet is not None:
                self.outlet.write(b"\x62\x02%c%c" % (packet_id >> 8, packet_id & 0xFF))
            return True
        del self._inflight[packet_id]
        if item.lease is not None:
            item.lease.taken(now)
        elif self.journal is not None:
            self.journal.finished(item)
        if answer is _PUBREC_FAILURE:
            self._drop(Drop.REFUSED_BY_CLIENT, item.message.topic)
        elif self.hooks is not None:
            self.hooks.fire(self.hooks.delivered, self.client, item.message.topic, item.qos)
        if self.queue or self._resend or self.addresses:
            self.pump(now)
        return True

    def refuse(self, packet_id: int, reason: int, now: float) -> None:
        """PUBACK with a failure: a message of an address goes back to it; any other one is done with, as the standard
        has it (MQTT 5.0 section 4.3.2).
        """
        item = self._inflight.get(packet_id)
        if item is None or item.lease is None:
            self.acknowledge(packet_id, Answer.PUBACK, now)
            return
        del self._inflight[packet_id]
        item.lease.refused(reason, now)
        self.pump(now)

    def open_incoming(self, packet_id: int) -> None:
        """A QoS 2 PUBLISH was taken; until PUBREL a repetition is the same message ([MQTT-4.3.3-10])."""
        self.incoming.add(packet_id)
        if self.journal is not None:
            self.journal.opened(self, packet_id)

    def close_incoming(self, packet_id: int) -> bool:
        """PUBREL; False when no such PUBLISH is known."""
        if packet_id not in self.incoming:
            return False
        self.incoming.remove(packet_id)
        if self.journal is not None:
            self.journal.closed(self, packet_id)
        return True

    # --- rights and end ---------------------------------------------------------------------------------------------

    def retain_only(self, keep: Callable[[Delivery], bool]) -> int:
        """Removes messages that `keep` denies; returns how many (they are counted as refused at delivery).

        Those in flight to a client that is away go as well; a connected client has them already.
        """
        kept: deque[Delivery] = deque()
        removed = 0
        for item in self.queue:
            if keep(item):
                kept.append(item)
            else:
                removed += 1
                self._lose(item, Drop.RECEIVE_REFUSED)
        self._replace_queue(kept)
        if self.outlet is not None:
            return removed
        for packet_id, item in list(self._inflight.items()):
            if item.step is not Step.AWAIT_PUBCOMP and not keep(item):
                removed += 1
                del self._inflight[packet_id]
                self._lose(item, Drop.RECEIVE_REFUSED)
        return removed

    def remove(self, items: list[Delivery]) -> None:
        """Takes messages out that somebody else gets."""
        gone = {id(item) for item in items}
        self._inflight = {number: item for number, item in self._inflight.items() if id(item) not in gone}
        self._replace_queue(deque(item for item in self.queue if id(item) not in gone))
        for item in items:
            if item.number and self.journal is not None:
                self.journal.finished(item)

    def clear(self) -> None:
        """The session ends: everything it holds is dropped and counted."""
        for item in self.deliveries():
            self._lose(item, Drop.SESSION_ENDED)
        self._replace_queue(deque())
        self._inflight.clear()
        self._resend.clear()
        self.incoming.clear()
        self.subscriptions.clear()

    def _pop_queue(self) -> Delivery:
        item = self.queue.popleft()
        octets = item.message.octets
        self._queued_octets -= octets
        if not item.qos:
            self._queued_qos0 -= 1
        self.tenant.queued(-1, -octets)
        self._is_full_told = self._is_full_told and bool(self.queue)
        return item

    def _replace_queue(self, queue: deque[Delivery]) -> None:
        octets = sum(item.message.octets for item in queue)
        self.tenant.queued(len(queue) - len(self.queue), octets - self._queued_octets)
        self.queue, self._queued_octets = queue, octets
        self._queued_qos0 = sum(not item.qos for item in queue)

    def _lose(self, item: Delivery, reason: Drop) -> None:
        """Drops a delivery that may be stored."""
        self._drop(reason, item.message.topic)
        if item.lease is not None:
            item.lease.returned()
        elif item.number and self.journal is not None:
            self.journal.finished(item)

    def _on_full_queue(self, item: Delivery) -> None:
        """Counted each time; the operator is told once, and again when there was room meanwhile."""
        if not self._is_full_told:
            self._is_full_told = True
            _log.warning(
                "queue is full", tenant=self.key.tenant, client_id=self.key.client_id, messages=len(self.queue)
            )
        self._lose(item, Drop.QUEUE_FULL)

    def _drop(self, reason: Drop, topic: str | None = None, *, count: int = 1) -> None:
        if not count:
            return
        self._statistics.drops[reason] += count
        if self.hooks is not None:
            self.hooks.fire(self.hooks.dropped, self.client, topic, reason.value, count)
