"""What changed since the last commit: the record that sessions and engine keep while a loop turn runs, and the batch a
writer makes durable in one transaction.

Does: numbers deliveries and messages, counts how many deliveries hold a message (it is stored once however many clients
wait for it), and lets what came and went between two commits cancel out.
Does not: touch the disk, or look at a clock but through `wall_offset_s`.
The caller owes: nothing that answers for a change leaves before the batch with that change is committed.

A change is *urgent* when an answer or a message on its way out depends on it. What a client has acknowledged is not: it
is told to the store with the next urgent change or a moment later, and a crash in between costs a repetition that the
protocol allows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.delivery import Delivery
from broker.message import Message
from broker.records import Row, delivery_row, message_row, queued_row, retained_row, session_row, subscription_row
from broker.router import Subscription
from broker.session import Session

if TYPE_CHECKING:
    from broker.addresses.competing import Entry

__all__ = ["Batch", "Journal"]

REST_MAX = 20_000
"""Changes nobody waits for, above which they are urgent all the same: memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction. Rows are whole and replace what is stored under their key; lists of keys are deleted first."""

    ended_sessions: tuple[int, ...] = ()
    sessions: tuple[Row, ...] = ()
    cancelled_subscriptions: tuple[Row, ...] = ()
    subscriptions: tuple[Row, ...] = ()
    released_messages: tuple[int, ...] = ()
    messages: tuple[Row, ...] = ()
    finished_deliveries: tuple[int, ...] = ()
    deliveries: tuple[Row, ...] = ()
    dequeued: tuple[int, ...] = ()
    queued: tuple[Row, ...] = ()
    cleared_topics: tuple[str, ...] = ()
    retained: tuple[Row, ...] = ()
    closed_incoming: tuple[Row, ...] = ()
    incoming: tuple[Row, ...] = ()


class Journal:
    """See the module.

    Args:
        wall_offset_s: Unix time minus loop time; the store knows Unix time.
        last_session, last_message, last_delivery: highest numbers the store holds.
    """

    def __init__(
        self,
        wall_offset_s: Callable[[], float],
        last_session: int = 0,
        last_message: int = 0,
        last_delivery: int = 0,
    ) -> None:
        self.is_urgent = False
        self.has_changes = False
        self.waiting_octets = 0
        """Octets of messages that no batch has taken yet."""
        self.on_change: Callable[[], None] = _nobody
        """Called when `is_urgent` or `has_changes` becomes true."""
        self._wall_offset_s = wall_offset_s
        self._last_session, self._last_message, self._last_delivery = last_session, last_message, last_delivery
        self._taken_message, self._taken_delivery = last_message, last_delivery
        self._begin()

    def _begin(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._ended: list[int] = []
        self._subscriptions: dict[tuple[int, str], Subscription | None] = {}
        self._messages: dict[int, Message] = {}
        self._released: list[int] = []
        self._deliveries: dict[int, tuple[int, Delivery]] = {}
        self._finished: list[int] = []
        self._queued: dict[int, tuple[str, str, Entry]] = {}
        self._dequeued: list[int] = []
        self._retained: dict[str, Message | None] = {}
        self._incoming: dict[tuple[int, int], bool] = {}

    # --- sessions ---------------------------------------------------------------------------------------------------

    def adopt(self, session: Session) -> None:
        """A new session that is to be durable."""
        self._last_session += 1
        session.number, session.journal = self._last_session, self
        self.touch(session)

    def touch(self, session: Session) -> None:
        """Expiry, principal, will or connectedness of the session changed."""
        self._sessions[session.number] = session
        self._demand()

    def ended(self, session: Session) -> None:
        """The session is gone; its deliveries were finished one by one before."""
        self._sessions.pop(session.number, None)
        self._ended.append(session.number)
        session.journal = None
        self._demand()

    def subscribed(self, session: Session, held: Subscription) -> None:
        self._subscriptions[session.number, held.topic_filter] = held
        self._demand()

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        self._subscriptions[session.number, topic_filter] = None
        self._demand()

    # --- messages ---------------------------------------------------------------------------------------------------

    def add(self, session: Session, item: Delivery) -> None:
        """A QoS 1 or 2 delivery of a durable session: queued, or on its way."""
        self._hold(item.message)
        self._last_delivery += 1
        item.number = self._last_delivery
        self._deliveries[item.number] = (session.number, item)
        if not self.is_urgent:
            self._demand()

    def moved(self, session: Session, item: Delivery) -> None:
        """A delivery got its packet identifier, or another step. At QoS 2 the client must not see that before the store
        has it: it would take the repetition for another message.
        """
        self._deliveries[item.number] = (session.number, item)
        if not self.is_urgent:
            self._demand(urgent=item.qos == 2)

    def finished(self, item: Delivery) -> None:
        """A delivery is done or dropped; the last one of a message frees it."""
        number = item.number
        self._deliveries.pop(number, None)
        if number <= self._taken_delivery:
            self._finished.append(number)
        self._release(item.message)
        if not self.is_urgent and (not self.has_changes or len(self._finished) > REST_MAX):
            self._demand(urgent=self.has_changes)

    def enqueued(self, tenant: str, address: str, entry: "Entry") -> None:
        """A message is stored at a queue; its sender is told so after the commit."""
        self._hold(entry.message)
        self._last_delivery += 1
        entry.number = self._last_delivery
        self._queued[entry.number] = (tenant, address, entry)
        self._demand()

    def attempted(self, tenant: str, address: str, entry: "Entry") -> None:
        """A receiver gave a queue's message back; a crash may forget that."""
        self._queued[entry.number] = (tenant, address, entry)
        self._demand(urgent=False)

    def dequeued(self, number: int, message: Message) -> None:
        """A queue's message is done or dropped."""
        self._queued.pop(number, None)
        if number <= self._taken_delivery:
            self._dequeued.append(number)
        self._release(message)
        self._demand(urgent=len(self._dequeued) > REST_MAX)

    def _hold(self, message: Message) -> None:
        if not message.references:
            self._last_message += 1
            message.number = self._last_message
            self._messages[message.number] = message
            self.waiting_octets += message.octets
        message.references += 1

    def _release(self, message: Message) -> None:
        message.references -= 1
        if message.references:
            return
        if message.number <= self._taken_message:
            self._released.append(message.number)
        else:
            del self._messages[message.number]

    def orphaned(self, message: Message) -> None:
        """The store holds a message that nobody waits for."""
        self._released.append(message.number)
        self._demand(urgent=False)

    def retained(self, topic: str, message: Message | None) -> None:
        """The retained message of a topic is another one, or none."""
        self._retained[topic] = message
        self._demand()

    def opened(self, session: Session, packet_id: int) -> None:
        """A QoS 2 PUBLISH of the client was taken: its repetition must be recognised."""
        self._incoming[session.number, packet_id] = True
        self._demand()

    def closed(self, session: Session, packet_id: int) -> None:
        """PUBREL: the client may use the identifier for another message when it has our PUBCOMP."""
        self._incoming[session.number, packet_id] = False
        self._demand()

    def _demand(self, *, urgent: bool = True) -> None:
        if (urgent and not self.is_urgent) or not self.has_changes:
            self.is_urgent |= urgent
            self.has_changes = True
            self.on_change()

    # --- commit -----------------------------------------------------------------------------------------------------

    def take(self) -> Batch:
        """Everything since the last call, as it is now; the journal begins anew."""
        offset = self._wall_offset_s()
        batch = Batch(
            ended_sessions=tuple(self._ended),
            sessions=tuple(session_row(session, offset) for session in self._sessions.values()),
            cancelled_subscriptions=tuple(key for key, held in self._subscriptions.items() if held is None),
            subscriptions=tuple(
                subscription_row(number, held) for (number, _), held in self._subscriptions.items() if held is not None
            ),
            released_messages=tuple(self._released),
            messages=tuple([message_row(message, offset) for message in self._messages.values()]),
            finished_deliveries=tuple(self._finished),
            deliveries=tuple([delivery_row(number, item) for number, item in self._deliveries.values()]),
            dequeued=tuple(self._dequeued),
            queued=tuple(queued_row(tenant, name, entry) for tenant, name, entry in self._queued.values()),
            cleared_topics=tuple(topic for topic, message in self._retained.items() if message is None),
            retained=tuple(retained_row(message, offset) for message in self._retained.values() if message is not None),
            closed_incoming=tuple(key for key, is_open in self._incoming.items() if not is_open),
            incoming=tuple(key for key, is_open in self._incoming.items() if is_open),
        )
        self._taken_message, self._taken_delivery = self._last_message, self._last_delivery
        self.is_urgent = self.has_changes = False
        self.waiting_octets = 0
        self._begin()
        return batch


def _nobody() -> None:
    """Stands for a turn that is not there yet."""
