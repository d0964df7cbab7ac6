"""The broker without its sockets: sessions, retained messages and wills, and the way of a message between them.

Does: opens, takes over, keeps and ends sessions; routes; publishes wills.
Does not: authenticate (that is done before `open`), judge and link subscriptions (`subscriptions` does), parse, write
to sockets, or look at a clock: `now` is loop time in seconds.
The caller owes: `tick` about once a second.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from broker.addresses.control import CONTROL_TOPIC
from broker.addresses.control import answer as answer_about_addresses
from broker.addresses.outcome import Outcome, Receipt
from broker.addresses.space import AddressSpace
from broker.inheritance import inheritance_of
from broker.journal import Journal
from broker.message import Message, message_of_will
from broker.outlet import ConnectionFacts, Outlet, SessionKey
from broker.plugins import Hooks
from broker.policy import NOTHING, Permissions
from broker.retained import RetainedMessages
from broker.router import ShareGroup, Subscription, Target
from broker.session import Session
from broker.settings import BrokerSettings
from broker.statistics import Drop, Statistics
from broker.subscriptions import Subscriptions
from broker.tenants import Tenant, Tenants
from broker.topics_seen import TopicsSeen
from meshwire.identity import Principal
from meshwire.mqtt import NO_PROPERTIES, Will

__all__ = ["Engine", "OpenRequest"]

NEVER_EXPIRES: Final = 0xFFFF_FFFF
"""Session Expiry Interval that means "does not expire" (MQTT 5.0 section 3.1.2.11.2)."""

STORE_PAUSE_S: Final = 0.05
"""A publisher that is ahead of the store is looked at again after this time."""
FULL_PAUSE_S: Final = 0.25
"""The queues of the broker are full: publishers are slowed, not stopped, for those they reach may be connected."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An authenticated CONNECT."""

    key: SessionKey
    principal: Principal
    permissions: Permissions
    outlet: Outlet
    clean_start: bool
    expiry_s: int
    will: Will | None = None
    facts: ConnectionFacts | None = None


class Engine:
    """See the module.

    Args:
        settings: limits.
        statistics: counters shared with the connections.
        journal: where what must outlive the broker is recorded; None: nothing does.
        hooks: who is told of events.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        statistics: Statistics,
        journal: Journal | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.hooks = hooks or Hooks()
        self.limits = settings.limits
        self.statistics = statistics
        self.journal = journal
        self.tenants = Tenants(settings.default_plan, settings.plan, self.limits.max_total_queued_octets)
        self._total = self.tenants.total
        self.sessions: dict[SessionKey, Session] = {}
        self.retained = RetainedMessages(self.limits.max_retained_messages, self.limits.max_retained_octets)
        self.addresses = AddressSpace(self)
        self.subscriptions = Subscriptions(self.limits, self.statistics, self.hooks, self.addresses.competed_for)
        self.topics_seen = TopicsSeen()
        self.controls: dict[str, Callable[[Message, float], Message]] = {
            CONTROL_TOPIC: lambda asked, now: answer_about_addresses(self.addresses, asked, now)
        }
        """Topics at which the broker itself answers."""
        self._waiting_for_will: dict[SessionKey, Session] = {}
        self._away: dict[SessionKey, Session] = {}

    # --- sessions ---------------------------------------------------------------------------------------------------

    def open(self, request: OpenRequest, now: float) -> tuple[Session, bool] | None:
        """Gives an authenticated client its session (MQTT 5.0 section 3.1.2.4).

        Returns:
            The session and whether it existed before; None when there is no room for one more.
        """
        session = self.sessions.get(request.key)
        ends_with_take_over = session is not None and session.outlet is not None and session.expiry_s == 0
        resumed = session is not None and not request.clean_start and not ends_with_take_over  # 3.1.1 [MQTT-3.1.2-6]
        if session is None and len(self.sessions) >= self.limits.max_sessions:
            return None
        if session is not None:
            self._take_over(session, resumed, now)
        if session is None or not resumed:
            session = self.sessions[request.key] = self.new_session(request.key)
        self._away.pop(request.key, None)
        self._admit(session, request)
        session.will = request.will
        session.expiry_s = min(request.expiry_s, self.limits.max_session_expiry_s)
        session.attach(request.outlet, request.facts)
        if session.journal is not None:
            session.journal.touch(session)
        elif self.journal is not None and session.expiry_s:
            self.journal.adopt(session)
        return session, resumed

    def is_connected(self, key: SessionKey) -> bool:
        """A client with this session is connected: the next one takes its place."""
        session = self.sessions.get(key)
        return session is not None and session.outlet is not None

    def pause_s(self, tenant: Tenant, now: float) -> float:
        """How long a publisher of this tenant is not to be read, in seconds; 0.0: not at all."""
        if self.journal is not None and self.journal.waiting_octets > self.limits.max_uncommitted_octets:
            return STORE_PAUSE_S
        pause_s = tenant.pause_s(now) if tenant.is_rated else 0.0
        if not pause_s and self._total.queued_octets >= self.tenants.full_octets:
            return FULL_PAUSE_S
        return pause_s

    def new_session(self, key: SessionKey) -> Session:
        """An empty session, not yet known."""
        session = Session(key, self.limits, self.statistics, self.tenants.of(key.tenant))
        if self.hooks.delivered or self.hooks.dropped:
            session.hooks = self.hooks
        return session

    def restore(self, session: Session, permissions: Permissions) -> None:
        """Takes a session from the store, with its subscriptions, its queue and its journal; nobody is connected."""
        self.sessions[session.key] = session
        for held in session.subscriptions.values():
            self.subscriptions.link(session, held)
        self.revise(session, permissions)
        if session.expires_at is not None:
            self._away[session.key] = session
        if session.will_due_at is not None:
            self._waiting_for_will[session.key] = session

    def _take_over(self, session: Session, resumed: bool, now: float) -> None:
        """The former connection ends; its will goes out unless it has a delay and the session lives on (section
        3.1.3.2.2).
        """
        former = session.outlet
        if former is not None:
            session.detach()
            self.addresses.settle(now)
            delayed = session.will is not None and session.will.properties.will_delay_interval
            if resumed and delayed:
                session.will = None
            former.taken_over()
        if session.will_due_at is not None and resumed:
            session.will = session.will_due_at = None
            self._waiting_for_will.pop(session.key, None)
        if not resumed:
            self._end(session, now)
        else:
            self._publish_will(session, now)

    def _admit(self, session: Session, request: OpenRequest) -> None:
        """Whoever resumes a session does so with the rights of now: what they do not cover any more is gone."""
        session.principal = request.principal
        self.revise(session, request.permissions)

    def revise(self, session: Session, permissions: Permissions) -> None:
        """The session has these rights from now on; subscriptions and waiting messages they do not cover are gone."""
        if session.permissions != permissions:
            if session.subscriptions:
                self.subscriptions.tree.forget()
            session.publishable.clear()
        session.permissions = permissions
        for held in list(session.subscriptions.values()):
            if not permissions.may_subscribe(held.topic_filter):
                self.subscriptions.remove(session, held.topic_filter)
        session.retain_only(lambda item: permissions.may_receive(item.message.topic))

    def revoke(self, session: Session, now: float) -> None:
        """The session's owner may not log in any more: connection and session end, and the will is not published."""
        self.revise(session, NOTHING)
        outlet = session.outlet
        if outlet is not None:
            session.detach()
            outlet.revoked()
        self._end(session, now)
        self.addresses.settle(now)

    def touch(self, session: Session) -> None:
        """Something about the session changed that the store keeps."""
        if session.journal is not None:
            session.journal.touch(session)

    def close(self, session: Session, outlet: Outlet, *, with_will: bool, now: float) -> None:
        """The session's connection is gone; nothing happens when another one has the session by now."""
        if session.outlet is not outlet:
            return
        session.detach()
        if not with_will:
            session.will = None
        self.abandon(session, now)
        self.addresses.settle(now)

    def abandon(self, session: Session, now: float) -> None:
        """The session has no connection from now on: its expiry and the delay of its will begin."""
        delay = session.will.properties.will_delay_interval or 0 if session.will is not None else 0
        if session.expiry_s == 0:
            self._end(session, now)
            return
        if session.expiry_s != NEVER_EXPIRES:
            session.expires_at = now + session.expiry_s
            self._away[session.key] = session
        if delay and session.will is not None:
            session.will_due_at = now + delay
            self._waiting_for_will[session.key] = session
        else:
            self._publish_will(session, now)
        if session.journal is not None:
            session.journal.touch(session)

    def _end(self, session: Session, now: float) -> None:
        """A will that still waits goes out when the session ends ([MQTT-3.1.2-8]), and what it held of a shared
        subscription goes to another member.
        """
        inheritance = inheritance_of(session, self.subscriptions.tree)
        for held in session.subscriptions.values():
            self.subscriptions.unlink(session, held)
        session.clear()
        if session.journal is not None:
            session.journal.ended(session)
        if self.sessions.get(session.key) is session:
            del self.sessions[session.key]
        self._away.pop(session.key, None)
        self._waiting_for_will.pop(session.key, None)
        for item, group in inheritance:
            if item.message.is_expired(now):
                self.lost(session, item.message.topic, Drop.EXPIRED)
            else:
                self._deal(group, item.message, item.qos, now)
        self._publish_will(session, now)

    def _publish_will(self, session: Session, now: float) -> None:
        will, session.will, session.will_due_at = session.will, None, None
        if will is None:
            return
        if not session.permissions.may_publish(will.topic):
            self.lost(session, will.topic, Drop.PUBLISH_REFUSED)
            return
        message = message_of_will(will, session, now)
        if not self.addresses.offer(message, None, now):
            self.publish(message, now)

    def tick(self, now: float) -> None:
        """Ends expired sessions and publishes wills that are due."""
        for session in [item for item in self._waiting_for_will.values() if (item.will_due_at or 0.0) <= now]:
            self._waiting_for_will.pop(session.key, None)
            self._publish_will(session, now)
            if session.journal is not None:
                session.journal.touch(session)
        for session in [item for item in self._away.values() if item.expires_at is not None and item.expires_at <= now]:
            _log.info("session expired", tenant=session.key.tenant, client_id=session.key.client_id)
            self.statistics.sessions_expired += 1
            self._end(session, now)
        if self.addresses:
            self.addresses.tick(now)

    def on_addresses_changed(self, now: float) -> None:
        """Subscriptions of new addresses move to them, and nobody remembers which topics were addresses."""
        for session in self.sessions.values():
            session.publishable.clear()
            self.subscriptions.move_to_addresses(session)
            session.pump(now)
        self.addresses.settle(now)

    # --- messages ---------------------------------------------------------------------------------------------------

    def is_addressed(self, topic: str) -> bool:
        """The topic belongs to an address, or to what the broker itself answers: use `offer`."""
        return topic in self.controls or self.addresses.of_topic(topic) is not None

    def offer(self, message: Message, receipt: Receipt | None, now: float) -> None:
        """A message for an address, which answers; where the address has just gone, an ordinary message. Requests to
        the broker itself are answered here.
        """
        control = self.controls.get(message.topic)
        if control is not None:
            self.publish(control(message, now), now)
            if receipt is not None:
                receipt.settle(Outcome.TAKEN)
            return
        if not self.addresses.offer(message, receipt, now):
            reached = self.publish(message, now)
            if receipt is not None:
                receipt.settle(Outcome.TAKEN if reached else Outcome.NOBODY)

    def publish(self, message: Message, now: float) -> int:
        """Hands a message, which its publisher was allowed to publish, to everyone it reaches; returns to how many
        clients.

        No subscriber: the message is discarded and counted. Retained ones are kept besides.
        """
        if self.hooks.publish:
            self.tell_hooks(message)
        if message.retain:
            self._retain(message)
        match = self.subscriptions.tree.match(message.topic)
        qos, retain, publisher = message.qos, message.retain, message.publisher
        reached = 0
        for target in match.targets:
            session = target.subscriber
            if target.no_local and session is publisher:  # [MQTT-3.8.3-3]
                if target.for_own is None:
                    continue
                target = target.for_own
            session.deliver(
                message,
                qos if qos < target.qos else target.qos,
                retain and target.retain_as_published,
                target.identifiers,
                now,
            )
            reached += 1
        for group in match.groups:
            self._deal(group, message, qos, now)
            reached += 1
        if not reached:
            self.lost(None, message.topic, Drop.NO_SUBSCRIBER)
        return reached

    def targets(self, message: Message) -> list[Target[Session]]:
        """Everyone a message reaches now, one member of each share group among them."""
        match, publisher = self.subscriptions.tree.match(message.topic), message.publisher
        found = [item.for_own if item.no_local and item.subscriber is publisher else item for item in match.targets]
        return [item for item in found if item is not None] + [self._member(group) for group in match.groups]

    def tell_hooks(self, message: Message) -> None:
        """A message was accepted."""
        if not self.hooks.publish:
            return
        publisher = message.publisher
        client = publisher.client if isinstance(publisher, Session) else None
        self.hooks.fire(self.hooks.publish, client, message.topic, message.payload, message.qos, message.retain)

    def lost(self, session: Session | None, topic: str, reason: Drop) -> None:
        """A message reached nobody: refused, or nobody is there for it."""
        self.statistics.drops[reason] += 1
        if self.hooks.dropped:
            self.hooks.fire(self.hooks.dropped, session.client if session else None, topic, reason.value, 1)

    def _retain(self, message: Message) -> None:
        if not self.retained.store(message):
            self.lost(None, message.topic, Drop.RETAINED_FULL)
        elif self.journal is not None and not message.topic.startswith("$SYS/"):
            self.journal.retained(message.topic, message if message.payload else None)

    def _forget_retained(self, topic: str) -> None:
        self.retained.clear(topic)
        if self.journal is not None:
            self.journal.retained(topic, None)

    def send_retained(self, session: Session, subscriptions: Iterable[Subscription], now: float) -> None:
        """Retained messages of new subscriptions; a shared one gets none (MQTT 5.0 section 4.8.2)."""
        for held in subscriptions:
            if held.group is not None:
                continue
            identifiers = (held.identifier,) if held.identifier else ()
            for message in self.retained.matching(held.levels):
                if message.is_expired(now):
                    self._forget_retained(message.topic)
                elif held.no_local and session.is_publisher_of(message):
                    continue  # [MQTT-3.8.3-3]
                elif session.permissions.may_receive(message.topic):
                    session.deliver_retained(message, min(message.qos, held.qos), True, identifiers)
        session.pump(now)

    def _deal(self, group: ShareGroup[Session], message: Message, qos: int, now: float) -> None:
        """Gives a message to one member."""
        target = self._member(group)
        flag = message.retain and target.retain_as_published
        target.subscriber.deliver(message, min(qos, target.qos), flag, target.identifiers, now)

    @staticmethod
    def _member(group: ShareGroup[Session]) -> Target[Session]:
        """The next member in turn that is connected; when none is, the next one in turn keeps the message for later."""
        turn, members = group.turn.count, group.members
        group.turn.count = turn + 1
        for step in range(len(members)):
            candidate = members[(turn + step) % len(members)]
            outlet = candidate.subscriber.outlet
            if outlet is not None and not outlet.is_full:
                return candidate
        return members[turn % len(members)]

    def publish_own(self, topic: str, payload: str, now: float) -> None:
        """A retained message of the broker itself, under `$SYS/`; nobody listening is no loss worth counting."""
        message = Message(topic, payload.encode(), 0, True, NO_PROPERTIES)
        self.retained.store(message)
        match = self.subscriptions.tree.match(topic)
        if match.targets or match.groups:
            self.publish(message, now)
