"""Topic and multicast addresses: everyone gets a message."""

from address_client import Client, drops, engine_of, orders, reasons

from broker.statistics import Drop
from meshwire.mqtt import Publish, ReasonCode

# --- topic ----------------------------------------------------------------------------------------------------------


def test_a_topic_is_stored_for_each_durable_subscription() -> None:
    engine = engine_of(orders("topic", max_ttl_s=60))
    sender = Client(engine, "s").connect()
    assert reasons(sender.publish("nobody")) == [ReasonCode.SUCCESS], "the contract is with the broker"
    first, second = Client(engine, "r1", expiry_s=600).connect(), Client(engine, "r2").connect()
    assert [first.subscribe(qos=2), second.subscribe(qos=2)] == [2, 2]
    first.leave()
    sender.publish("a")
    assert second.received() == ["a"]
    back = Client(engine, "r1", expiry_s=600).connect(10.0, clean=False)
    (item,) = [item for item in back.packets() if isinstance(item, Publish)]
    assert (item.payload, item.properties.message_expiry_interval) == (b"a", 50)
    back.leave(10.0)
    sender.publish("b", now=20.0)
    again = Client(engine, "r1", expiry_s=600).connect(90.0, clean=False)
    assert "b" not in again.received(), "it was too late"
    assert drops(engine, Drop.EXPIRED) == 1


# --- multicast ------------------------------------------------------------------------------------------------------


def test_multicast_reaches_all_who_are_there_and_tells_when_all_have_it() -> None:
    engine = engine_of(orders("multicast"))
    sender = Client(engine, "s").connect()
    assert reasons(sender.publish("early")) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
    away = Client(engine, "away", expiry_s=60).connect()
    away.subscribe()
    away.leave()
    assert reasons(sender.publish("still nobody")) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
    first, second = Client(engine, "r1").connect(), Client(engine, "r2", receive_maximum=1).connect()
    first.subscribe()
    second.subscribe("acme/address/#")
    assert [sender.publish(payload) for payload in "ab"] == [[], []]
    assert first.received() == ["a", "b"]
    assert sender.packets() == []
    assert second.received() == ["a"]
    assert reasons(sender.packets()) == [ReasonCode.SUCCESS]
    second.received(acknowledge=False)
    second.leave()
    assert reasons(sender.packets()) == [ReasonCode.SUCCESS], "one has it; the other one has gone"
    assert Client(engine, "away", expiry_s=60).connect(clean=False).received() == [], "nothing was stored for it"


def test_multicast_to_nobody_who_takes_it() -> None:
    engine = engine_of(orders("multicast"))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r").connect()
    receiver.subscribe()
    sender.publish("a")
    receiver.leave()
    assert reasons(sender.packets()) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
