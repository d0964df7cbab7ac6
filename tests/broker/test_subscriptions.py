"""What is granted, and that a subscription is linked in exactly one place."""

from typing import cast

import pytest

from broker.addresses.competing import CompetingAddress
from broker.outlet import SessionKey
from broker.plugins import Hooks
from broker.policy import permissions_of
from broker.router import Subscription
from broker.session import Session
from broker.settings import Limits
from broker.statistics import Statistics
from broker.subscriptions import Subscriptions
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import ReasonCode, TopicSubscription

ORDERS = "acme/address/orders"
KIND = LoginKind.PASSWORD


class Address:
    """Stands for a competing address: holds subscriptions."""

    def __init__(self) -> None:
        self.held: dict[Session, Subscription] = {}

    def attach(self, session: Session, held: Subscription) -> bool:
        is_new = session not in self.held
        self.held[session] = held
        return is_new

    def detach(self, session: Session, held: Subscription) -> bool:
        return self.held.pop(session, None) is not None

    def subscribers(self) -> list[tuple[Session, Subscription]]:
        return list(self.held.items())


class Broker:
    """Subscriptions with one session; addresses come and go by `addresses`."""

    def __init__(self, *roles: str, **limits: int) -> None:
        self.limits, self.statistics = Limits(**limits), Statistics()  # type: ignore[arg-type]
        self.addresses: dict[str, CompetingAddress] = {}
        self.subscriptions = Subscriptions(self.limits, self.statistics, Hooks(), lambda text: self.addresses.get(text))
        self.session = Session(SessionKey("acme", KIND, "c"), self.limits, self.statistics)
        self.session.permissions = permissions_of(Principal("p", TenantId("acme"), frozenset(roles), KIND))

    def ask(self, *filters: str, qos: int = 1, handling: int = 0) -> tuple[int, ...]:
        wanted = [TopicSubscription(text, qos, False, False, handling) for text in filters]
        self.result = self.subscriptions.subscribe(self.session, wanted, 0)
        return self.result.codes

    def in_tree(self) -> bool:
        return bool(self.subscriptions.tree.match(ORDERS).targets)


def test_refused_and_granted_filters_are_answered_one_by_one() -> None:
    broker = Broker("BUBBLE_UP_READ_CONSUMER", max_subscriptions=2, max_topic_levels=4)
    codes = broker.ask("acme/read/#", "other/#", "acme/read/1/2/3", "acme/read/+", "acme/read/x", qos=2)
    assert codes == (2, ReasonCode.NOT_AUTHORIZED, ReasonCode.TOPIC_FILTER_INVALID, 2, ReasonCode.QUOTA_EXCEEDED)
    assert broker.ask("acme/read/#", qos=0) == (0,), "replacing is not one more"
    assert broker.statistics.subscriptions_refused == 3
    ended = broker.subscriptions.unsubscribe(broker.session, ["acme/read/#", "nothing"])
    assert ended == (ReasonCode.SUCCESS, ReasonCode.NO_SUBSCRIPTION_EXISTED)


@pytest.mark.parametrize(("handling", "first", "again"), [(0, True, True), (1, True, False), (2, False, False)])
def test_for_which_subscriptions_retained_messages_go_out(handling: int, first: bool, again: bool) -> None:
    broker = Broker("ADMIN")
    for expected in (first, again):
        broker.ask("a/+", handling=handling)
        assert bool(broker.result.retained_for) is expected


def test_a_competing_subscription_is_at_its_address_alone_with_qos_1_and_without_retained_messages() -> None:
    broker, address = Broker("ADMIN"), Address()
    broker.addresses[ORDERS] = cast(CompetingAddress, address)
    assert broker.ask(ORDERS, qos=2) == (1,)
    assert (list(address.held), broker.in_tree()) == ([broker.session], False)
    assert not broker.result.retained_for
    assert broker.subscriptions.remove(broker.session, ORDERS)
    assert (address.held, broker.in_tree()) == ({}, False)


def test_a_subscription_moves_as_its_address_comes_and_goes() -> None:
    broker, address = Broker("ADMIN"), Address()
    broker.ask(ORDERS)
    assert broker.in_tree()
    broker.addresses[ORDERS] = cast(CompetingAddress, address)
    broker.subscriptions.move_to_addresses(broker.session)
    assert (list(address.held), broker.in_tree()) == ([broker.session], False)
    broker.subscriptions.release(broker.addresses.pop(ORDERS))
    assert (address.held, broker.in_tree()) == ({}, True)
