"""Chapters 1 and 2: strings, integers, flags, packet identifiers, property lists; both versions."""

from typing import Any

import pytest

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
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    Unsubscribe,
)

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])

BAD_STRINGS = {
    "surrogate": "eda080",
    "paired surrogates": "eda081edb080",
    "overlong": "c0af",
    "stray continuation": "80",
    "cut short": "e282",
    "beyond U+10FFFF": "f4908080",
}


def publish(version: ProtocolVersion, topic_hex: str) -> str:
    raw = bytes.fromhex(topic_hex)
    body = len(raw).to_bytes(2, "big") + raw + (b"\0" if version is V5 else b"")
    return (bytes((0x30, len(body))) + body).hex()


@BOTH
@pytest.mark.parametrize("octets", BAD_STRINGS.values(), ids=BAD_STRINGS)
def test_ill_formed_utf8_in_a_topic_closes(connect: Any, version: ProtocolVersion, octets: str) -> None:
    client = connect(version)
    client.octets(publish(version, octets))
    assert client.is_refused()


@BOTH
def test_u0000_in_a_topic_closes(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    client.octets(publish(version, "610062"))
    assert client.is_refused()


CONNECTS_WITH_BAD_STRINGS = {
    "client id, surrogate": "0004 4d515454 04 02 0000 0003 eda080",
    "client id, U+0000": "0004 4d515454 04 02 0000 0003 610062",
    "will topic": "0004 4d515454 04 06 0000 0001 61 0003 eda080 0001 78",
    "user name": "0004 4d515454 04 c2 0000 0001 61 0001 ff 0001 78",
    "user name, U+0000": "0004 4d515454 04 c2 0000 0001 61 0001 00 0001 78",
}


@pytest.mark.parametrize("octets", CONNECTS_WITH_BAD_STRINGS.values(), ids=CONNECTS_WITH_BAD_STRINGS)
def test_bad_strings_in_connect_close_without_connack(dial: Any, octets: str) -> None:
    client = dial(V311)
    body = bytes.fromhex(octets)
    client.octets(bytes((0x10, len(body))) + body)
    assert client.until_closed() == []


BAD_STRINGS_IN_SUBSCRIPTIONS = {
    "SUBSCRIBE": ("82 06 0001 0001 ff 00", "82 07 0001 00 0001 ff 00"),
    "SUBSCRIBE U+0000": ("82 06 0001 0001 00 00", "82 07 0001 00 0001 00 00"),
    "UNSUBSCRIBE": ("a2 05 0001 0001 ff", "a2 06 0001 00 0001 ff"),
    "UNSUBSCRIBE U+0000": ("a2 05 0001 0001 00", "a2 06 0001 00 0001 00"),
}


@BOTH
@pytest.mark.parametrize("octets", BAD_STRINGS_IN_SUBSCRIPTIONS.values(), ids=BAD_STRINGS_IN_SUBSCRIPTIONS)
def test_bad_strings_in_filters_close(connect: Any, version: ProtocolVersion, octets: tuple[str, str]) -> None:
    client = connect(version)
    client.octets(octets[version is V5])
    assert client.is_refused()


BAD_STRINGS_IN_PROPERTIES = {
    "user property name": "30 0b 0001 74 07 26 0001 ff 0001 61",
    "user property value": "30 0b 0001 74 07 26 0001 61 0001 ff",
    "user property value, U+0000": "30 0b 0001 74 07 26 0001 61 0001 00",
    "content type": "30 08 0001 74 04 03 0001 ff",
    "response topic": "30 08 0001 74 04 08 0001 ff",
}


@pytest.mark.parametrize("octets", BAD_STRINGS_IN_PROPERTIES.values(), ids=BAD_STRINGS_IN_PROPERTIES)
def test_bad_strings_in_properties_close(connect: Any, octets: str) -> None:
    client = connect(V5)
    client.octets(octets)
    assert client.is_refused()


@BOTH
def test_zero_width_no_break_space_is_kept(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    name = f"\ufeff{topic}/\ufeff"
    client.subscribe(name)
    client.send(Publish(name, b"x"))
    [received] = client.fenced()
    assert received.topic == name
    other = connect(version)
    other.subscribe(topic + "/#", f"{topic}/\ufeff")
    assert other.fenced() == []
    client.send(Publish(name, b"x"))
    client.fenced()
    assert other.fenced() == []


def test_a_user_property_may_be_any_two_valid_strings(connect: Any, topic: str) -> None:
    client = connect(V5)
    client.subscribe(topic)
    pairs = (("\ufeffname", "wörth\U0001f600"), ("", ""))
    client.send(Publish(topic, properties=Properties(user_properties=pairs)))
    assert client.fenced()[0].properties.user_properties == pairs


def test_a_padded_variable_byte_integer_closes(connect: Any) -> None:
    for octets in ("30 05 0001 74 8000", "30 08 0001 74 04 0b 8500 00", "c0 8000"):
        client = connect(V5)
        client.octets(octets)
        assert client.is_refused(), octets


def test_a_padded_remaining_length_is_read_in_3_1_1(connect: Any) -> None:
    """3.1.1 does not ask for the shortest form."""
    client = connect(V311)
    client.octets("c0 8000 c0 808000")
    assert (client.next(), client.next()) == (PingResp(), PingResp())


def test_integers_are_written_in_their_shortest_form(connect: Any, topic: str) -> None:
    """127/128 and 16,383/16,384 octets of remaining length, 127 and 128 as property values."""
    client = connect(V5)
    for identifier in (127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455):
        client.subscribe(topic, properties=Properties(subscription_identifiers=(identifier,)))
        client.octets_read = b""
        client.send(Publish(topic, b"x"))
        [received] = client.fenced()
        assert received.properties.subscription_identifiers == (identifier,)
    for length in (100, 128, 16_300, 16_500, 300_000):
        client.send(Publish(topic, bytes(length)))
        assert len(client.fenced()[0].payload) == length  # our own decoder refuses padded integers


FLAGS = {
    "PUBACK": "41 02 0001",
    "PUBREC": "51 02 0001",
    "PUBREL 0": "60 02 0001",
    "PUBREL 3": "63 02 0001",
    "PUBCOMP": "72 02 0001",
    "PINGREQ": "c8 00",
    "DISCONNECT": "e1 00",
}


@BOTH
@pytest.mark.parametrize("octets", FLAGS.values(), ids=FLAGS)
def test_reserved_header_flags_close(connect: Any, version: ProtocolVersion, octets: str) -> None:
    client = connect(version)
    client.octets(octets)
    assert client.is_refused()


SUBSCRIPTION_FLAGS = {
    "SUBSCRIBE 0": (0x80, "06 0001 0001 61 00", "07 0001 00 0001 61 00"),
    "SUBSCRIBE 6": (0x86, "06 0001 0001 61 00", "07 0001 00 0001 61 00"),
    "SUBSCRIBE 10": (0x8A, "06 0001 0001 61 00", "07 0001 00 0001 61 00"),
    "UNSUBSCRIBE 0": (0xA0, "05 0001 0001 61", "06 0001 00 0001 61"),
    "UNSUBSCRIBE 3": (0xA3, "05 0001 0001 61", "06 0001 00 0001 61"),
}


@BOTH
@pytest.mark.parametrize("packet", SUBSCRIPTION_FLAGS.values(), ids=SUBSCRIPTION_FLAGS)
def test_wrong_flags_of_subscribe_and_unsubscribe_close(
    connect: Any, version: ProtocolVersion, packet: tuple[int, str, str]
) -> None:
    client = connect(version)
    client.octets(bytes((packet[0],)) + bytes.fromhex(packet[2 if version is V5 else 1]))
    assert client.is_refused()


ZERO_IDENTIFIERS = {
    "PUBLISH QoS 1": ("32 05 0001 74 0000", "32 06 0001 74 0000 00"),
    "PUBLISH QoS 2": ("34 05 0001 74 0000", "34 06 0001 74 0000 00"),
    "SUBSCRIBE": ("82 06 0000 0001 61 00", "82 07 0000 00 0001 61 00"),
    "UNSUBSCRIBE": ("a2 05 0000 0001 61", "a2 06 0000 00 0001 61"),
}


@BOTH
@pytest.mark.parametrize("octets", ZERO_IDENTIFIERS.values(), ids=ZERO_IDENTIFIERS)
def test_packet_identifier_zero_closes(connect: Any, version: ProtocolVersion, octets: tuple[str, str]) -> None:
    client = connect(version)
    client.octets(octets[version is V5])
    assert client.is_refused()


@BOTH
def test_a_qos_0_message_carries_no_packet_identifier(connect: Any, topic: str, version: ProtocolVersion) -> None:
    """Seen in the octets: behind the topic (and the empty property list) comes the payload."""
    client = connect(version)
    client.subscribe(topic, qos=0)
    for qos in (0, 1):
        client.octets_read = b""
        client.send(Publish(topic, b"PAYLOAD", qos, packet_id=9 if qos else 0))
        [received] = [packet for packet in client.fenced() if isinstance(packet, Publish)]
        assert (received.qos, received.packet_id, received.payload) == (0, 0, b"PAYLOAD")
        empty_list = b"\0" if version is V5 else b""
        assert topic.encode() + empty_list + b"PAYLOAD" in client.octets_read


@BOTH
def test_every_message_in_flight_has_its_own_nonzero_identifier(
    connect: Any, topic: str, version: ProtocolVersion
) -> None:
    sender, receiver = connect(version), connect(version)
    receiver.subscribe(topic, qos=2)
    for number in range(20):
        sender.publish(topic, b"%d" % number, qos=1 + number % 2)
    received = receiver.fenced()
    identifiers = [packet.packet_id for packet in received]
    assert len(set(identifiers)) == 20 and 0 not in identifiers
    receiver.send(PubAck(received[0].packet_id))
    sender.publish(topic, b"more")
    assert receiver.fenced()[0].packet_id not in identifiers[1:]


@BOTH
def test_answers_carry_the_identifier_of_what_they_answer(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    for packet_id in (1, 7, 0x100, 0xFFFF):
        items = (TopicSubscription(topic, 0),)
        assert client.ask(Subscribe(packet_id, items)) == SubAck(packet_id, (0,))
        codes = (0,) if version is V5 else ()
        assert client.ask(Unsubscribe(packet_id, (topic,))) == UnsubAck(packet_id, codes)
        nobody = 0x10 if version is V5 else 0
        assert client.ask(Publish(topic, b"", 1, packet_id=packet_id)) == PubAck(packet_id, nobody)
        assert client.ask(Publish(topic, b"", 2, packet_id=packet_id)) == PubRec(packet_id, nobody)
        assert client.ask(PubRel(packet_id)) == PubComp(packet_id)


def test_an_empty_property_list_is_one_zero_octet(dial: Any, connect: Any, topic: str) -> None:
    """In what we send (SUBACK, UNSUBACK, PUBLISH of MQTT 5), and not leaving it out is demanded of clients."""
    client = connect(V5)
    client.octets_read = b""
    client.subscribe(topic, qos=0)
    assert client.octets_read == bytes.fromhex("90 04 0001 00 00")
    client.send(Publish(topic, b"x"))
    client.fenced()
    assert topic.encode() + b"\0x" in client.octets_read
    client.octets("82 06 0002 0001 61 00")  # 3.1.1's layout: read as a property list of length 0, then a cut filter
    assert client.is_refused()


@BOTH
def test_all_octets_of_a_packet_may_come_one_by_one(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    for octet in b"\xc0\x00\xc0\x00":
        client.octets(bytes((octet,)))
    assert (client.next(), client.next()) == (PingResp(), PingResp())


@BOTH
def test_a_remaining_length_of_five_octets_closes(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    client.octets("30 ffffffff7f")
    assert client.is_refused()


def test_extensions_are_not_needed(connect: Any, topic: str) -> None:
    """A client without any property, user property or role name in its packets does everything."""
    client = connect(V5)
    assert client.subscribe(topic) == (2,)
    client.send(Publish(topic, b"x"))
    assert client.take() == Publish(topic, b"x")
    assert client.ask(PingReq()) == PingResp()
    client.send(Disconnect())
    assert client.until_closed() == []


def test_a_connection_is_an_ordered_lossless_stream(connect: Any, topic: str) -> None:
    """TCP: 200 packets in one segment come out whole and in order."""
    client = connect(V311)
    client.subscribe(topic, qos=0)
    client.send(*(Publish(topic, b"%d" % number) for number in range(200)))
    assert [packet.payload for packet in client.fenced()] == [b"%d" % number for number in range(200)]
