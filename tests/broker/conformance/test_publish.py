"""PUBLISH: flags, topics, properties (section 3.3 of both versions) and what subscribers get of them."""

from typing import Any

import pytest

from broker.settings import Limits
from meshwire.mqtt import (
    Disconnect,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
)

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
LIMITS = Limits(topic_alias_maximum=10, receive_maximum=5)


@pytest.fixture
def watcher(connect: Any, topic: str) -> Any:
    client = connect(V5)
    client.subscribe(topic)
    return client


# --- flags ----------


@BOTH
@pytest.mark.parametrize("octets", ["36 06 0001 74 0001 00", "3e 06 0001 74 0001 00"])
def test_qos_3_closes(connect: Any, version: ProtocolVersion, octets: str) -> None:
    client = connect(version)
    client.octets(octets)
    assert client.until_closed() == ([Disconnect(ReasonCode.MALFORMED_PACKET)] if version is V5 else [])


@BOTH
def test_dup_at_qos_0_closes(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    client.octets("38 04 0001 74 00")
    assert client.is_refused()


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_dup_of_the_publisher_is_not_passed_on(
    connect: Any, watcher: Any, topic: str, version: ProtocolVersion, qos: int
) -> None:
    client = connect(version)
    client.send(Publish(topic, b"x", qos, dup=qos > 0, packet_id=1 if qos else 0))
    received = watcher.take()
    assert (received.qos, received.dup) == (qos, False)


@BOTH
def test_dup_is_set_when_a_message_is_sent_again_and_only_then(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version)
    client.subscribe(topic)
    sender = connect(V5)
    sender.publish(topic, b"1", 1)
    sender.publish(topic, b"2", 2)
    first = client.fenced()
    assert [packet.dup for packet in first] == [False, False]
    client.close()
    server.noticed_leaving(client.client_id)
    sender.publish(topic, b"3", 1)
    again = keep(version, client.client_id).fenced()
    assert [(packet.payload, packet.dup) for packet in again] == [(b"1", True), (b"2", True), (b"3", False)]
    assert [packet.packet_id for packet in again[:2]] == [packet.packet_id for packet in first]


# --- topics ----------

BAD_TOPICS = {"+": "2b", "#": "23", "a/+": "612f2b", "a/#": "612f23", "a+b": "612b62", "empty": "", "U+0000": "00"}


@BOTH
@pytest.mark.parametrize("name", BAD_TOPICS.values(), ids=BAD_TOPICS)
def test_a_topic_name_with_wildcards_or_none_closes(connect: Any, version: ProtocolVersion, name: str) -> None:
    watcher = connect(V5)
    watcher.subscribe("#")
    client = connect(version)
    raw = bytes.fromhex(name)
    body = len(raw).to_bytes(2, "big") + raw + (b"\0" if version is V5 else b"") + b"x"
    client.octets(bytes((0x30, len(body))) + body)
    assert client.is_refused()
    assert watcher.fenced() == []


@BOTH
def test_a_topic_of_65535_octets_is_possible(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    longest = "x" * 65_535
    client.subscribe(longest, qos=0)
    client.send(Publish(longest, b"x"))
    assert client.take().topic == longest


@BOTH
@pytest.mark.parametrize(
    ("filters", "name"),
    [
        (["a/b"], "a/b"),
        (["a/+"], "a/b"),
        (["a/#"], "a/b"),
        (["A/b"], "a/b"),
        (["a/b/"], "a/b"),
        (["/a/b"], "a/b"),
        (["a//b"], "a/b"),
        (["+/+", "+", "#"], "a/b"),
        (["a/b/#"], "a/b"),
        (["+/b", "a/+/#"], "a/b"),
        (["/+", "+/+"], "/x"),
        (["+"], "/x"),
        (["caf\u00e9"], "cafe\u0301"),
    ],
)
def test_what_arrives_matches_what_was_subscribed(
    connect: Any, topic: str, version: ProtocolVersion, filters: list[str], name: str
) -> None:
    """The server neither normalises nor guesses; the rule is told here in a second way."""

    def matches(wanted: list[str], levels: list[str]) -> bool:
        if not wanted:
            return not levels
        if wanted[0] == "#":
            return True
        if not levels:
            return False
        return wanted[0] in ("+", levels[0]) and matches(wanted[1:], levels[1:])

    base = f"{topic}/"
    receiver, sender = connect(version), connect(V5)
    for text in filters:
        receiver.subscribe(base + text)
    expected = any(
        matches(text.split("/"), name.split("/"))
        or (text.endswith("/#") and matches(text.split("/")[:-1], name.split("/")))
        for text in filters
    )
    sender.publish(base + name, b"x")
    got = receiver.fenced()
    assert [packet.topic for packet in got] == ([base + name] if expected else [])


# --- acknowledgements ----------


@BOTH
def test_each_qos_has_its_answer(connect: Any, watcher: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    client.send(Publish(topic, b"0"))
    assert client.fenced() == []
    assert client.ask(Publish(topic, b"1", 1, packet_id=7)) == PubAck(7)
    assert client.ask(Publish(topic, b"2", 2, packet_id=7)) == PubRec(7)
    assert client.ask(PubRel(7)) == PubComp(7)
    assert watcher.payloads() == [b"0", b"1", b"2"]


@BOTH
def test_a_qos_1_message_is_new_whenever_it_comes(
    connect: Any, watcher: Any, topic: str, version: ProtocolVersion
) -> None:
    client = connect(version)
    for dup in (False, True, True):
        assert client.ask(Publish(topic, b"x", 1, dup=dup, packet_id=3)) == PubAck(3)
    assert watcher.payloads() == [b"x"] * 3


@BOTH
def test_a_qos_2_message_is_delivered_once_until_it_is_released(
    connect: Any, watcher: Any, topic: str, version: ProtocolVersion
) -> None:
    client = connect(version)
    for dup in (False, True, True):
        assert client.ask(Publish(topic, b"x", 2, dup=dup, packet_id=3)) == PubRec(3)
    assert watcher.payloads() == [b"x"]
    assert client.ask(PubRel(3)) == PubComp(3)
    assert client.ask(Publish(topic, b"y", 2, packet_id=3)) == PubRec(3)  # the identifier is free: a new message
    assert watcher.payloads() == [b"y"]


@BOTH
def test_a_qos_2_message_is_recognised_over_connections(
    keep: Any, watcher: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version)
    assert client.ask(Publish(topic, b"x", 2, packet_id=3)) == PubRec(3)
    client.close()
    again = keep(version, client.client_id)
    assert again.ask(Publish(topic, b"x", 2, dup=True, packet_id=3)) == PubRec(3)
    assert again.ask(PubRel(3)) == PubComp(3)
    assert watcher.payloads() == [b"x"]


def test_a_refused_message_is_acknowledged_or_told(connect: Any, topic: str) -> None:
    """`reader` may publish nothing: 3.1.1 acknowledges and drops, 5.0 says so; then the identifier is free."""
    watcher = connect(V5)
    watcher.subscribe(topic)
    client = connect(V311, user="reader")
    assert client.ask(Publish(topic, b"x", 1, packet_id=1)) == PubAck(1)
    assert client.ask(Publish(topic, b"x", 2, packet_id=2)) == PubRec(2)
    assert client.ask(PubRel(2)) == PubComp(2)
    client = connect(V5, user="reader")
    assert client.ask(Publish(topic, b"x", 1, packet_id=1)) == PubAck(1, ReasonCode.NOT_AUTHORIZED)
    for _ in range(2):
        assert client.ask(Publish(topic, b"x", 2, packet_id=2)) == PubRec(2, ReasonCode.NOT_AUTHORIZED)
    assert client.ask(PingReq()) == PingResp()
    assert watcher.fenced() == []


def test_qos_2_messages_that_expired_keep_their_handshake(server: Any, connect: Any, keep: Any, topic: str) -> None:
    """Of a message that was sent, neither PUBLISH nor PUBREL falls to its expiry."""
    client = keep(V5)
    client.subscribe(topic)
    sender = connect(V5)
    sender.publish(topic, b"x", 2, properties=Properties(message_expiry_interval=5))
    [first] = client.fenced()
    client.close()
    server.noticed_leaving(client.client_id)
    server.skip(10)
    again = keep(V5, client.client_id)
    [resent] = again.fenced()
    assert (resent.packet_id, resent.dup, resent.payload) == (first.packet_id, True, b"x")
    assert again.ask(PubRec(resent.packet_id)) == PubRel(resent.packet_id)
    again.send(PubComp(resent.packet_id))
    assert again.fenced() == []


def test_the_publishers_side_of_an_expired_qos_2_message_completes(server: Any, connect: Any, topic: str) -> None:
    client = connect(V5)
    properties = Properties(message_expiry_interval=1)
    answer = client.ask(Publish(topic, b"x", 2, packet_id=1, properties=properties))
    assert answer == PubRec(1, ReasonCode.NO_MATCHING_SUBSCRIBERS)
    server.skip(5)
    assert client.ask(PubRel(1)) == PubComp(1)


# --- receive maximum of the server ----------


def test_more_qos_2_messages_than_the_receive_maximum_end_the_connection(connect: Any, topic: str) -> None:
    client = connect(V5)
    assert client.connack.properties.receive_maximum == LIMITS.receive_maximum
    for packet_id in range(1, 6):
        assert isinstance(client.ask(Publish(topic, b"x", 2, packet_id=packet_id)), PubRec)
    client.send(Publish(topic, b"x", 2, packet_id=6))
    assert client.until_closed() == [Disconnect(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)]


# --- topic aliases ----------


def test_topic_aliases_up_to_the_maximum_are_accepted(connect: Any, watcher: Any, topic: str) -> None:
    client = connect(V5)
    assert client.connack.properties.topic_alias_maximum == 10
    for alias in range(1, 11):
        client.send(Publish(topic, b"first", properties=Properties(topic_alias=alias)))
        client.send(Publish("", b"again", properties=Properties(topic_alias=alias)))
    client.fenced()
    got = watcher.fenced()
    assert [packet.payload for packet in got] == [b"first", b"again"] * 10
    assert {(packet.topic, packet.properties.topic_alias) for packet in got} == {(topic, None)}


def test_a_topic_alias_may_change_its_topic(connect: Any, topic: str) -> None:
    client = connect(V5)
    client.subscribe(f"{topic}/+")
    for name in ("a", "b"):
        client.send(Publish(f"{topic}/{name}", b"x", properties=Properties(topic_alias=1)))
        client.send(Publish("", b"y", properties=Properties(topic_alias=1)))
    assert [packet.topic for packet in client.fenced()] == [f"{topic}/{name}" for name in "aabb"]


@pytest.mark.parametrize(("alias", "reason"), [(0, 0x94), (11, 0x94), (65_535, 0x94), (5, 0x82)])
def test_a_bad_topic_alias_ends_the_connection(connect: Any, alias: int, reason: int) -> None:
    client = connect(V5)
    client.octets(b"\x30\x06\x00\x00\x03\x23" + alias.to_bytes(2, "big"))
    assert client.until_closed() == [Disconnect(reason)]


def test_topic_aliases_end_with_the_connection(keep: Any, topic: str) -> None:
    client = keep(V5)
    client.send(Publish(topic, b"x", properties=Properties(topic_alias=1)))
    client.fenced()
    client.close()
    again = keep(V5, client.client_id)
    again.send(Publish("", b"x", properties=Properties(topic_alias=1)))
    assert again.until_closed() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


@pytest.mark.parametrize("maximum", [None, 0, 1, 10])
def test_the_server_uses_no_more_topic_aliases_than_it_may(connect: Any, topic: str, maximum: int | None) -> None:
    """We may send up to `maximum` aliases; every message is understood with that many and no more."""
    client = connect(V5, properties=Properties(topic_alias_maximum=maximum))
    client.subscribe(f"{topic}/#")
    sender = connect(V5)
    known: dict[int, str] = {}
    for number in range(30):
        sender.publish(f"{topic}/{number % 15}", b"x")
        received = client.take()
        alias = received.properties.topic_alias
        if alias is not None:
            assert 1 <= alias <= (maximum or 0)
            known[alias] = received.topic or known[alias]
        assert (received.topic or known[alias or 0]) == f"{topic}/{number % 15}"


# --- properties on their way ----------

TRAVELLING = {
    "payload format 0": Properties(payload_format_indicator=0),
    "payload format 1": Properties(payload_format_indicator=1),
    "content type": Properties(content_type="application/cbor \u2603"),
    "response topic": Properties(response_topic="a/b"),
    "correlation data": Properties(correlation_data=b"\0\x01\xff"),
    "empty correlation data": Properties(correlation_data=b""),
    "user properties": Properties(user_properties=(("b", "1"), ("a", "2"), ("b", "1"), ("", ""))),
    "all": Properties(
        payload_format_indicator=1,
        content_type="x",
        response_topic="y",
        correlation_data=b"z",
        user_properties=(("k", "v"),),
    ),
}


@pytest.mark.parametrize("properties", TRAVELLING.values(), ids=TRAVELLING)
@pytest.mark.parametrize("qos", [0, 2])
def test_properties_arrive_as_they_were_sent(connect: Any, topic: str, properties: Properties, qos: int) -> None:
    receivers = [connect(V5), connect(V5)]
    for receiver in receivers:
        receiver.subscribe(topic)
    connect(V5).publish(topic, b"payload", qos, properties=properties)
    for receiver in receivers:
        received = receiver.take()
        assert received.properties == properties and received.payload == b"payload"


@pytest.mark.parametrize("properties", TRAVELLING.values(), ids=TRAVELLING)
def test_properties_are_kept_with_queued_and_retained_messages(
    server: Any, connect: Any, keep: Any, topic: str, properties: Properties
) -> None:
    away = keep(V5)
    away.subscribe(topic)
    away.close()
    server.noticed_leaving(away.client_id)
    connect(V5).publish(topic, b"x", retain=True, properties=properties)
    assert keep(V5, away.client_id).take().properties == properties
    late = connect(V5)
    late.subscribe(topic)
    assert late.take().properties == properties


def test_a_3_1_1_subscriber_gets_the_message_without_properties(connect: Any, topic: str) -> None:
    client = connect(V311)
    client.subscribe(topic)
    connect(V5).publish(topic, b"x", properties=TRAVELLING["all"])
    assert client.take() == Publish(topic, b"x", 1, packet_id=1)


@pytest.mark.parametrize("name", ["#", "a/+", "+"])
def test_a_response_topic_with_wildcards_ends_the_connection(connect: Any, name: str) -> None:
    client = connect(V5)
    raw = name.encode()
    listed = b"\x08" + len(raw).to_bytes(2, "big") + raw
    body = b"\0\x01t" + bytes((len(listed),)) + listed
    client.octets(bytes((0x30, len(body))) + body)
    assert client.is_refused()


def test_a_subscription_identifier_from_a_client_ends_the_connection(connect: Any) -> None:
    client = connect(V5)
    client.octets("30 06 0001 74 02 0b05")
    assert client.until_closed() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


# --- message expiry ----------


def test_a_message_that_expired_is_not_delivered(server: Any, connect: Any, keep: Any, topic: str) -> None:
    client = keep(V5)
    client.subscribe(topic)
    client.close()
    server.noticed_leaving(client.client_id)
    sender = connect(V5)
    sender.publish(topic, b"short", properties=Properties(message_expiry_interval=5))
    sender.publish(topic, b"long", properties=Properties(message_expiry_interval=500))
    sender.publish(topic, b"for ever")
    sender.publish(f"{topic}/r", b"short", retain=True, properties=Properties(message_expiry_interval=5))
    server.skip(6)
    assert keep(V5, client.client_id).payloads() == [b"long", b"for ever"]
    late = connect(V5)
    late.subscribe(f"{topic}/r")
    assert late.fenced() == []


def test_the_expiry_told_is_what_is_left(server: Any, connect: Any, keep: Any, topic: str) -> None:
    live, away = connect(V5), keep(V5)
    for client in (live, away):
        client.subscribe(topic)
    away.close()
    server.noticed_leaving(away.client_id)
    connect(V5).publish(topic, b"x", retain=True, properties=Properties(message_expiry_interval=100))
    assert live.take().properties.message_expiry_interval == 100
    server.skip(40)
    assert keep(V5, away.client_id).take().properties.message_expiry_interval in (59, 60)
    late = connect(V5)
    late.subscribe(topic)
    assert late.take().properties.message_expiry_interval in (59, 60)


# --- order ----------


@BOTH
def test_messages_of_one_topic_and_qos_arrive_in_order(connect: Any, topic: str, version: ProtocolVersion) -> None:
    receiver, sender = connect(version), connect(version)
    receiver.subscribe(topic)
    for qos in (0, 1, 2):
        for number in range(50):
            sender.send(Publish(topic, b"%d" % number, qos, packet_id=number % 5 + 1 if qos else 0))
            if qos:
                assert isinstance(sender.next(), (PubAck, PubRec))
            if qos == 2:
                sender.ask(PubRel(number % 5 + 1))
        sender.fenced()
        assert receiver.payloads() == [b"%d" % number for number in range(50)]


@BOTH
def test_messages_that_waited_arrive_in_order_before_newer_ones(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version)
    client.subscribe(topic)
    sender = connect(V5)
    for number in range(3):
        sender.publish(topic, b"%d" % number, 1)
    assert len(client.fenced()) == 3  # never acknowledged
    client.close()
    server.noticed_leaving(client.client_id)
    for number in range(3, 6):
        sender.publish(topic, b"%d" % number, 1)
    again = keep(version, client.client_id)
    sender.publish(topic, b"6", 1)
    assert again.payloads() == [b"%d" % number for number in range(7)]
