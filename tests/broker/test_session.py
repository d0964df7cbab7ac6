"""The session machine: every step × answer, windows, redelivery, order, bounds."""

import pytest

from broker.delivery import STEPS, Answer, Delivery, Step
from broker.message import Message
from broker.outlet import SessionKey
from broker.session import Session
from broker.settings import FullQueue, Limits
from broker.statistics import Drop, Statistics
from meshwire.identity import LoginKind
from meshwire.mqtt import (
    NO_PROPERTIES,
    Packet,
    PacketError,
    PacketStream,
    Properties,
    ProtocolVersion,
    Publish,
    PubRel,
    Side,
)

KEY = SessionKey("acme", LoginKind.TOKEN, "c")
V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5


class Outlet:
    """A connection that remembers what was written."""

    def __init__(self, version: ProtocolVersion = V311, receive_maximum: int = 65_535) -> None:
        self.version = version
        self.max_packet_octets = 268_435_460
        self.receive_maximum = receive_maximum
        self.is_full = False
        self.backlog_octets = 0
        self.is_taken_over = False
        self._stream = PacketStream(Side.CLIENT, version)
        self._octets = b""

    def write(self, data: bytes) -> None:
        self._octets += data

    def taken_over(self) -> None:
        self.is_taken_over = True

    def packets(self) -> list[Packet]:
        self._octets, octets = b"", self._octets
        stream = PacketStream(Side.CLIENT, self.version)
        stream.feed(octets)
        return list(stream.packets())

    def published(self) -> list[Publish]:
        return [packet for packet in self.packets() if isinstance(packet, Publish)]


def session_with(limits: Limits | None = None) -> tuple[Session, Statistics]:
    statistics = Statistics()
    return Session(KEY, limits or Limits(), statistics), statistics


def deliver(session: Session, payload: bytes, qos: int, *, now: float = 0.0, topic: str = "t", **more: float) -> None:
    session.deliver(Message(topic, payload, qos, **more), qos, False, (), now)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", Answer)
@pytest.mark.parametrize("step", [Step.AWAIT_PUBACK, Step.AWAIT_PUBREC, Step.AWAIT_PUBCOMP])
def test_every_step_and_answer(step: Step, answer: Answer) -> None:
    session, statistics = session_with()
    outlet = Outlet()
    session.attach(outlet)
    qos = 1 if step is Step.AWAIT_PUBACK else 2
    deliver(session, b"x", qos)
    if step is Step.AWAIT_PUBCOMP:
        session.acknowledge(1, Answer.PUBREC, 0.0)
    outlet.packets()
    after = STEPS.get((step, answer))
    if after is None:
        with pytest.raises(PacketError):
            session.acknowledge(1, answer, 0.0)
        assert session.inflight_count == 1, "a refused answer moves nothing"
        return
    assert session.acknowledge(1, answer, 0.0)
    assert session.inflight_count == (0 if after is Step.DONE else 1)
    assert outlet.packets() == ([PubRel(1)] if after is Step.AWAIT_PUBCOMP else [])
    assert statistics.drops[Drop.REFUSED_BY_CLIENT] == (answer is Answer.PUBREC_FAILURE)


def test_an_answer_to_nothing_is_told() -> None:
    session, _ = session_with()
    session.attach(Outlet())
    assert not session.acknowledge(9, Answer.PUBACK, 0.0)


def test_qos_0_is_never_kept_for_a_client_that_is_away() -> None:
    session, statistics = session_with()
    deliver(session, b"x", 0)
    assert not session.queue
    assert statistics.drops == {Drop.QOS0_OFFLINE: 1}


def test_what_waits_is_delivered_in_order_and_within_the_window() -> None:
    session, _ = session_with()
    for number in range(10):
        deliver(session, b"%d" % number, 1 + number % 2)
    outlet = Outlet(receive_maximum=4)
    session.attach(outlet)
    session.pump(0.0)
    first = outlet.published()
    assert [packet.payload for packet in first] == [b"0", b"1", b"2", b"3"]
    assert [packet.packet_id for packet in first] == [1, 2, 3, 4]
    assert not any(packet.dup for packet in first)
    session.acknowledge(1, Answer.PUBACK, 0.0)
    assert [packet.payload for packet in outlet.published()] == [b"4"]
    session.acknowledge(2, Answer.PUBREC, 0.0)
    assert outlet.packets() == [PubRel(2)]
    session.acknowledge(2, Answer.PUBCOMP, 0.0)
    assert [packet.payload for packet in outlet.published()] == [b"5"]


def test_a_new_message_does_not_overtake_waiting_ones() -> None:
    session, _ = session_with()
    outlet = Outlet(receive_maximum=1)
    session.attach(outlet)
    for number in range(3):
        deliver(session, b"%d" % number, 1)
    session.acknowledge(1, Answer.PUBACK, 0.0)
    deliver(session, b"3", 1)
    session.acknowledge(2, Answer.PUBACK, 0.0)
    session.acknowledge(3, Answer.PUBACK, 0.0)
    assert [packet.payload for packet in outlet.published()] == [b"0", b"1", b"2", b"3"]


def test_unacknowledged_messages_come_again_with_dup_and_their_identifiers() -> None:
    session, _ = session_with()
    session.attach(Outlet())
    for number in range(3):
        deliver(session, b"%d" % number, 2 if number == 1 else 1)
    session.acknowledge(2, Answer.PUBREC, 0.0)
    session.detach()
    deliver(session, b"3", 1)
    again = Outlet()
    session.attach(again)
    session.pump(0.0)
    packets = again.packets()
    assert packets == [
        PubRel(2),  # a release takes no room in the window and never waits behind a message
        Publish("t", b"0", 1, False, True, 1),
        Publish("t", b"2", 1, False, True, 3),
        Publish("t", b"3", 1, False, False, 4),
    ]


def test_redelivery_obeys_a_smaller_window() -> None:
    session, _ = session_with()
    session.attach(Outlet())
    for number in range(5):
        deliver(session, b"%d" % number, 1)
    session.detach()
    again = Outlet(V5, receive_maximum=2)
    session.attach(again)
    session.pump(0.0)
    assert [packet.packet_id for packet in again.published()] == [1, 2]
    deliver(session, b"5", 1)
    assert again.published() == []
    session.acknowledge(1, Answer.PUBACK, 0.0)
    session.acknowledge(2, Answer.PUBACK, 0.0)
    assert [packet.packet_id for packet in again.published()] == [3, 4]
    for packet_id in (3, 4, 5):
        session.acknowledge(packet_id, Answer.PUBACK, 0.0)
    assert [packet.payload for packet in again.published()] == [b"4", b"5"]


def test_identifiers_in_use_are_skipped() -> None:
    session, _ = session_with()
    outlet = Outlet()
    session.attach(outlet)
    deliver(session, b"old", 1)
    session._last_packet_id = 65_535
    deliver(session, b"new", 1)
    assert [packet.packet_id for packet in outlet.published()] == [1, 2]


def test_the_queue_is_bounded_over_all_topics_and_drops_the_newest() -> None:
    session, statistics = session_with(Limits(max_queued_messages=3))
    for number in range(5):
        deliver(session, b"%d" % number, 1, topic=f"t/{number}")
    assert [item.message.payload for item in session.queue] == [b"0", b"1", b"2"]
    assert statistics.drops == {Drop.QUEUE_FULL: 2}


@pytest.mark.parametrize(
    "properties",
    [
        Properties(user_properties=(("n" * 500, "v" * 500),)),
        Properties(user_properties=(("", ""),) * 20),
        Properties(correlation_data=b"c" * 400, response_topic="r" * 400, content_type="t" * 200),
    ],
    ids=["long", "many", "others"],
)
def test_properties_count_for_the_bound_of_the_queue(properties: Properties) -> None:
    session, statistics = session_with(Limits(max_queued_octets=1_800))
    for _ in range(2):
        session.deliver(Message("t", b"", 1, properties=properties), 1, False, (), 0.0)
    assert (len(session.queue), statistics.drops) == (1, {Drop.QUEUE_FULL: 1})
    session.attach(Outlet(V5))
    session.pump(0.0)
    assert session.tenant.queued_octets == 0


def test_the_queue_may_drop_the_oldest_instead() -> None:
    session, statistics = session_with(Limits(max_queued_messages=3, when_queue_is_full=FullQueue.DISCARD_OLDEST))
    for number in range(5):
        deliver(session, b"%d" % number, 1)
    assert [item.message.payload for item in session.queue] == [b"2", b"3", b"4"]
    assert statistics.drops == {Drop.QUEUE_FULL: 2}


@pytest.mark.parametrize("policy", FullQueue)
def test_the_queue_is_bounded_in_octets(policy: FullQueue) -> None:
    session, statistics = session_with(Limits(max_queued_octets=2_048, when_queue_is_full=policy))
    for _ in range(4):
        deliver(session, b"x" * 1_000, 1)
    assert len(session.queue) == 2
    deliver(session, b"x" * 5_000, 1)
    assert len(session.queue) == 2, "one that could never fit pushes nobody out"
    assert statistics.drops[Drop.QUEUE_FULL] == 3


def test_a_full_outlet_makes_qos_1_wait_and_a_backlog_sheds_qos_0() -> None:
    session, statistics = session_with(Limits(qos0_backlog_octets=100))
    outlet = Outlet()
    session.attach(outlet)
    outlet.is_full, outlet.backlog_octets = True, 101
    deliver(session, b"0", 0)
    deliver(session, b"1", 1)
    assert outlet.packets() == []
    assert statistics.drops == {Drop.QOS0_BACKLOG: 1}
    outlet.is_full, outlet.backlog_octets = False, 0
    session.pump(0.0)
    assert [packet.payload for packet in outlet.published()] == [b"1"]


def test_expired_messages_are_dropped_and_others_carry_what_is_left() -> None:
    session, statistics = session_with()
    for life in (10, 60):
        message = Message("t", b"%d" % life, 1, properties=Properties(message_expiry_interval=life), expires_at=life)
        session.deliver(message, 1, False, (), 0.0)
    outlet = Outlet(V5)
    session.attach(outlet)
    session.pump(20.0)
    (packet,) = outlet.published()
    assert packet.payload == b"60"
    assert packet.properties == Properties(message_expiry_interval=40)
    assert statistics.drops == {Drop.EXPIRED: 1}


def test_a_packet_too_large_for_the_client_is_not_sent() -> None:
    session, statistics = session_with()
    outlet = Outlet(V5)
    outlet.max_packet_octets = 50
    session.attach(outlet)
    deliver(session, b"x" * 60, 1)
    deliver(session, b"y", 1)
    assert [packet.payload for packet in outlet.published()] == [b"y"]
    assert statistics.drops == {Drop.TOO_LARGE_FOR_CLIENT: 1}


def test_identifiers_of_subscriptions_reach_mqtt_5_clients_only() -> None:
    for version, expected in ((V5, Properties(subscription_identifiers=(3, 4))), (V311, NO_PROPERTIES)):
        session, _ = session_with()
        outlet = Outlet(version)
        session.attach(outlet)
        session.deliver(Message("t", b"x"), 0, False, (3, 4), 0.0)
        assert [packet.properties for packet in outlet.published()] == [expected]


def test_one_message_is_encoded_once_for_all_that_get_it_alike() -> None:
    message = Message("t", b"x", 1)
    assert message.parts(V311, 1, False) is message.parts(ProtocolVersion.V3_1, 1, False)
    assert message.parts(V311, 1, False) != message.parts(V5, 1, False)
    assert message.parts(V311, 0, False) != message.parts(V311, 0, True)


def test_retained_messages_wait_their_turn_and_qos_0_ones_go_with_the_connection() -> None:
    session, statistics = session_with()
    outlet = Outlet()
    session.attach(outlet)
    outlet.is_full = True
    for qos in (0, 1, 0):
        session.deliver_retained(Message("t", b"%d" % qos, qos), qos, True, ())
    session.pump(0.0)
    assert outlet.packets() == []
    session.detach()
    assert [item.qos for item in session.queue] == [1]
    assert statistics.drops == {Drop.QOS0_OFFLINE: 2}


def test_a_new_qos_0_message_does_not_overtake_the_retained_one_that_waits() -> None:
    session, _ = session_with()
    outlet = Outlet()
    session.attach(outlet)
    outlet.is_full = True
    session.deliver_retained(Message("t", b"old", 0), 0, True, ())
    session.pump(0.0)
    deliver(session, b"new", 0)
    outlet.is_full = False
    session.pump(0.0)
    deliver(session, b"newest", 0)
    assert [packet.payload for packet in outlet.published()] == [b"old", b"new", b"newest"]


def test_qos_0_overtakes_what_waits_for_acknowledgements() -> None:
    session, _ = session_with()
    outlet = Outlet(receive_maximum=1)
    session.attach(outlet)
    for qos in (1, 1, 0):
        deliver(session, b"%d" % qos, qos)
    assert [packet.payload for packet in outlet.published()] == [b"1", b"0"]


def test_what_is_not_permitted_any_more_leaves_the_queue() -> None:
    session, statistics = session_with()
    for topic in ("a/x", "b/x", "a/y"):
        deliver(session, b"x", 1, topic=topic)

    def keep(item: Delivery) -> bool:
        return item.message.topic.startswith("b/")

    assert session.retain_only(keep) == 2
    assert [item.message.topic for item in session.queue] == ["b/x"]
    assert statistics.drops == {Drop.RECEIVE_REFUSED: 2}


def test_the_end_of_a_session_counts_what_it_held() -> None:
    session, statistics = session_with()
    session.attach(Outlet(receive_maximum=1))
    for _ in range(3):
        deliver(session, b"x", 1)
    session.clear()
    assert statistics.drops == {Drop.SESSION_ENDED: 3}
    assert (session.inflight_count, len(session.queue)) == (0, 0)
