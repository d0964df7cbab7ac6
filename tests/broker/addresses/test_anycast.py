"""Anycast: one receiver takes a message, and the sender is told so."""

from address_client import ORDERS, V311, Client, drops, engine_of, orders, reasons

from broker.statistics import Drop
from meshwire.mqtt import Properties, PubAck, Publish, PubRec, ReasonCode


def test_anycast_tells_the_sender_when_a_receiver_took_it() -> None:
    engine = engine_of(orders("anycast"))
    sender = Client(engine, "s").connect()
    (refused,) = sender.publish("early")
    assert isinstance(refused, PubAck) and refused.reason_code == ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert refused.properties.reason_string == "no receiver is there"
    receiver = Client(engine, "r").connect()
    receiver.subscribe()
    assert sender.publish("a") == [], "nobody has said that it has it"
    assert receiver.received() == ["a"], "and the early one was not kept"
    assert reasons(sender.packets()) == [ReasonCode.SUCCESS]


def test_anycast_at_every_qos() -> None:
    engine = engine_of(orders("anycast"))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r").connect()
    assert sender.publish("lost", qos=0) == []
    receiver.subscribe()
    sender.publish("a", qos=0)
    assert sender.publish("b", qos=2) == []
    assert receiver.received() == ["a", "b"]
    (answer,) = sender.packets()
    assert isinstance(answer, PubRec) and answer.reason_code == 0
    assert sender.session.incoming == {1}
    receiver.leave()
    assert reasons(sender.publish("c", qos=2)) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
    quick = Client(engine, "q").connect()
    quick.subscribe(qos=0)
    assert reasons(sender.publish("d")) == [ReasonCode.SUCCESS], "a receiver at QoS 0 has it when it is written"
    assert quick.received() == ["d"]
    assert drops(engine, Drop.NO_RECEIVER) == 2


def test_a_receiver_that_leaves_hands_over_to_the_next_and_the_last_one_says_nobody() -> None:
    engine = engine_of(orders("anycast"))
    sender = Client(engine, "s").connect()
    first, second = Client(engine, "r1", expiry_s=60).connect(), Client(engine, "r2").connect()
    first.subscribe()
    assert sender.publish("a") == []
    second.subscribe()
    first.leave()
    assert second.received(acknowledge=False) == ["a"]
    second.leave()
    assert reasons(sender.packets()) == [ReasonCode.NO_MATCHING_SUBSCRIBERS]
    assert Client(engine, "r1", expiry_s=60).connect(clean=False).received() == [], "nothing is stored"


def test_a_busy_receiver_withholds_credit() -> None:
    engine = engine_of(orders("anycast", max_waiting=2))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r", receive_maximum=1).connect()
    receiver.subscribe()
    assert [sender.publish(payload) for payload in "abc"] == [[], [], []]
    assert reasons(sender.publish("d")) == [ReasonCode.QUOTA_EXCEEDED]
    for payload in "abc":
        assert receiver.received() == [payload]
        assert reasons(sender.packets()) == [ReasonCode.SUCCESS]


def test_what_waits_is_withdrawn_with_its_sender() -> None:
    engine = engine_of(orders("anycast"))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r", receive_maximum=1).connect()
    receiver.subscribe()
    sender.publish("a")
    sender.publish("b")
    sender.leave()
    assert (receiver.received(), receiver.received()) == (["a"], [])
    assert engine.tenants.of("acme").queued_messages == 0


def test_what_a_3_1_1_sender_left_behind_is_forgotten_soon() -> None:
    engine = engine_of(orders("anycast"))
    sender = Client(engine, "s", V311, expiry_s=60).connect()
    sender.publish("a")
    sender.leave()
    assert engine.tenants.of("acme").queued_messages == 1
    engine.tick(1.0)
    assert engine.tenants.of("acme").queued_messages == 0
    assert drops(engine, Drop.NO_RECEIVER) == 0, "the sender has it and sends it again"


def test_a_refusal_by_all_is_told() -> None:
    engine = engine_of(orders("anycast", max_deliveries=2))
    sender = Client(engine, "s").connect()
    receivers = [Client(engine, f"r{number}").connect() for number in range(2)]
    for receiver in receivers:
        receiver.subscribe()
    sender.publish("a")
    assert [receiver.received(reason=0x80) for receiver in receivers] == [["a"], ["a"]]
    assert reasons(sender.packets()) == [ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR]


def test_an_anycast_message_expires_while_it_waits() -> None:
    engine = engine_of(orders("anycast"))
    sender, receiver = Client(engine, "s").connect(), Client(engine, "r", receive_maximum=1).connect()
    receiver.subscribe()
    sender.publish("a")
    sender.publish("b", life=5)
    engine.tick(5.0)
    (answer,) = sender.packets()
    assert isinstance(answer, PubAck) and answer.properties.reason_string == "expired before a receiver took it"


def test_a_3_1_1_sender_waits_for_a_receiver_instead_of_being_lied_to() -> None:
    engine = engine_of(orders("anycast"))
    sender = Client(engine, "s", V311).connect()
    assert sender.publish("a") == [], "there is no word for `nobody` in 3.1.1"
    receiver = Client(engine, "r", V311).connect()
    receiver.subscribe()
    assert receiver.received() == ["a"]
    (answer,) = sender.packets()
    assert isinstance(answer, PubAck)


def test_request_and_reply() -> None:
    engine = engine_of(orders("anycast"))
    requester = Client(engine, "s", roles=("ADDRESS_SENDER",)).connect()
    service = Client(engine, "r", roles=("ADDRESS_RECEIVER",)).connect()
    assert requester.subscribe("acme/reply/s") == 1
    service.subscribe()
    asked = Properties(response_topic="acme/reply/s", correlation_data=b"17")
    requester.take(Publish(ORDERS, b"6*7", 1, packet_id=1, properties=asked))
    (request,) = [item for item in service.packets() if isinstance(item, Publish)]
    topic = request.properties.response_topic or ""
    answer = Properties(correlation_data=request.properties.correlation_data)
    service.take(Publish(topic, b"42", 1, packet_id=1, properties=answer))
    (reply,) = [item for item in requester.packets() if isinstance(item, Publish)]
    assert (reply.payload, reply.properties.correlation_data) == (b"42", b"17")
