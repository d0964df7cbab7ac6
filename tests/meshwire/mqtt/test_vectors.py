"""Packets as octets, each with its source clause: read whole, octet by octet, with trailing data, and written back."""

from dataclasses import dataclass

import pytest

from meshwire.mqtt import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketStream,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    Unsubscribe,
    Will,
    encode,
)

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
SERVER, CLIENT = Side.SERVER, Side.CLIENT


@dataclass(frozen=True)
class Vector:
    """`side` is who receives the octets."""

    source: str
    octets: str
    packet: Packet
    version: ProtocolVersion = V311
    side: Side = SERVER


VECTORS = [
    Vector(
        "dialect E.2: CONNECT of the vendor's client, a token in the password field",
        "10 3a 0004 4d515454 04 c2 0003 0020"
        + b"mqtt-client-0123456789abcdefghij".hex()
        + "0007 6e6f7475736564 0003 4a5754",
        Connect("mqtt-client-0123456789abcdefghij", V311, True, 3, None, "notused", b"JWT"),
    ),
    Vector(
        "3.1.1 section 3.1.3: user name, password, will at QoS 1, clean session, keep-alive 10 s",
        "10 20 0004 4d515454 04 ce 000a 0001 61 0003 772f74 0003 627965 0003 757372 0002 7077",
        Connect("a", V311, True, 10, Will("w/t", b"bye", 1), "usr", b"pw"),
    ),
    Vector(
        "MQTT 3.1 section 3.1: protocol name MQIsdp, level 3 (fall-back of the Paho Java client)",
        "10 10 0006 4d5149736470 03 02 003c 0002 6964",
        Connect("id", V31, True, 60),
    ),
    Vector(
        "mosquitto.conf try_private: a bridge marks the level of 3.1.1",
        "10 0f 0004 4d515454 84 02 003c 0003 6c2e62",
        Connect("l.b", V311, True, 60, is_bridge=True),
    ),
    Vector(
        "mosquitto.conf try_private: a bridge marks the level of 3.1",
        "10 10 0006 4d5149736470 83 02 003c 0002 6964",
        Connect("id", V31, True, 60, is_bridge=True),
    ),
    Vector(
        "5.0 figure 3-6: clean start, keep-alive 10 s, session expiry interval 10 s",
        "10 13 0004 4d515454 05 02 000a 05 11 0000000a 0001 63",
        Connect("c", V5, True, 10, properties=Properties(session_expiry_interval=10)),
    ),
    Vector(
        "5.0 section 3.1.3.2: will properties; password without user name is allowed ([MQTT-3.1.2-22] is 3.1.1 only)",
        "10 1e 0004 4d515454 05 64 0000 00 0001 63 05 18 00000005 0001 74 0001 78 0002 7077",
        Connect("c", V5, False, 0, Will("t", b"x", 0, True, Properties(will_delay_interval=5)), None, b"pw"),
    ),
    Vector("3.1.1 section 3.2: accepted, session present", "20 02 01 00", ConnAck(True, 0), V311, CLIENT),
    Vector("3.1.1 table 3.1: not authorized", "20 02 00 05", ConnAck(False, 5), V311, CLIENT),
    Vector(
        "5.0 section 3.2: receive maximum 100, assigned client identifier",
        "20 0a 00 00 07 12 0001 6a 21 0064",
        ConnAck(False, 0, Properties(assigned_client_identifier="j", receive_maximum=100)),
        V5,
        CLIENT,
    ),
    Vector(
        "3.1.1 figure 3.11: topic a/b, packet identifier 10",
        "32 0b 0003 612f62 000a 01020304",
        Publish("a/b", b"\1\2\3\4", 1, packet_id=10),
    ),
    Vector("3.1.1 section 3.3: QoS 0, retain, no payload", "31 05 0003 612f62", Publish("a/b", b"", 0, True)),
    Vector(
        "3.1.1 section 3.3.1: DUP at QoS 2, retain",
        "3d 08 0003 612f62 0102 ff",
        Publish("a/b", b"\xff", 2, True, True, 0x0102),
    ),
    Vector(
        "5.0 section 3.3.2.3: content type, expiry, response topic, correlation, user properties (twice the same name)",
        "30 28 0001 74 22 0101 02 0000003c 03 0002 6a73 08 0001 72 09 0001 63"
        "26 0001 61 0001 62 26 0001 61 0001 63 7b7d",
        Publish(
            "t",
            b"{}",
            properties=Properties(
                payload_format_indicator=1,
                message_expiry_interval=60,
                content_type="js",
                response_topic="r",
                correlation_data=b"c",
                user_properties=(("a", "b"), ("a", "c")),
            ),
        ),
        V5,
    ),
    Vector(
        "5.0 section 3.3.2.3.4: an alias stands for the topic",
        "30 07 0000 03 23 0005 78",
        Publish("", b"x", properties=Properties(topic_alias=5)),
        V5,
    ),
    Vector(
        "5.0 section 3.3.2.3.8: two subscription identifiers, one of two octets",
        "30 0a 0001 74 05 0b 05 0b 8001 78",
        Publish("t", b"x", properties=Properties(subscription_identifiers=(5, 128))),
        V5,
        CLIENT,
    ),
    Vector("3.1.1 section 3.4", "40 02 00 0a", PubAck(10)),
    Vector("3.1.1 section 3.5", "50 02 00 0a", PubRec(10)),
    Vector("3.1.1 section 3.6: flags 0010", "62 02 00 0a", PubRel(10)),
    Vector("3.1.1 section 3.7", "70 02 00 0a", PubComp(10)),
    Vector("5.0 section 3.4.2: not authorized, no properties", "40 04 000a 87 00", PubAck(10, 0x87), V5, CLIENT),
    Vector(
        "5.0 section 3.5.2: reason string",
        "50 09 000a 97 05 1f 0002 6e6f",
        PubRec(10, 0x97, Properties(reason_string="no")),
        V5,
        CLIENT,
    ),
    Vector("5.0 section 3.6.2: packet identifier not found", "62 04 000a 92 00", PubRel(10, 0x92), V5),
    Vector(
        "3.1.1 figure 3.23: a/b at QoS 1, c/d at QoS 2",
        "82 0e 000a 0003 612f62 01 0003 632f64 02",
        Subscribe(10, (TopicSubscription("a/b", 1), TopicSubscription("c/d", 2))),
    ),
    Vector(
        "5.0 section 3.8: all options, subscription identifier 7",
        "82 0b 000a 02 0b 07 0003 612f23 2d",
        Subscribe(10, (TopicSubscription("a/#", 1, True, True, 2),), Properties(subscription_identifiers=(7,))),
        V5,
    ),
    Vector("3.1.1 section 3.9: granted 1, failure", "90 04 000a 01 80", SubAck(10, (1, 0x80)), V311, CLIENT),
    Vector("5.0 section 3.9: granted 2, not authorized", "90 05 000a 00 02 87", SubAck(10, (2, 0x87)), V5, CLIENT),
    Vector("3.1.1 figure 3.28", "a2 0c 000a 0003 612f62 0003 632f64", Unsubscribe(10, ("a/b", "c/d"))),
    Vector("5.0 section 3.10", "a2 08 000a 00 0003 612f62", Unsubscribe(10, ("a/b",)), V5),
    Vector("3.1.1 section 3.11", "b0 02 000a", UnsubAck(10), V311, CLIENT),
    Vector("5.0 section 3.11: none existed", "b0 04 000a 00 11", UnsubAck(10, (0x11,)), V5, CLIENT),
    Vector("3.1.1 section 3.12", "c0 00", PingReq()),
    Vector("3.1.1 section 3.13", "d0 00", PingResp(), V311, CLIENT),
    Vector("3.1.1 section 3.14", "e0 00", Disconnect()),
    Vector("5.0 section 3.14.2.1: remaining length 0 means normal", "e0 00", Disconnect(), V5),
    Vector("5.0 section 3.14: session taken over", "e0 02 8e 00", Disconnect(0x8E), V5, CLIENT),
    Vector(
        "5.0 section 3.15: continue, method and data",
        "f0 0a 18 08 15 0001 6d 16 0001 64",
        Auth(0x18, Properties(authentication_method="m", authentication_data=b"d")),
        V5,
    ),
]

SENTINEL = b"\xc0\x00"


def stream(vector: Vector) -> PacketStream:
    return PacketStream(vector.side, vector.version)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.source)
def test_vector_is_read_whole_by_octet_and_with_trailing_octets(vector: Vector) -> None:
    raw = bytes.fromhex(vector.octets)

    whole = stream(vector)
    whole.feed(raw)
    assert list(whole.packets()) == [vector.packet]
    assert whole.buffered_octets == 0

    single = stream(vector)
    seen: list[Packet] = []
    for octet in raw:
        assert seen == []
        single.feed(bytes((octet,)))
        seen.extend(single.packets())
    assert seen == [vector.packet]

    trailing = stream(vector)
    trailing.feed(raw + raw + raw[:1])
    assert list(trailing.packets()) == [vector.packet] * 2
    assert trailing.buffered_octets == 1


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.source)
def test_vector_is_written_as_it_was_read(vector: Vector) -> None:
    assert encode(vector.packet, vector.version).hex(" ") == bytes.fromhex(vector.octets).hex(" ")
