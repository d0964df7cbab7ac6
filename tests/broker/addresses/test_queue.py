"""Queues: what is stored until one receiver has it, in which order, and what is given up."""

import pytest
from address_client import ORDERS, V311, Client, drops, engine_of, orders, reasons

from broker.statistics import Drop
from broker.tenants import Plan
from meshwire.mqtt import Publish, PubRec, ReasonCode, Will


def test_a_queue_keeps_messages_until_somebody_comes() -> None:
    engine = engine_of(orders("queue"))
    sender = Client(engine, "s").connect()
    for payload in "abc":
        assert reasons(sender.publish(payload)) == [ReasonCode.SUCCESS], "the broker owns it"
    sender.publish("d", qos=0)
    receiver = Client(engine, "r").connect()
    assert receiver.subscribe(qos=2) == 1, "QoS 1 is granted: what is not acknowledged may go to another one"
    assert receiver.received() == ["a", "b", "c", "d"]
    assert receiver.received() == []
    live = engine.addresses.of("acme", "orders")
    assert live is not None and live.counters.delivered == 4 and live.stored == 0  # type: ignore[union-attr]
    assert engine.tenants.of("acme").queued_messages == 0


def test_receive_maximum_is_the_credit() -> None:
    engine = engine_of(orders("queue"))
    slow = Client(engine, "r", receive_maximum=2).connect()
    slow.subscribe()
    sender = Client(engine, "s").connect()
    for payload in "abcde":
        sender.publish(payload)
    assert slow.received() == ["a", "b"]
    assert slow.received() == ["c", "d"]
    assert slow.received() == ["e"]


def test_what_a_receiver_did_not_acknowledge_goes_to_the_next_in_its_old_order() -> None:
    engine = engine_of(orders("queue"))
    sender = Client(engine, "s").connect()
    gone = Client(engine, "r1", receive_maximum=3, expiry_s=60).connect()
    gone.subscribe()
    for payload in "abcde":
        sender.publish(payload)
    assert gone.received(acknowledge=False) == ["a", "b", "c"]
    gone.leave()
    other = Client(engine, "r2").connect()
    other.subscribe()
    assert other.received() == ["a", "b", "c", "d", "e"]
    back = Client(engine, "r1", expiry_s=60).connect(clean=False)
    assert back.received() == [], "its session holds nothing of a queue"
    sender.publish("f")
    assert back.received() + other.received() == ["f"], "its subscription is still there"


def test_a_refusal_brings_the_message_to_the_next_one_and_then_to_the_dead_letters() -> None:
    engine = engine_of(orders("queue", max_deliveries=3, dead_letter="dead"), {"name": "dead", "type": "queue"})
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r").connect()
    receiver.subscribe()
    sender.publish("a")
    for _ in range(3):
        assert receiver.received(reason=ReasonCode.UNSPECIFIED_ERROR) == ["a"]
    assert receiver.received() == []
    sender.publish("bad")
    assert receiver.received(reason=ReasonCode.PAYLOAD_FORMAT_INVALID) == ["bad"], "nobody can read it: at once"
    assert receiver.received() == []
    undertaker = Client(engine, "u").connect()
    undertaker.subscribe("acme/address/dead")
    found = [item for item in undertaker.inbox if isinstance(item, Publish)]
    assert [(item.payload, dict(item.properties.user_properties)["reason"]) for item in found] == [
        (b"a", "delivery limit"),
        (b"bad", "rejected"),
    ]
    assert dict(found[0].properties.user_properties)["address"] == "orders"


def test_without_dead_letter_address_what_is_given_up_is_counted() -> None:
    engine = engine_of(orders("queue", max_deliveries=1))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r").connect()
    receiver.subscribe()
    sender.publish("a")
    receiver.received(reason=0x80)
    assert (receiver.received(), drops(engine, Drop.GIVEN_UP)) == ([], 1)


def test_a_message_that_is_too_large_for_its_receiver_is_given_up() -> None:
    engine = engine_of(orders("queue", max_deliveries=2))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r", max_packet_octets=50).connect()
    receiver.subscribe()
    sender.publish("x" * 100)
    sender.publish("a")
    assert (receiver.received(), drops(engine, Drop.GIVEN_UP)) == (["a"], 1)


def test_lives_are_clamped_and_expiry_is_counted() -> None:
    late = {"name": "late", "type": "queue"}
    engine = engine_of(orders("queue", min_ttl_s=10, max_ttl_s=60, expired_to="late"), late)
    sender = Client(engine, "s").connect()
    sender.publish("short", life=1)
    sender.publish("endless")
    engine.tick(9.0)
    live = engine.addresses.of("acme", "orders")
    assert live is not None and live.counters.expired == 0
    engine.tick(10.0)
    assert live.counters.expired == 1
    receiver = Client(engine, "r").connect()
    receiver.subscribe(now=30.0)
    (item,) = [item for item in receiver.inbox if isinstance(item, Publish)]
    assert (item.payload, item.properties.message_expiry_interval) == (b"endless", 30)
    receiver.subscribe("acme/address/late", now=61.0)
    assert receiver.received(now=61.0) == ["endless", "short"]


def test_an_expired_message_is_not_handed_out() -> None:
    engine = engine_of(orders("queue"))
    Client(engine, "s").connect().publish("a", life=5)
    receiver = Client(engine, "r").connect()
    receiver.subscribe(now=5.0)
    assert (receiver.received(), drops(engine, Drop.EXPIRED)) == ([], 1)


@pytest.mark.parametrize(
    ("bounds", "plan"), [({"max_messages": 2}, Plan()), ({}, Plan(max_queued_messages=2))], ids=["address", "plan"]
)
def test_a_full_queue_refuses(bounds: dict[str, object], plan: Plan) -> None:
    engine = engine_of(orders("queue", **bounds), plan=plan)
    sender = Client(engine, "s").connect()
    assert [reasons(sender.publish(payload)) for payload in "abc"] == [[0], [0], [ReasonCode.QUOTA_EXCEEDED]]
    assert drops(engine, Drop.ADDRESS_FULL) == 1
    old = Client(engine, "s3", V311).connect()
    assert old.publish("d") == [], "a 3.1.1 sender keeps what is not acknowledged"
    receiver = Client(engine, "r").connect()
    receiver.subscribe()
    assert receiver.received() == ["a", "b"]
    assert reasons(sender.publish("e")) == [0]


def test_qos_2_senders_are_answered_with_pubrec_and_repeat_harmlessly() -> None:
    engine = engine_of(orders("queue"))
    sender = Client(engine, "s", expiry_s=60).connect()
    packet = Publish(ORDERS, b"a", 2, packet_id=7)
    assert [type(item) for item in sender.take(packet)] == [PubRec]
    assert [type(item) for item in sender.take(packet)] == [PubRec]
    receiver = Client(engine, "r").connect()
    receiver.subscribe()
    assert receiver.received() == ["a"]


def test_who_subscribes_otherwise_watches() -> None:
    engine = engine_of(orders("queue"))
    watcher = Client(engine, "w").connect()
    watcher.subscribe("acme/address/#")
    sender = Client(engine, "s").connect()
    sender.publish("a")
    assert watcher.received() == ["a"]
    receiver = Client(engine, "r").connect()
    receiver.subscribe()
    assert receiver.received() == ["a"]


def test_a_will_is_queued_like_any_message() -> None:
    engine = engine_of(orders("queue"))
    Client(engine, "s", will=Will(ORDERS, b"gone", 1)).connect().leave()
    receiver = Client(engine, "r").connect()
    receiver.subscribe()
    assert receiver.received() == ["gone"]


def test_a_dead_letter_for_a_full_queue_is_dropped_and_counted() -> None:
    engine = engine_of(
        orders("queue", max_deliveries=1, dead_letter="dead"), {"name": "dead", "type": "queue", "max_messages": 1}
    )
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r").connect()
    receiver.subscribe()
    for payload in "ab":
        sender.publish(payload)
    receiver.received(reason=0x80)
    live = engine.addresses.of("acme", "dead")
    assert live is not None and (live.stored, drops(engine, Drop.ADDRESS_FULL)) == (1, 1)  # type: ignore[union-attr]
