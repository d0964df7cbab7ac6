"""Queue and anycast: messages for which receivers compete, one receiver each.

Laws:
1. A message is in exactly one place: ready, handed out (a receiver has it and has not acknowledged), on its way back,
   or gone and counted.
2. It is handed only to a receiver with credit: connected, and fewer unacknowledged messages than its Receive Maximum.
3. A queue's message is stored until a receiver acknowledged it; an anycast message is the sender's until then, so the
   sender's acknowledgement waits (`Receipt`).
4. What comes back goes to the front, in its former order; after `max_deliveries` it is given up.

Does not: match topics, ask permissions, look at a clock.
The caller owes: `pump` when a receiver can take more, `settle` after sessions lost their connection.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.addresses.address import Address, AddressType
from broker.addresses.choice import choose
from broker.addresses.counters import Counters
from broker.addresses.outcome import Outcome, Receipt
from broker.message import Message
from broker.router import Subscription
from broker.statistics import Drop
from meshwire.mqtt import ReasonCode

if TYPE_CHECKING:
    from broker.addresses.space import AddressSpace
    from broker.session import Session

__all__ = ["CompetingAddress", "Entry"]

MAX_QOS = 1
"""Granted to receivers: what one of them did not acknowledge may go to another one, which QoS 2 forbids
([MQTT-4.8.2-5])."""


class Entry:
    """One message at its address; it is the lease of the delivery that carries it.

    Args:
        address: whose.
        message: what the sender said.
        receipt: waits for the outcome; None: nobody does, or the sender knows already.
    """

    __slots__ = ("address", "attempts", "message", "number", "receipt", "sequence")

    def __init__(self, address: "CompetingAddress", message: Message, receipt: Receipt | None = None) -> None:
        self.address = address
        self.message = message
        self.receipt = receipt
        self.attempts = 0
        """How often it was handed out in vain."""
        self.number = 0
        """Its key in the store; 0: not stored."""
        self.sequence = 0
        """Its place in the order of the address."""

    def taken(self, now: float) -> None:
        self.address.on_taken(self)

    def refused(self, reason: int, now: float) -> None:
        self.address.on_refused(self, reason, now)

    def returned(self) -> None:
        self.address.on_returned(self)


class CompetingAddress:
    """See the module.

    Args:
        address: its definition.
        space: all addresses of the broker, and what they share.
    """

    def __init__(self, address: Address, space: "AddressSpace") -> None:
        self.address = address
        self.counters = Counters()
        self.stored_octets = 0
        self._space = space
        self._tenant = space.tenants.of(address.tenant)
        self._is_queue = address.type is AddressType.QUEUE
        self._ready: deque[Entry] = deque()
        self._handed: dict[Entry, None] = {}
        self._back: list[Entry] = []
        self._links: dict[Session, dict[str, Subscription]] = {}
        self._receivers: tuple[tuple[Session, Subscription], ...] = ()
        self._turn = 0
        self._last_sequence = 0
        self._next_expiry: float | None = None
        self._is_closed = False

    # --- looking at it ------------------------------------------------------------------------------------------------

    @property
    def stored(self) -> int:
        """Messages that wait or are handed out."""
        return len(self._ready) + len(self._handed) + len(self._back)

    @property
    def handed_out(self) -> int:
        return len(self._handed)

    @property
    def receivers(self) -> int:
        """Those that are there now."""
        return sum(session.outlet is not None for session, _ in self._receivers)

    def has_handed(self, entry: Entry) -> bool:
        """A receiver has it and has not acknowledged it."""
        return entry in self._handed

    def entries(self) -> Iterator[Entry]:
        """In order: what is handed out, then what waits."""
        yield from sorted((*self._handed, *self._back), key=_sequence_of)
        yield from self._ready

    # --- receivers ----------------------------------------------------------------------------------------------------

    def attach(self, session: "Session", held: Subscription) -> bool:
        """A subscription of the address; True when it is a new one. The caller pumps."""
        links = self._links.setdefault(session, {})
        is_new = held.topic_filter not in links
        links[held.topic_filter] = held
        self._relist()
        if self not in session.addresses:
            session.addresses = (*session.addresses, self)
        return is_new

    def detach(self, session: "Session", held: Subscription) -> bool:
        """The subscription ends; what the receiver has not acknowledged stays with it until its connection ends."""
        links = self._links.get(session, {})
        if links.pop(held.topic_filter, None) is None:
            return False
        if not links:
            del self._links[session]
            session.addresses = tuple(known for known in session.addresses if known is not self)
        self._relist()
        self.left()
        return True

    def left(self) -> None:
        """A receiver went away."""
        self._space.dirty.add(self)

    def _relist(self) -> None:
        self._receivers = tuple((session, next(iter(links.values()))) for session, links in self._links.items())

    # --- senders ------------------------------------------------------------------------------------------------------

    def offer(self, message: Message, receipt: Receipt | None, now: float) -> None:
        """A sender's message; the receipt is settled now or later."""
        self.counters.received += 1
        outcome = self._refusal(message, receipt)
        if outcome is not None:
            self._turn_away(message, receipt, outcome)
            return
        entry = Entry(self, message, None if self._is_queue else receipt)
        self._keep(entry)
        if self._is_queue:
            if self._space.journal is not None:
                self._space.journal.enqueued(self.address.tenant, self.address.name, entry)
            if receipt is not None:
                receipt.settle(Outcome.STORED)
        elif receipt is not None:
            receipt.withhold()
        self._space.show(message, now)
        self.pump(now)

    def _refusal(self, message: Message, receipt: Receipt | None) -> Outcome | None:
        address = self.address
        if self._is_queue:
            is_full = self.stored >= address.max_messages or self.stored_octets + message.octets > address.max_octets
            return Outcome.FULL if is_full or self._tenant.refusal(message.octets) is not None else None
        if not self.receivers and (receipt is None or receipt.can_be_told):
            return Outcome.NOBODY
        if len(self._ready) >= address.max_waiting or self._tenant.refusal(message.octets) is not None:
            return Outcome.BUSY
        return None

    def _turn_away(self, message: Message, receipt: Receipt | None, outcome: Outcome) -> None:
        self.counters.turned_away[outcome.value] += 1
        self._space.lost(message.topic, Drop.NO_RECEIVER if outcome is Outcome.NOBODY else Drop.ADDRESS_FULL)
        if receipt is not None:
            receipt.settle(outcome)

    def _keep(self, entry: Entry) -> None:
        self._last_sequence += 1
        entry.sequence = self._last_sequence
        self._ready.append(entry)
        octets = entry.message.octets
        self.stored_octets += octets
        self._tenant.queued(1, octets)
        ends = entry.message.expires_at
        if ends is not None and (self._next_expiry is None or ends < self._next_expiry):
            self._next_expiry = ends

    def restore(self, entry: Entry) -> None:
        """A message of the store, in order; no receiver is there yet."""
        self._keep(entry)

    # --- handing out --------------------------------------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Hands out what receivers have credit for."""
        while True:
            if self._back:
                self._take_back(now)
            while self._ready and (receiver := self._next()) is not None:
                self._hand(self._ready.popleft(), *receiver, now)
            if not self._back:
                break
        if self._ready and not self._is_queue and not self.receivers:
            self._dismiss()

    def _next(self) -> "tuple[Session, Subscription] | None":
        receivers = self._receivers
        loads = [session.inflight_count if session.has_room else None for session, _ in receivers]
        index = choose(loads, self._turn)
        return None if index is None else receivers[index]

    def _hand(self, entry: Entry, session: "Session", held: Subscription, now: float) -> None:
        if entry.receipt is not None and entry.receipt.is_void:
            self._forget(entry)
            return
        if entry.message.is_expired(now):
            self._expire(entry, now)
            return
        self._turn += 1
        self._handed[entry] = None
        identifiers = (held.identifier,) if held.identifier else ()
        session.carry(entry.message, min(entry.message.qos, held.qos, MAX_QOS), False, identifiers, entry, now)

    def _dismiss(self) -> None:
        """No receiver is there any more: whoever can be told is told; a 3.1.1 sender's messages wait for the next."""
        self._withdraw()
        waiting, self._ready = self._ready, deque()
        for entry in waiting:
            if entry.receipt is not None and not entry.receipt.can_be_told:
                self._ready.append(entry)
            else:
                self._forget(entry, Outcome.NOBODY)
                self.counters.turned_away[Outcome.NOBODY.value] += 1
                self._space.lost(entry.message.topic, Drop.NO_RECEIVER)

    def _withdraw(self) -> None:
        """Forgets what waits for nobody any more: its sender is gone, and sends it again when it comes back."""
        waiting, self._ready = self._ready, deque()
        for entry in waiting:
            if entry.receipt is not None and entry.receipt.is_void:
                self._forget(entry)
            else:
                self._ready.append(entry)

    # --- how a delivery ends ------------------------------------------------------------------------------------------

    def on_taken(self, entry: Entry) -> None:
        """A receiver acknowledged it."""
        del self._handed[entry]
        self.counters.delivered += 1
        self._forget(entry, Outcome.TAKEN)

    def on_refused(self, entry: Entry, reason: int, now: float) -> None:
        """A receiver said no: the next one gets it, unless it can't be read by anybody."""
        del self._handed[entry]
        self.counters.refused += 1
        if self._is_closed:
            self._forget(entry, Outcome.REMOVED)
        elif reason == ReasonCode.PAYLOAD_FORMAT_INVALID:
            self._give_up(entry, "rejected", now)
        else:
            self._back.append(entry)
            self._take_back(now)

    def on_returned(self, entry: Entry) -> None:
        """The receiver went away before it said anything; `settle` follows."""
        del self._handed[entry]
        if self._is_closed:
            self._forget(entry, Outcome.REMOVED)
            self._space.lost(entry.message.topic, Drop.ADDRESS_REMOVED)
            return
        self._back.append(entry)
        self._space.dirty.add(self)

    def _take_back(self, now: float) -> None:
        back, self._back = sorted(self._back, key=_sequence_of, reverse=True), []
        for entry in back:
            entry.attempts += 1
            if entry.attempts >= self.address.max_deliveries:
                self._give_up(entry, "delivery limit", now)
                continue
            self.counters.redelivered += 1
            if entry.number and self._space.journal is not None:
                self._space.journal.attempted(self.address.tenant, self.address.name, entry)
            self._ready.appendleft(entry)

    def _give_up(self, entry: Entry, reason: str, now: float) -> None:
        self.counters.given_up += 1
        self._move(entry, self.address.dead_letter, reason, Drop.GIVEN_UP, now)
        self._forget(entry, Outcome.REFUSED)

    def _expire(self, entry: Entry, now: float) -> None:
        self.counters.expired += 1
        self._move(entry, self.address.expired_to, "expired", Drop.EXPIRED, now)
        self._forget(entry, Outcome.EXPIRED)

    def _move(self, entry: Entry, target: str | None, reason: str, drop: Drop, now: float) -> None:
        if target is None or not self._space.move(entry.message, self.address, target, reason, now):
            self._space.lost(entry.message.topic, drop)

    def _forget(self, entry: Entry, outcome: Outcome | None = None) -> None:
        """The message is not the address's any more."""
        octets = entry.message.octets
        self.stored_octets -= octets
        self._tenant.queued(-1, -octets)
        if entry.number and self._space.journal is not None:
            self._space.journal.dequeued(entry.number, entry.message)
        if outcome is not None and entry.receipt is not None:
            entry.receipt.settle(outcome)

    # --- by the clock, and the end ------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Takes out what has expired, or was withdrawn."""
        if not self._is_queue and self._ready:
            self._withdraw()
        if self._next_expiry is None or now < self._next_expiry:
            return
        waiting, self._ready, self._next_expiry = self._ready, deque(), None
        kept: deque[Entry] = deque()
        for entry in waiting:
            ends = entry.message.expires_at
            if ends is not None and now >= ends:
                self._expire(entry, now)
                continue
            kept.append(entry)
            if ends is not None and (self._next_expiry is None or ends < self._next_expiry):
                self._next_expiry = ends
        kept.extend(self._ready)
        self._ready = kept

    def close(self) -> int:
        """The address is no more; what receivers have is still theirs to acknowledge. Returns how many were dropped."""
        self._is_closed = True
        return self.purge()

    def subscribers(self) -> "list[tuple[Session, Subscription]]":
        """Every subscription of the address."""
        return [(session, held) for session, links in self._links.items() for held in links.values()]

    def purge(self) -> int:
        """Drops everything that waits; returns how many."""
        waiting, self._ready = [*self._back, *self._ready], deque()
        self._back = []
        for entry in waiting:
            self._forget(entry, Outcome.REMOVED)
            self._space.lost(entry.message.topic, Drop.ADDRESS_REMOVED)
        return len(waiting)

    def revise(self, address: Address) -> None:
        """Other bounds; name, type and filter are the same."""
        self.address = address


def _sequence_of(entry: Entry) -> int:
    return entry.sequence
