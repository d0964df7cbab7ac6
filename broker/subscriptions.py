"""The subscriptions of all sessions: which are granted, where their messages come from, and their end.

Decides the code of each filter (policy and bounds), and that a subscription is linked in exactly one place: at the
address it competes for, or in the tree of all others. Leaves matching to `router`, retained messages and delivery to
the engine.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from broker.addresses.competing import MAX_QOS, CompetingAddress
from broker.plugins import Hooks
from broker.policy import filter_of_subscription
from broker.router import Subscription, SubscriptionTree
from broker.session import Session
from broker.settings import Limits
from broker.statistics import Statistics
from meshwire.mqtt import ReasonCode, TopicSubscription

__all__ = ["RetainHandling", "SubscribeResult", "Subscriptions"]


class RetainHandling(Enum):
    """MQTT 5.0 section 3.8.3.1."""

    SEND = 0
    SEND_IF_NEW = 1
    DO_NOT_SEND = 2


@dataclass(frozen=True, slots=True)
class SubscribeResult:
    """Reason codes for the SUBACK, and the subscriptions whose retained messages go out after it."""

    codes: tuple[int, ...]
    retained_for: tuple[Subscription, ...]


class Subscriptions:
    """See the module.

    Args:
        limits: bounds of one session and one filter.
        statistics: where refusals are counted.
        hooks: who is told of what was granted.
        competed_for: the address for which a filter competes; None: it is an ordinary one.
    """

    def __init__(
        self,
        limits: Limits,
        statistics: Statistics,
        hooks: Hooks,
        competed_for: Callable[[str], CompetingAddress | None],
    ) -> None:
        self.tree: SubscriptionTree[Session] = SubscriptionTree(_may_receive)
        """All that do not compete for an address."""
        self._limits = limits
        self._statistics = statistics
        self._hooks = hooks
        self._competed_for = competed_for

    # --- what clients ask for -----------------------------------------------------------------------------------------

    def subscribe(self, session: Session, wanted: Iterable[TopicSubscription], identifier: int) -> SubscribeResult:
        """Judges and adds each filter on its own (MQTT 5.0 section 3.8.4)."""
        codes: list[int] = []
        retained_for: list[Subscription] = []
        for item in wanted:
            refusal = self._refusal(session, item.topic_filter)
            if refusal is not None:
                self._statistics.subscriptions_refused += 1
                codes.append(refusal)
                continue
            address = self._competed_for(item.topic_filter)
            qos = item.qos if address is None else min(item.qos, MAX_QOS)
            held = Subscription(item.topic_filter, qos, item.no_local, item.retain_as_published, identifier)
            session.subscriptions[item.topic_filter] = held
            is_new = self.link(session, held)
            if session.journal is not None:
                session.journal.subscribed(session, held)
            handling = RetainHandling(item.retain_handling)
            wants = handling is RetainHandling.SEND or (handling is RetainHandling.SEND_IF_NEW and is_new)
            if wants and address is None:
                retained_for.append(held)
            codes.append(qos)
            if self._hooks.subscribe:
                self._hooks.fire(self._hooks.subscribe, session.client, item.topic_filter, qos)
        return SubscribeResult(tuple(codes), tuple(retained_for))

    def _refusal(self, session: Session, topic_filter: str) -> ReasonCode | None:
        if filter_of_subscription(topic_filter).count("/") >= self._limits.max_topic_levels:
            return ReasonCode.TOPIC_FILTER_INVALID
        if not session.permissions.may_subscribe(topic_filter):
            return ReasonCode.NOT_AUTHORIZED
        held = session.subscriptions
        if topic_filter not in held and len(held) >= self._limits.max_subscriptions:
            return ReasonCode.QUOTA_EXCEEDED
        return None

    def unsubscribe(self, session: Session, topic_filters: Iterable[str]) -> tuple[int, ...]:
        """Reason codes for the UNSUBACK (MQTT 5.0 section 3.11.3)."""
        return tuple(
            ReasonCode.SUCCESS if self.remove(session, text) else ReasonCode.NO_SUBSCRIPTION_EXISTED
            for text in topic_filters
        )

    def remove(self, session: Session, topic_filter: str) -> bool:
        """Ends one subscription; False when the session has none with this filter."""
        held = session.subscriptions.pop(topic_filter, None)
        if held is None:
            return False
        if session.journal is not None:
            session.journal.unsubscribed(session, topic_filter)
        return self.unlink(session, held)

    # --- where messages come from -------------------------------------------------------------------------------------

    def link(self, session: Session, held: Subscription) -> bool:
        """Puts a subscription where its messages come from; True when it was not there."""
        address = self._competed_for(held.topic_filter)
        return self.tree.add(session, held) if address is None else address.attach(session, held)

    def unlink(self, session: Session, held: Subscription) -> bool:
        """No messages come from it any more; the session still has it. False when it was not linked."""
        address = self._competed_for(held.topic_filter)
        return self.tree.remove(session, held) if address is None else address.detach(session, held)

    def move_to_addresses(self, session: Session) -> None:
        """Addresses have come: what competes for one of them now is linked there."""
        for held in session.subscriptions.values():
            address = self._competed_for(held.topic_filter)
            if address is not None and self.tree.remove(session, held):
                address.attach(session, held)

    def release(self, address: CompetingAddress) -> None:
        """The address goes; those who competed for it have ordinary subscriptions from now on."""
        for session, held in address.subscribers():
            address.detach(session, held)
            self.tree.add(session, held)


def _may_receive(session: Session, topic: str) -> bool:
    return session.permissions.may_receive(topic)
