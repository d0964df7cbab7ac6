"""Octets that the standard forbids, each with its clause and the MQTT 5 reason code of the refusal."""

import contextlib

import pytest

from meshwire.mqtt import (
    Connect,
    Packet,
    PacketError,
    PacketStream,
    PingReq,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    ReasonCode,
    Side,
    Subscribe,
    TopicSubscription,
    Will,
    encode,
)

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
MALFORMED, PROTOCOL = ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR
S, C = Side.SERVER, Side.CLIENT

REFUSED = [
    ("remaining length of five octets, 1.5.5", V311, S, "30 ffffffff7f", MALFORMED),
    ("remaining length not in its shortest form, [MQTT-1.5.5-1]", V5, S, "c0 8000", MALFORMED),
    ("packet type 0 is reserved, table 2-1", V311, S, "00 00", PROTOCOL),
    ("packet type 15 in 3.1.1, table 2.1", V311, S, "f0 00", PROTOCOL),
    ("reserved flags of PINGREQ, [MQTT-2.1.3-1]", V311, S, "c1 00", MALFORMED),
    ("SUBSCRIBE with flags 0, [MQTT-3.8.1-1]", V311, S, "80 06 0001 0001 61 00", MALFORMED),
    ("PUBREL with flags 0, [MQTT-3.6.1-1]", V311, S, "60 02 0001", MALFORMED),
    ("DUP on SUBSCRIBE was MQTT 3.1", V311, S, "8a 06 0001 0001 61 00", MALFORMED),
    ("PINGREQ with a body", V311, S, "c0 01 00", MALFORMED),
    ("DISCONNECT with a body in 3.1.1", V311, S, "e0 01 00", MALFORMED),
    ("CONNACK from a client", V311, S, "20 02 00 00", PROTOCOL),
    ("CONNECT from a server", V311, C, "10 0d 0004 4d515454 04 02 0000 0001 61", PROTOCOL),
    ("SUBSCRIBE from a server", V311, C, "82 06 0001 0001 61 00", PROTOCOL),
    ("DISCONNECT from a 3.1.1 server", V311, C, "e0 00", PROTOCOL),
    # CONNECT
    ("protocol level 6", V311, S, "10 0d 0004 4d515454 06 02 0000 0001 61", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION),
    ("another protocol", V311, S, "10 0d 0004 48545450 04 02 0000 0001 61", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION),
    ("reserved connect flag, [MQTT-3.1.2-3]", V311, S, "10 0d 0004 4d515454 04 03 0000 0001 61", MALFORMED),
    ("will QoS without will, [MQTT-3.1.2-11]", V311, S, "10 0d 0004 4d515454 04 0a 0000 0001 61", MALFORMED),
    ("will retain without will, [MQTT-3.1.2-13]", V311, S, "10 0d 0004 4d515454 04 22 0000 0001 61", MALFORMED),
    ("will QoS 3, [MQTT-3.1.2-12]", V311, S, "10 13 0004 4d515454 04 1e 0000 0001 61 0001 74 0001 78", MALFORMED),
    ("will topic with wildcard", V311, S, "10 13 0004 4d515454 04 06 0000 0001 61 0001 23 0001 78", MALFORMED),
    ("password without user name, 3.1.1 [MQTT-3.1.2-22]", V311, S, "10 0f 0004 4d515454 04 42 0000 0001 61 0000",
    MALFORMED),
    ("truncated CONNECT", V311, S, "10 04 0004 4d51", MALFORMED),
    ("octets behind the last field", V311, S, "10 0e 0004 4d515454 04 02 0000 0001 61 00", MALFORMED),
    ("authentication data without method, 3.1.2.11.10", V5, S, "10 11 0004 4d515454 05 02 0000 03 160000 0001 61",
     PROTOCOL),
    ("receive maximum 0, 3.1.2.11.3", V5, S, "10 11 0004 4d515454 05 02 0000 03 210000 0001 61", PROTOCOL),
    ("maximum packet size 0, 3.1.2.11.4", V5, S, "10 13 0004 4d515454 05 02 0000 05 2700000000 0001 61", PROTOCOL),
    ("request problem information 2", V5, S, "10 10 0004 4d515454 05 02 0000 02 1702 0001 61", PROTOCOL),
    ("client id with U+0000, [MQTT-1.5.4-2]", V311, S, "10 0d 0004 4d515454 04 02 0000 0001 00", MALFORMED),
    # PUBLISH
    ("QoS 3, [MQTT-3.3.1-4]", V311, S, "36 05 0001 74 0001", MALFORMED),
    ("DUP at QoS 0, [MQTT-3.3.1-2]", V311, S, "38 03 0001 74", MALFORMED),
    ("packet identifier 0, [MQTT-2.2.1-3]", V311, S, "32 05 0001 74 0000", MALFORMED),
    ("no packet identifier", V311, S, "32 03 0001 74", MALFORMED),
    ("half a packet identifier", V311, S, "32 04 0001 74 00", MALFORMED),
    ("topic longer than the packet", V311, S, "30 03 0005 74", MALFORMED),
    ("no room for the topic's length", V311, S, "30 01 00", MALFORMED),
    ("empty topic, [MQTT-4.7.3-1]", V311, S, "30 02 0000", MALFORMED),
    ("topic with +, [MQTT-3.3.2-2]", V311, S, "30 05 0003 612f2b", MALFORMED),
    ("topic with #, [MQTT-3.3.2-2]", V311, S, "30 05 0003 612f23", MALFORMED),
    ("topic with U+0000, [MQTT-1.5.4-2]", V311, S, "30 05 0003 610062", MALFORMED),
    ("topic of no UTF-8", V311, S, "30 03 0001 ff", MALFORMED),
    ("topic with a surrogate, [MQTT-1.5.4-1]", V311, S, "30 05 0003 eda080", MALFORMED),
    ("topic in overlong form", V311, S, "30 04 0002 c0af", MALFORMED),
    ("empty topic without alias, 3.3.2.1", V5, S, "30 03 0000 00", PROTOCOL),
    ("topic alias 0, [MQTT-3.3.2-8]", V5, S, "30 06 0000 03 230000", ReasonCode.TOPIC_ALIAS_INVALID),
    ("subscription identifier from a client, [MQTT-3.3.4-6]", V5, S, "30 06 0001 74 02 0b05", PROTOCOL),
    ("subscription identifier 0, 3.3.2.3.8", V5, C, "30 06 0001 74 02 0b00", PROTOCOL),
    ("property that stands twice, 3.3.2.3.2", V5, S, "30 08 0001 74 04 01010101", PROTOCOL),
    ("payload format 2", V5, S, "30 06 0001 74 02 0102", PROTOCOL),
    ("response topic with wildcard, [MQTT-3.3.2-14]", V5, S, "30 08 0001 74 04 08000123", MALFORMED),
    ("unknown property, 2.2.2.2", V5, S, "30 06 0001 74 02 0400", MALFORMED),
    ("property of CONNECT in PUBLISH, table 2-4", V5, S, "30 07 0001 74 03 210001", PROTOCOL),
    ("property list longer than the packet", V5, S, "30 04 0001 74 09", MALFORMED),
    ("property value cut by the end of its list", V5, S, "30 06 0001 74 01 02 00", MALFORMED),
    # acknowledgements
    ("PUBACK of identifier 0", V311, S, "40 02 0000", MALFORMED),
    ("PUBACK of three octets in 3.1.1", V311, S, "40 03 0001 00", MALFORMED),
    ("PUBACK with an unknown reason", V5, S, "40 03 0001 55", PROTOCOL),
    ("PUBREL with a reason of PUBACK", V5, S, "62 03 0001 10", PROTOCOL),
    # SUBSCRIBE, UNSUBSCRIBE and their answers
    ("no filter, [MQTT-3.8.3-2]", V311, S, "82 02 0001", PROTOCOL),
    ("QoS 3, [MQTT-3.8.3-4] of 3.1.1", V311, S, "82 06 0001 0001 61 03", MALFORMED),
    ("reserved bits in 3.1.1", V311, S, "82 06 0001 0001 61 04", MALFORMED),
    ("reserved bits, [MQTT-3.8.3-5]", V5, S, "82 07 0001 00 0001 61 40", MALFORMED),
    ("retain handling 3", V5, S, "82 07 0001 00 0001 61 30", PROTOCOL),
    ("filter a/#/b, [MQTT-4.7.1-1]", V311, S, "82 0a 0001 0005 612f232f62 00", MALFORMED),
    ("filter a+, [MQTT-4.7.1-2]", V311, S, "82 07 0001 0002 612b 00", MALFORMED),
    ("filter a#", V311, S, "82 07 0001 0002 6123 00", MALFORMED),
    ("empty filter, [MQTT-4.7.3-1]", V311, S, "82 05 0001 0000 00", MALFORMED),
    ("filter without options", V311, S, "82 05 0001 0001 61", MALFORMED),
    ("$share without filter, [MQTT-4.8.2-1]", V311, S, "82 0d 0001 0008" + b"$share/g".hex() + "00", MALFORMED),
    ("$share with empty name", V311, S, "82 0e 0001 0009" + b"$share//a".hex() + "00", MALFORMED),
    ("$share with wildcard in its name, [MQTT-4.8.2-2]", V311, S, "82 0f 0001 000a" + b"$share/+/a".hex() + "00",
    MALFORMED),
    ("no local on $share, [MQTT-3.8.3-4]", V5, S, "82 10 0001 00 000a" + b"$share/g/a".hex() + "04", PROTOCOL),
    ("two subscription identifiers, 3.8.2.1.2", V5, S, "82 0b 0001 04 0b010b02 0001 61 00", PROTOCOL),
    ("UNSUBSCRIBE without filter, [MQTT-3.10.3-2]", V311, S, "a2 02 0001", PROTOCOL),
    ("SUBACK of 3.1.1 with 0x87, [MQTT-3.9.3-2]", V311, C, "90 03 0001 87", MALFORMED),
    ("SUBACK without code", V311, C, "90 02 0001", PROTOCOL),
    ("CONNACK with reserved flags, [MQTT-3.2.2-1]", V311, C, "20 02 02 00", MALFORMED),
    ("CONNACK with return code 6", V311, C, "20 02 00 06", MALFORMED),
    ("DISCONNECT with an unknown reason", V5, S, "e0 01 01", PROTOCOL),
    ("AUTH with an unknown reason", V5, S, "f0 01 01", PROTOCOL),
]  # fmt: skip


def read(raw: bytes, version: ProtocolVersion, side: Side) -> list[Packet]:
    stream = PacketStream(side, version)
    stream.feed(raw)
    return list(stream.packets())


@pytest.mark.parametrize(("clause", "version", "side", "octets", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_forbidden_octets_are_refused_with_their_reason(
    clause: str, version: ProtocolVersion, side: Side, octets: str, reason: ReasonCode
) -> None:
    with pytest.raises(PacketError) as caught:
        read(bytes.fromhex(octets), version, side)
    assert caught.value.reason is reason, clause


def test_packets_in_front_of_a_fault_are_given_out_first() -> None:
    stream = PacketStream(Side.SERVER)
    stream.feed(bytes.fromhex("40020001 40020002 40020000"))
    packets = stream.packets()
    assert [next(packets), next(packets)] == [PubAck(1), PubAck(2)]
    with pytest.raises(PacketError):
        next(packets)


def test_a_too_long_packet_is_refused_at_its_header() -> None:
    stream = PacketStream(Side.SERVER, max_packet_octets=1_000)
    stream.feed(bytes.fromhex("30 ffffff7f"))
    with pytest.raises(PacketError) as caught:
        list(stream.packets())
    assert caught.value.reason is ReasonCode.PACKET_TOO_LARGE
    assert stream.buffered_octets <= 5


def test_a_padded_remaining_length_is_read_in_3_1_1() -> None:
    assert read(bytes.fromhex("c0 8000 c0 808000"), V311, S) == [PingReq(), PingReq()]


def test_the_limit_counts_the_whole_packet() -> None:
    raw = encode(Publish("t", b"x" * 100), V311)
    for limit, allowed in ((len(raw), True), (len(raw) - 1, False)):
        stream = PacketStream(Side.SERVER, max_packet_octets=limit)
        stream.feed(raw)
        if allowed:
            assert len(list(stream.packets())) == 1
        else:
            with pytest.raises(PacketError):
                list(stream.packets())


def test_a_discarded_stream_holds_nothing() -> None:
    for octets in (b"\x10\xff\xff\xff\x7f" + bytes(100), b"\x30\x7f" + bytes(50), b"\xc0\x00\xc0"):
        stream = PacketStream(S, V311, max_packet_octets=1_000)
        stream.feed(octets)
        with contextlib.suppress(PacketError):
            next(stream.packets(), None)
        assert stream.buffered_octets
        stream.discard()
        assert stream.buffered_octets == 0
        assert list(stream.packets()) == []


def test_packets_may_be_left_and_taken_up_again() -> None:
    stream = PacketStream(Side.SERVER)
    stream.feed(bytes.fromhex("40020001 40020002 4002"))
    for packet in stream.packets():
        assert packet == PubAck(1)
        break
    stream.feed(bytes.fromhex("0003"))
    assert list(stream.packets()) == [PubAck(2), PubAck(3)]


def test_dup_is_allowed_where_mqtt_3_1_had_it() -> None:
    assert read(bytes.fromhex("8a 06 0001 0001 61 00"), V31, Side.SERVER) == [Subscribe(1, (TopicSubscription("a"),))]


@pytest.mark.parametrize(
    "packet",
    [
        Publish("a/+"),
        Publish(""),
        Publish("a\0b"),
        Publish("a\ud800"),
        Publish("a" * 65_536),
        Publish("a", qos=1),
        Publish("a", dup=True),
        PubAck(0),
        PubAck(65_536),
        Subscribe(1, ()),
        Subscribe(1, (TopicSubscription("a/#/b"),)),
        Connect("c", password=b"p"),
        Connect("c", will=Will("#")),
        Connect("c", V5, properties=Properties(topic_alias=1)),
        Connect("c", V5, is_bridge=True),
        Publish("a", properties=Properties(topic_alias=70_000)),
    ],
    ids=str,
)
def test_what_no_peer_may_accept_is_not_written(packet: Packet) -> None:
    with pytest.raises(PacketError):
        encode(packet, V5 if packet.properties != Properties() else V311)  # type: ignore[union-attr]
