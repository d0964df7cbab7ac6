"""Queue, topic, anycast and multicast in an engine with a made-up clock and no sockets."""

import json
import random
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from broker.addresses.address import Address
from broker.addresses.book import AddressBook
from broker.addresses.control import CONTROL_TOPIC
from broker.dialogue import Dialogue
from broker.engine import Engine, OpenRequest
from broker.policy import permissions_of
from broker.session import Session, SessionKey
from broker.settings import BrokerSettings
from broker.statistics import Drop, Statistics
from broker.tenants import Plan
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import (
    Packet,
    PacketStream,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    PubRec,
    ReasonCode,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    Will,
    encode,
)
from meshwire.mqtt.packets import Unsubscribe

V5, V311 = ProtocolVersion.V5, ProtocolVersion.V3_1_1
ORDERS = "acme/address/orders"


@dataclass(eq=False)
class Client:
    """A connected client: its session, and an outlet that keeps what it was given."""

    engine: Engine
    client_id: str
    version: ProtocolVersion = V5
    receive_maximum: int = 100
    expiry_s: int = 0
    roles: tuple[str, ...] = ("ADDRESS_SENDER", "ADDRESS_RECEIVER")
    will: Will | None = None
    max_packet_octets: int = 1_000_000
    is_full: bool = False
    backlog_octets: int = 0
    octets: bytearray = field(default_factory=bytearray)
    inbox: list[Packet] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def write(self, data: bytes) -> None:
        self.octets += data

    def taken_over(self) -> None: ...

    def revoked(self) -> None: ...

    def connect(self, now: float = 0.0, *, clean: bool = True) -> "Client":
        kind = LoginKind.PASSWORD
        principal = Principal("p", TenantId("acme"), frozenset(self.roles), kind)
        key = SessionKey("acme", kind, self.client_id)
        request = OpenRequest(key, principal, permissions_of(principal), self, clean, self.expiry_s, self.will)
        opened = self.engine.open(request, now)
        assert opened is not None
        self.session: Session = opened[0]
        limits = self.engine.limits
        self.dialogue = Dialogue(self.engine, self.session, self, limits, self.engine.statistics, lambda _will: None)
        self.session.pump(now)
        return self

    def leave(self, now: float = 0.0) -> None:
        self.engine.close(self.session, self, with_will=True, now=now)

    def packets(self) -> list[Packet]:
        """What came since the last look."""
        stream = PacketStream(Side.CLIENT, self.version)
        stream.feed(bytes(self.octets))
        self.octets.clear()
        return list(stream.packets())

    def send(self, packet: Packet, now: float = 0.0) -> None:
        stream = PacketStream(Side.SERVER, self.version)
        stream.feed(encode(packet, self.version))
        self.dialogue.work(stream, now)

    def take(self, packet: Packet, now: float = 0.0) -> list[Packet]:
        self.send(packet, now)
        return self.packets()

    def subscribe(self, topic_filter: str = ORDERS, qos: int = 1, now: float = 0.0) -> int:
        self.send(Subscribe(1, (TopicSubscription(topic_filter, qos),)), now)
        first, *rest = self.packets()
        assert isinstance(first, SubAck)
        self.inbox += rest
        return first.reason_codes[0]

    def publish(
        self, payload: str, topic: str = ORDERS, qos: int = 1, now: float = 0.0, life: int | None = None
    ) -> list[Packet]:
        properties = Properties(message_expiry_interval=life)
        number = next(self.numbers) if qos else 0
        return self.take(Publish(topic, payload.encode(), qos, packet_id=number, properties=properties), now)

    def received(self, *, acknowledge: bool = True, reason: int = 0, now: float = 0.0) -> list[str]:
        """Payloads that came; acknowledging may bring more, which are there at the next call."""
        got = [item for item in (*self.inbox, *self.packets()) if isinstance(item, Publish)]
        self.inbox = []
        for item in got:
            if acknowledge and item.qos:
                self.send(PubAck(item.packet_id, reason), now)
        return [item.payload.decode() for item in got]


def engine_of(*addresses: dict[str, object], plan: Plan | None = None) -> Engine:
    engine = Engine(BrokerSettings(plan={"acme": plan or Plan()}), Statistics())
    set_addresses(engine, *addresses)
    return engine


def set_addresses(engine: Engine, *addresses: dict[str, object], now: float = 0.0) -> None:
    engine.addresses.apply([Address.model_validate({"tenant": "acme", **item}) for item in addresses], now)


def orders(kind: str, **bounds: object) -> dict[str, object]:
    return {"name": "orders", "type": kind, **bounds}


def reasons(packets: list[Packet]) -> list[int]:
    return [item.reason_code for item in packets if isinstance(item, PubAck | PubRec)]


def drops(engine: Engine, reason: Drop) -> int:
    return engine.statistics.drops[reason]


# --- queue ----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", ["queue", "anycast"])
def test_receivers_compete_in_turn_and_by_load(kind: str) -> None:
    engine = engine_of(orders(kind))
    first, second = Client(engine, "r1").connect(), Client(engine, "r2").connect()
    first.subscribe()
    second.subscribe("$share/g/" + ORDERS)  # the share name makes no difference
    sender = Client(engine, "s").connect()
    got: list[tuple[list[str], list[str]]] = []
    for payload in "wxyz":
        sender.publish(payload)
        got.append((first.received(), second.received()))
    assert got == [(["w"], []), ([], ["x"]), (["y"], []), ([], ["z"])], "in turn, though both are idle each time"
    for payload in "abcd":
        sender.publish(payload)
    assert (first.received(), second.received(acknowledge=False)) == (["a", "c"], ["b", "d"])
    for payload in "ef":
        sender.publish(payload)
    assert first.received() == ["e", "f"], "the second one has two messages that it has not acknowledged"


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


# --- anycast --------------------------------------------------------------------------------------------------------


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


# --- spaces and changes ---------------------------------------------------------------------------------------------


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


# --- control --------------------------------------------------------------------------------------------------------


def ask(admin: Client, **request: object) -> dict[str, object]:
    properties = Properties(response_topic="acme/reply/admin", correlation_data=b"1")
    payload = json.dumps(request).encode()
    packets = admin.take(Publish(CONTROL_TOPIC, payload, 1, packet_id=9, properties=properties))
    (answer,) = [item for item in packets if isinstance(item, Publish)]
    assert answer.properties.correlation_data == b"1"
    admin.take(PubAck(answer.packet_id))
    body = json.loads(answer.payload)
    assert isinstance(body, dict)
    return body


def test_browsing_takes_nothing() -> None:
    engine = engine_of(orders("queue"), {"name": "news", "type": "topic"})
    admin = Client(engine, "admin", roles=("ADMIN",)).connect()
    admin.subscribe("acme/reply/admin")
    sender = Client(engine, "s").connect()
    for payload in "abc":
        sender.publish(payload)
    page = ask(admin, command="browse", tenant="acme", address="orders", limit=2)
    assert [item["payload"] for item in page["messages"]] == ["YQ==", "Yg=="]  # type: ignore[attr-defined]
    rest = ask(admin, command="browse", tenant="acme", address="orders", after=page["next"])
    assert [item["sequence"] for item in rest["messages"]] == [3]  # type: ignore[attr-defined]
    reader = Client(engine, "r").connect()
    reader.subscribe("acme/address/news")
    listed = ask(admin, command="list", tenant="acme")["addresses"]
    assert [(item["name"], item["type"], item.get("stored"), item["receivers"]) for item in listed] == [  # type: ignore[attr-defined]
        ("orders", "queue", 3, 0),
        ("news", "topic", None, 1),
    ]
    assert ask(admin, command="purge", tenant="acme", address="orders") == {"purged": 3}
    assert "error" in ask(admin, command="browse", tenant="acme", address="news")
    assert "error" in ask(admin, command="browse", tenant="acme", address="nothing")
    assert "error" in ask(admin, command="explode")
    assert "error" in ask(admin, command="put", definition={"tenant": "acme", "name": "x", "type": "queue"})
    assert "error" in ask(admin, command="remove", tenant="acme", address="news")
    assert reasons(sender.publish("{}", CONTROL_TOPIC)) == [ReasonCode.NOT_AUTHORIZED]


def test_addresses_are_put_and_removed_on_request(tmp_path: Path) -> None:
    engine = engine_of(plan=Plan(max_addresses=2))
    engine.addresses.book = AddressBook(tmp_path / "addresses.json")
    admin = Client(engine, "admin", roles=("ADMIN",)).connect()
    admin.subscribe("acme/reply/admin")
    receiver, sender = Client(engine, "r").connect(), Client(engine, "s").connect()
    receiver.subscribe()
    definition: dict[str, object] = {"tenant": "acme", "name": "orders", "type": "queue", "max_ttl_s": 60}
    assert ask(admin, command="put", definition=definition) == {"put": "orders"}
    sender.publish("a")
    assert receiver.received() == ["a"]
    (listed,) = ask(admin, command="list")["addresses"]  # type: ignore[misc]
    assert (listed["max_ttl_s"], listed["topic_filter"], listed["senders"], listed["receivers"]) == (60, ORDERS, 1, 1)
    overlapping = definition | {"name": "x", "filter": "address/#"}
    assert "two addresses" in str(ask(admin, command="put", definition=overlapping)["error"])
    assert ask(admin, command="put", definition=definition | {"name": "second"}) == {"put": "second"}
    assert "plan" in str(ask(admin, command="put", definition=definition | {"name": "third"})["error"])
    assert "put needs" in str(ask(admin, command="put")["error"])
    assert ask(admin, command="remove", tenant="acme", address="orders") == {"removed": "orders"}
    assert [item.name for item in AddressBook(tmp_path / "addresses.json")] == ["second"]


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


# --- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["queue", "anycast"])
def test_no_message_is_lost_or_doubled_whatever_receivers_do(kind: str, seed: int) -> None:
    """Receivers come, go, refuse and acknowledge at random; in the end each message was taken once, or its sender knows
    better.
    """
    chance = random.Random(seed)
    engine = engine_of(orders(kind, max_deliveries=1_000), {"name": "other", "type": "queue"})
    sender = Client(engine, "s", receive_maximum=1_000).connect()
    receivers = [Client(engine, f"r{n}", receive_maximum=chance.randint(1, 4), expiry_s=60) for n in range(4)]
    held: dict[str, list[tuple[int, str]]] = {client.client_id: [] for client in receivers}
    connected: set[str] = set()
    taken: list[str] = []
    settled: dict[int, int] = {}
    number = 0

    def collect() -> None:
        for client in receivers:
            if client.client_id in connected:
                got = [item for item in client.packets() if isinstance(item, Publish)]
                held[client.client_id] += [(item.packet_id, item.payload.decode()) for item in got]
                assert len(held[client.client_id]) <= client.receive_maximum, "no more than the credit"
        for item in sender.packets():
            assert isinstance(item, PubAck) and item.packet_id not in settled
            settled[item.packet_id] = item.reason_code

    for _ in range(400):
        client = chance.choice(receivers)
        match chance.randrange(6):
            case 0 if client.client_id in connected:
                client.leave()
                connected.discard(client.client_id)
                held[client.client_id].clear()
            case 0 | 1:
                if client.client_id not in connected:
                    client.octets.clear()
                    client.connect(clean=False)
                    client.send(Subscribe(1, (TopicSubscription(ORDERS, 1),)), 0.0)
                    connected.add(client.client_id)
            case 2 | 3:
                number += 1
                sender.send(Publish(ORDERS, str(number).encode(), 1, packet_id=number), 0.0)
            case _ if held[client.client_id]:
                packet_id, payload = held[client.client_id].pop(0)
                refuses = chance.random() < 0.2
                client.send(PubAck(packet_id, 0x80 if refuses else 0), 0.0)
                if not refuses:
                    taken.append(payload)
        collect()
    for client in receivers:  # whoever is left leaves; one comes that takes everything
        if client.client_id in connected:
            client.leave()
    connected.clear()
    last = Client(engine, "last").connect()
    last.subscribe()
    while got := last.received():
        taken += got
    collect()
    assert len(taken) == len(set(taken)), "each once"
    if kind == "queue":
        assert set(settled.values()) == {0} and len(settled) == number
        assert sorted(map(int, taken)) == list(range(1, number + 1))
    else:
        assert len(settled) == number, "each sender's message has an answer"
        assert sorted(map(int, taken)) == sorted(packet_id for packet_id, code in settled.items() if code == 0)
    account = engine.tenants.of("acme")
    assert (account.queued_messages, account.queued_octets) == (0, 0)
