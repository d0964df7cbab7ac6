"""Towards the client: QoS 1 and 2 handshakes, redelivery, windows, sizes, DISCONNECT and PINGREQ (chapter 4, 3.4 to
3.7, 3.12, 3.14).
"""

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
    SubAck,
    Subscribe,
    TopicSubscription,
    encode,
)

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
LIMITS = Limits(max_packet_octets=4_096)


# --- QoS 1 and 2 ----------


@BOTH
def test_a_qos_1_message_is_unacknowledged_until_puback(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version)
    client.subscribe(topic)
    connect(V5).publish(topic, b"x", 1)
    [first] = client.fenced()
    assert (first.qos, first.dup) == (1, False) and first.packet_id
    for _ in range(2):  # as often as it takes
        client.close()
        server.noticed_leaving(client.client_id)
        client = keep(version, client.client_id)
        [resent] = client.fenced()
        assert (resent.packet_id, resent.dup) == (first.packet_id, True)
    client.send(PubAck(first.packet_id))
    client.fenced()
    client.close()
    assert keep(version, client.client_id).fenced() == []


@BOTH
def test_a_qos_2_message_is_unacknowledged_until_pubrec_and_its_release_until_pubcomp(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version)
    client.subscribe(topic)
    connect(V5).publish(topic, b"x", 2)
    [first] = client.fenced()
    assert (first.qos, first.dup) == (2, False)

    def come_back() -> Any:
        client.close()
        server.noticed_leaving(client.client_id)
        return keep(version, client.client_id)

    client = come_back()
    [resent] = client.fenced()
    assert (resent.packet_id, resent.dup) == (first.packet_id, True)
    assert client.ask(PubRec(first.packet_id)) == PubRel(first.packet_id)
    for _ in range(2):
        client = come_back()
        assert client.fenced() == [PubRel(first.packet_id)]  # never the PUBLISH again
    client.send(PubComp(first.packet_id))
    client.fenced()
    client = come_back()
    assert client.fenced() == []


@BOTH
def test_nothing_is_sent_again_on_a_connection_that_stands(
    server: Any, connect: Any, topic: str, version: ProtocolVersion
) -> None:
    client = connect(version)
    client.subscribe(topic)
    sender = connect(V5)
    sender.publish(topic, b"1", 1)
    sender.publish(topic, b"2", 2)
    assert len(client.fenced()) == 2
    server.skip(3_600)
    assert client.fenced() == []


@BOTH
def test_releases_are_sent_again_in_their_order(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client, sender = keep(version), connect(V5)
    client.subscribe(topic)
    for number in range(4):
        sender.publish(topic, b"%d" % number, 2)
    identifiers = [packet.packet_id for packet in client.fenced()]
    for packet_id in identifiers[:2]:
        assert client.ask(PubRec(packet_id)) == PubRel(packet_id)
    client.close()
    server.noticed_leaving(client.client_id)
    resent = keep(version, client.client_id).fenced()
    releases = [packet.packet_id for packet in resent if isinstance(packet, PubRel)]
    messages = [packet.packet_id for packet in resent if isinstance(packet, Publish)]
    assert (releases, messages) == (identifiers[:2], identifiers[2:])


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_message_is_done(server: Any, connect: Any, keep: Any, topic: str, qos: int) -> None:
    client = keep(V5)
    client.subscribe(topic)
    connect(V5).publish(topic, b"x", qos)
    [received] = client.fenced()
    client.send((PubAck if qos == 1 else PubRec)(received.packet_id, ReasonCode.QUOTA_EXCEEDED))
    assert client.fenced() == []  # no PUBREL
    client.close()
    server.noticed_leaving(client.client_id)
    assert keep(V5, client.client_id).fenced() == []


@BOTH
def test_a_repeated_pubrec_gets_the_release_again(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    client.subscribe(topic)
    connect(V5).publish(topic, b"x", 2)
    [received] = client.fenced()
    for _ in range(3):
        assert client.ask(PubRec(received.packet_id)) == PubRel(received.packet_id)


def test_identifiers_nobody_knows_are_answered_with_a_reason_of_the_list(connect: Any) -> None:
    client = connect(V5)
    assert client.ask(PubRec(77)) == PubRel(77, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    assert client.ask(PubRel(77)) == PubComp(77, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    client.send(PubAck(77), PubComp(77))
    assert client.fenced() == []


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_state_of_the_subscriber_takes_every_matching_message(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion, qos: int
) -> None:
    """QoS 1 and 2 are kept for who is away; QoS 0 is not, as the standards permit."""
    client = keep(version)
    client.subscribe(topic)
    client.close()
    server.noticed_leaving(client.client_id)
    connect(version).publish(topic, b"x", qos)
    assert keep(version, client.client_id).payloads() == ([b"x"] if qos else [])


# --- windows ----------


@pytest.mark.parametrize("maximum", [1, 3])
def test_no_more_messages_than_the_receive_maximum_are_under_way(connect: Any, topic: str, maximum: int) -> None:
    """Counted from PUBLISH to PUBACK or PUBCOMP; PUBREC alone opens no window."""
    client = connect(V5, properties=Properties(receive_maximum=maximum))
    client.subscribe(topic)
    sender = connect(V5)
    for number in range(9):
        sender.publish(topic, b"%d" % number, 1 + number % 2)
    under_way: dict[int, int] = {}
    got: list[bytes] = []
    while len(got) < 9 or under_way:
        for packet in client.fenced():
            if isinstance(packet, Publish):
                under_way[packet.packet_id] = packet.qos
                got.append(packet.payload)
            else:
                assert isinstance(packet, PubRel)
                client.send(PubComp(packet.packet_id))
                del under_way[packet.packet_id]
        assert len(under_way) <= maximum
        for packet_id, qos in list(under_way.items()):
            client.send(PubAck(packet_id) if qos == 1 else PubRec(packet_id))
            if qos == 1:
                del under_way[packet_id]
    assert got == [b"%d" % number for number in range(9)]


def test_a_full_window_holds_up_messages_alone(connect: Any, topic: str) -> None:
    client = connect(V5, properties=Properties(receive_maximum=1))
    client.subscribe(topic)
    sender = connect(V5)
    sender.publish(topic, b"1", 2)
    sender.publish(topic, b"2", 2)
    [first] = client.fenced()  # PINGRESP came
    assert client.ask(Subscribe(50, (TopicSubscription(f"{topic}/other", 0),))) == SubAck(50, (0,))
    assert client.ask(Publish(f"{topic}/none", b"", 1, packet_id=51)) == PubAck(51, 0x10)
    assert client.ask(PubRec(first.packet_id)) == PubRel(first.packet_id)
    assert client.fenced() == []
    client.send(PubComp(first.packet_id))
    assert [packet.payload for packet in client.fenced()] == [b"2"]


def test_releases_are_not_held_up_by_a_smaller_window_of_the_next_connection(
    server: Any, connect: Any, keep: Any, topic: str
) -> None:
    client, sender = keep(V5), connect(V5)
    client.subscribe(topic)
    for number in range(3):
        sender.publish(topic, b"%d" % number, 2)
    first, _second, third = client.fenced()
    assert client.ask(PubRec(third.packet_id)) == PubRel(third.packet_id)
    client.close()
    server.noticed_leaving(client.client_id)
    again = keep(V5, client.client_id, properties=Properties(receive_maximum=1, session_expiry_interval=300))
    resent = again.fenced()
    assert PubRel(third.packet_id) in resent
    assert len([packet for packet in resent if isinstance(packet, Publish)]) <= 1
    again.send(PubComp(third.packet_id))
    left = [packet for packet in resent if isinstance(packet, Publish)] + [
        packet for packet in again.fenced() if isinstance(packet, Publish)
    ]
    assert [packet.packet_id for packet in left] == [first.packet_id]


# --- sizes ----------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_no_packet_is_longer_than_the_client_takes(connect: Any, topic: str, qos: int) -> None:
    """Exactly fitting messages come, longer ones are as if delivered, and the flow goes on."""
    sender = connect(V5)
    probe = connect(V5)
    probe.subscribe(topic)
    sender.publish(topic, bytes(50), qos)
    probe.octets_read = b""
    probe.take()
    size = len(encode(Publish(topic, bytes(50), qos, packet_id=1 if qos else 0), V5))
    client = connect(V5, properties=Properties(maximum_packet_size=size, receive_maximum=1))
    client.subscribe(topic)
    for length in (51, 50, 300, 49):
        sender.publish(topic, bytes(length), qos)
    assert [len(client.take().payload) for _ in range(2)] == [50, 49]
    assert client.fenced() == []


def test_a_smaller_limit_of_the_next_connection_holds_for_what_is_sent_again(
    server: Any, connect: Any, keep: Any, topic: str
) -> None:
    client, sender = keep(V5), connect(V5)
    client.subscribe(topic)
    sender.publish(topic, bytes(200), 1)
    sender.publish(topic, b"short", 1)
    assert len(client.fenced()) == 2
    client.close()
    server.noticed_leaving(client.client_id)
    again = keep(V5, client.client_id, properties=Properties(maximum_packet_size=100, session_expiry_interval=300))
    assert again.payloads() == [b"short"]


def test_the_client_that_takes_least_gets_its_answers_with_their_reasons(connect: Any, topic: str) -> None:
    """Who does not take our CONNACK is not connected, and no acknowledgement is longer than that."""
    for most in range(5, 40):
        client = connect(V5, user="reader", properties=Properties(maximum_packet_size=most))
        if not client.connack.reason_code:
            break
        assert client.connack.reason_code == ReasonCode.PACKET_TOO_LARGE
    assert len(client.octets_read) == most
    for packet, answer in (
        (Publish(topic, b"x", 1, packet_id=1), PubAck(1, 0x87)),
        (Publish(topic, b"x", 2, packet_id=2), PubRec(2, 0x87)),
        (PubRel(9), PubComp(9, 0x92)),
        (PubRec(9), PubRel(9, 0x92)),
    ):
        client.octets_read = b""
        assert client.ask(packet) == answer
        assert len(client.octets_read) <= most
    assert client.subscribe("ssni/read/a") == (2,)


def test_answers_never_grow_by_reason_strings(connect: Any, topic: str) -> None:
    """PUBACK to UNSUBACK, CONNACK, DISCONNECT: neither Reason String nor User Property, whatever was asked."""
    for wants in (0, 1):
        client = connect(V5, user="reader", properties=Properties(request_problem_information=wants))
        answers = [
            client.ask(Publish(topic, b"x", 1, packet_id=1)),
            client.ask(Publish(topic, b"x", 2, packet_id=2)),
            client.ask(PubRel(9)),
            client.ask(PubRec(9)),
            client.ask(Subscribe(3, (TopicSubscription(topic, 0),))),
        ]
        client.octets("c1 00")
        answers += client.until_closed()
        assert {getattr(answer, "reason_code", 0x80) for answer in answers} <= {0x80, 0x81, 0x87, 0x92}
        assert all(answer.properties.reason_string is None for answer in answers)
        assert all(not answer.properties.user_properties for answer in answers)


def test_a_packet_longer_than_the_server_takes_ends_the_connection(connect: Any, topic: str) -> None:
    client = connect(V5)
    assert client.connack.properties.maximum_packet_size == LIMITS.max_packet_octets
    client.send(Publish(topic, bytes(LIMITS.max_packet_octets)))
    assert client.until_closed() == [Disconnect(ReasonCode.PACKET_TOO_LARGE)]


# --- PINGREQ, DISCONNECT ----------


@BOTH
def test_every_pingreq_is_answered(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    client.send(*[PingReq()] * 3)
    assert [client.next() for _ in range(3)] == [PingResp()] * 3


@BOTH
def test_a_disconnect_closes_and_nothing_follows(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client, sender = connect(version), connect(version)
    client.subscribe(topic)
    client.send(Disconnect())
    assert client.until_closed() == []
    sender.publish(topic, b"x")


@BOTH
def test_what_comes_behind_a_disconnect_is_not_read(connect: Any, topic: str, version: ProtocolVersion) -> None:
    watcher = connect(V5)
    watcher.subscribe(topic)
    client = connect(version)
    client.octets(encode(Disconnect(), version) + encode(Publish(topic, b"x"), version))
    assert client.until_closed() == []
    assert watcher.fenced() == []


def test_a_disconnect_may_change_the_session_expiry(server: Any, connect: Any) -> None:
    client = connect(V5, expiry=600)
    client.send(Disconnect(0, Properties(session_expiry_interval=5)))
    assert client.until_closed() == []
    server.skip(7)
    assert connect(V5, client.client_id, clean=False).connack.session_present is False
    client = connect(V5, expiry=0)
    client.send(Disconnect(0, Properties(session_expiry_interval=5)))
    assert client.until_closed() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]  # section 3.14.2.2.2


def test_disconnects_of_the_server_have_a_reason_of_the_list_and_no_expiry(connect: Any) -> None:
    allowed = {0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)}
    for octets in ("c1 00", "00 00", "10 00", "30 03 0000 00", "36 03 0001 74", "30 ffffff7f", "82 02 0000"):
        client = connect(V5, expiry=60)
        client.octets(octets)
        [said] = client.until_closed()
        assert isinstance(said, Disconnect) and said.reason_code in allowed and said.reason_code >= 0x80
        assert said.properties.session_expiry_interval is None


@pytest.mark.parametrize("octets", ["c1 00", "00 00", "f0 00", "20 02 00 00", "90 03 0001 00", "b0 02 0001", "d0 00"])
def test_a_3_1_1_client_that_breaks_the_protocol_is_closed_without_a_word(connect: Any, octets: str) -> None:
    client = connect(V311)
    client.octets(octets)
    assert client.until_closed() == []


REASONS = {"PUBACK": "40 03 0001 55", "PUBREC": "50 03 0001 01", "PUBREL": "62 03 0001 10", "PUBCOMP": "70 03 0001 87"}


@pytest.mark.parametrize("octets", [*REASONS.values(), "e0 01 01", "f0 01 01"], ids=[*REASONS, "DISCONNECT", "AUTH"])
def test_a_reason_code_that_is_not_of_its_packet_ends_the_connection(connect: Any, octets: str) -> None:
    client = connect(V5)
    client.octets(octets)
    assert client.is_refused()


@pytest.mark.parametrize(
    "octets",
    [
        "30 06 0001 74 02 0400",  # unknown property
        "30 07 0001 74 03 210001",  # property of another packet
        "30 08 0001 74 04 01010101",  # twice
        "30 06 0001 74 02 0102",  # out of range
        "30 04 0001 74 09",  # list longer than the packet
        "32 04 0001 74 00",  # half an identifier
        "40 01 00",
        "82 05 0001 0009 61",
        "c0 01 00",
        "e0 05 00 03 110000",  # property cut short
    ],
)
def test_malformed_packets_and_protocol_errors_end_the_connection(connect: Any, octets: str) -> None:
    client = connect(V5)
    client.octets(octets)
    assert client.is_refused()


@BOTH
def test_an_error_while_a_packet_is_worked_off_ends_its_connection_alone(
    server: Any, connect: Any, topic: str, version: ProtocolVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = connect(version)
    client = connect(version)

    def fail(*_: object) -> int:
        raise RuntimeError("out of something")

    monkeypatch.setattr(server.broker.engine, "publish", fail)
    client.send(Publish(topic, b"x", 1, packet_id=1))
    assert client.until_closed() == ([Disconnect(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)] if version is V5 else [])
    monkeypatch.undo()
    assert other.ask(PingReq()) == PingResp()
