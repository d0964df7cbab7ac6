"""Addresses as clients find them: which topics belong to one, and what its coming and going changes."""

from address_client import ORDERS, Client, drops, engine_of, orders, reasons, set_addresses

from broker.policy import permissions_of
from broker.statistics import Drop
from broker.tenants import Plan
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import PubAck, ReasonCode
from meshwire.mqtt.packets import Unsubscribe


def test_telemetry_as_an_address() -> None:
    """A branch of a tenant's topics can be an address: direct telemetry needs somebody who takes it."""
    engine = engine_of({"name": "telemetry", "type": "anycast", "filter": "read/#"})
    gateway = Client(engine, "g", roles=("GATEWAY",)).connect()
    topic = "acme/read/0013500500000001/temp"
    assert reasons(gateway.publish("20", topic)) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
    assert reasons(gateway.publish("20", topic.replace("acme", "globex"))) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
    service = Client(engine, "r", roles=("BUBBLE_UP_READ_CONSUMER",)).connect()
    service.subscribe("acme/read/#")
    gateway.publish("21", topic)
    assert service.received() == ["21"]
    assert reasons(gateway.packets()) == [ReasonCode.SUCCESS]


def test_addresses_come_and_go_while_clients_are_connected() -> None:
    engine = engine_of()
    sender, receiver, second = (Client(engine, name).connect() for name in ("s", "r", "r2"))
    receiver.subscribe()
    second.subscribe()
    sender.publish("plain")
    assert (receiver.received(), second.received()) == (["plain"], ["plain"])
    set_addresses(engine, orders("queue"))
    sender.publish("a")
    sender.publish("b")
    assert sorted(receiver.received() + second.received()) == ["a", "b"]
    set_addresses(engine, orders("queue", max_messages=1))
    receiver.leave()
    second.leave()
    assert [reasons(sender.publish(payload)) for payload in "cd"] == [[0], [ReasonCode.QUOTA_EXCEEDED]]
    set_addresses(engine)
    assert drops(engine, Drop.ADDRESS_REMOVED) == 1
    third = Client(engine, "r3").connect()
    third.subscribe()
    sender.publish("plain again")
    assert third.received() == ["plain again"]
    assert engine.tenants.of("acme").queued_messages == 0


def test_a_message_that_is_out_when_its_queue_goes() -> None:
    engine = engine_of(orders("queue"))
    sender, receiver, other = (Client(engine, name).connect() for name in ("s", "r", "o"))
    receiver.subscribe()
    sender.publish("a")
    sender.publish("b")
    assert receiver.received(acknowledge=False) == ["a", "b"]
    set_addresses(engine)
    receiver.take(PubAck(1))
    receiver.leave()
    assert drops(engine, Drop.ADDRESS_REMOVED) == 1
    set_addresses(engine, orders("queue"))
    other.subscribe()
    assert other.received() == []
    assert engine.tenants.of("acme").queued_messages == 0


def test_the_plan_bounds_the_number_of_addresses() -> None:
    engine = engine_of(orders("queue"), {"name": "second", "type": "topic"}, plan=Plan(max_addresses=1))
    assert [live.address.name for live in engine.addresses] == ["orders"]


def test_the_end_of_a_subscription_and_of_a_right() -> None:
    engine = engine_of(orders("queue"))
    sender, receiver, other = (Client(engine, name).connect() for name in ("s", "r", "o"))
    receiver.subscribe()
    receiver.take(Unsubscribe(2, (ORDERS,)))
    sender.publish("a")
    assert receiver.received() == []
    other.subscribe()
    assert other.received() == ["a"]
    engine.revise(other.session, permissions_of(Principal("p", TenantId("acme"), frozenset(), LoginKind.PASSWORD)))
    sender.publish("b")
    assert other.received() == []


def test_hooks_and_other_tenants_see_nothing_of_it() -> None:
    engine = engine_of(orders("queue"))
    foreign = Client(engine, "f", roles=("BUBBLE_UP_READ_CONSUMER",)).connect()
    assert foreign.subscribe() == ReasonCode.NOT_AUTHORIZED
    assert reasons(foreign.publish("a")) == [ReasonCode.NOT_AUTHORIZED]
