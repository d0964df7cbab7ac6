"""CONNECT and CONNACK (sections 3.1 and 3.2 of both versions)."""

from typing import Any

import pytest

from broker.settings import Limits
from meshwire.mqtt import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    TopicSubscription,
    Will,
    encode,
)

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
VERSIONS = pytest.mark.parametrize("version", [V31, V311, V5], ids=["3.1", "3.1.1", "5.0"])
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
LIMITS = Limits(max_keep_alive_s=600, max_session_expiry_s=3_600)


def login(version: ProtocolVersion, client_id: str = "c", **rest: Any) -> Connect:
    return Connect(client_id, version, username="admin", password=b"secret", **rest)


# --- the first packet ----------


@pytest.mark.parametrize("octets", ["c0 00", "30 03 0001 74", "82 06 0001 0001 61 00", "e0 00", "f0 00"])
def test_what_is_not_connect_comes_too_early(dial: Any, octets: str) -> None:
    client = dial(V311)
    client.octets(octets)
    assert client.until_closed() == []


@BOTH
def test_a_second_connect_is_a_protocol_error(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    client.send(login(version))
    assert client.until_closed() == ([Disconnect(ReasonCode.PROTOCOL_ERROR)] if version is V5 else [])


def test_a_wrong_protocol_name_closes(dial: Any) -> None:
    client = dial(V311)
    client.octets("10 0d 0004 48545450 04 02 0000 0001 61")
    assert client.until_closed() in ([], [ConnAck(False, 1)])


@pytest.mark.parametrize("level", [0, 2, 6, 0x83, 0x85, 0xFF])
def test_an_unknown_level_is_answered_with_code_1_and_closed(dial: Any, level: int) -> None:
    client = dial(V311)
    client.octets(f"10 0d 0004 4d515454 {level:02x} 02 0000 0001 61")
    assert client.until_closed() == [ConnAck(False, 1)]


@pytest.mark.parametrize("level", [4, 5])
def test_the_reserved_connect_flag_closes_without_connack(dial: Any, level: int) -> None:
    client = dial(V311)
    client.octets(f"10 {13 + (level == 5):02x} 0004 4d515454 {level:02x} 03 0000 {'00' if level == 5 else ''} 0001 61")
    assert client.until_closed() == []


# --- flags and fields must agree ----------

CONTRADICTIONS = {
    "will QoS without will": ("0a", "0001 61"),
    "will retain without will": ("22", "0001 61"),
    "will QoS 3": ("1e", "0001 61 W 0001 74 0001 78"),
    "will without its fields": ("06", "0001 61"),
    "will topic without message": ("06", "0001 61 W 0001 74"),
    "will fields without will": ("02", "0001 61 W 0001 74 0001 78"),
    "user name flag without user name": ("82", "0001 61"),
    "user name without its flag": ("02", "0001 61 0001 61"),
    "password flag without password": ("c2", "0001 61 0001 61"),
    "password without its flag": ("82", "0001 61 0001 61 0001 61"),
    "no client id": ("02", ""),
    "will topic with wildcard": ("06", "0001 61 W 0001 23 0001 78"),
    "will topic empty": ("06", "0001 61 W 0000 0001 78"),
}


@BOTH
@pytest.mark.parametrize(("flags", "payload"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_connect_that_contradicts_itself_closes_without_connack(
    dial: Any, version: ProtocolVersion, flags: str, payload: str
) -> None:
    properties = "00" if version is V5 else ""
    rest = payload.replace("W", properties)
    body = bytes.fromhex(f"0004 4d515454 {version.value:02x} {flags} 0000 {properties} {rest}")
    client = dial(V311)
    client.octets(bytes((0x10, len(body))) + body)
    assert client.until_closed() == []


def test_password_without_user_name_is_refused_by_3_1_1_only(dial: Any) -> None:
    client = dial(V311)
    client.octets("10 0f 0004 4d515454 04 42 0000 0001 61 0000")
    assert client.until_closed() == []
    client = dial(V5)
    client.send(Connect("c", V5, password=b"wrong"))
    assert [type(packet) for packet in client.until_closed()] == [ConnAck]


@BOTH
def test_fields_come_in_their_order(dial: Any, connect: Any, topic: str, version: ProtocolVersion) -> None:
    """Client id, will, user name, password: each has its effect when all are there."""
    watcher = connect(V5)
    watcher.subscribe(topic)
    client = dial(version)
    will = Will(topic, b"gone", 1)
    answer = client.ask(Connect("ordered", version, True, 0, will, "admin", b"secret"))
    assert isinstance(answer, ConnAck) and answer.reason_code == 0
    client.close()
    assert watcher.take().payload == b"gone"


# --- client ids ----------


@VERSIONS
def test_all_ids_of_1_to_23_letters_and_digits_are_allowed(dial: Any, version: ProtocolVersion) -> None:
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for client_id in ("0", "Z", alphabet[:23], alphabet[23:46], alphabet[-23:]):
        client = dial(version)
        assert client.ask(login(version, client_id)).reason_code == 0  # type: ignore[union-attr]
        client.send(Disconnect())
        client.until_closed()


def test_an_empty_id_with_clean_session_is_given_a_unique_one(server: Any, dial: Any, topic: str) -> None:
    clients = [dial(V311) for _ in range(3)]
    for client in clients:
        assert client.ask(login(V311, "")) == ConnAck()
        client.subscribe(topic)
    clients[0].send(Publish(topic, b"x"))
    for client in clients:
        assert client.take().payload == b"x"
    given = [key.client_id for key in server.broker.engine.sessions if key.client_id.startswith("auto-")]
    assert len(set(given)) == len(given) >= 3


def test_an_empty_id_without_clean_session_is_rejected(dial: Any) -> None:
    client = dial(V311)
    client.send(login(V311, "", clean_start=False))
    assert client.until_closed() == [ConnAck(False, 2)]


def test_a_rejected_id_has_its_code_and_the_connection_closes(dial: Any) -> None:
    """The only ids ever refused are empty ones: in 3.1.1 with a session to keep, in 3.1 always."""
    for version, connect in ((V311, login(V311, "", clean_start=False)), (V31, login(V31, ""))):
        client = dial(version)
        client.send(connect)
        assert client.until_closed() == [ConnAck(False, 2)]


@pytest.mark.parametrize("clean", [True, False])
def test_the_assigned_id_is_told_unique_and_usable(connect: Any, dial: Any, clean: bool) -> None:
    first, second = (connect(V5, "", clean=clean, expiry=60) for _ in range(2))
    names = [client.connack.properties.assigned_client_identifier for client in (first, second)]
    assert names[0] and names[1] and names[0] != names[1]
    again = connect(V5, names[0], clean=False)
    assert again.connack.session_present
    assert first.until_closed() == [Disconnect(ReasonCode.SESSION_TAKEN_OVER)]


def test_a_given_id_is_not_assigned(connect: Any) -> None:
    assert connect(V5, "mine").connack.properties.assigned_client_identifier is None


# --- sessions ----------


@BOTH
def test_clean_start_forgets_the_former_session(connect: Any, keep: Any, topic: str, version: ProtocolVersion) -> None:
    client = keep(version)
    client.subscribe(topic)
    client.close()
    again = keep(version, client.client_id, clean=True)
    assert again.connack.session_present is False
    connect(V5).publish(topic, b"x")
    assert again.fenced() == []
    again.close()
    once_more = keep(version, client.client_id)
    assert once_more.connack.session_present is (version is V5)  # 3.1.1: a clean session ends with its connection
    connect(V5).publish(topic, b"x")
    assert once_more.fenced() == []


@BOTH
def test_a_kept_session_is_resumed_with_what_it_holds(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version)
    assert client.connack.session_present is False  # there was none: a new one is made
    client.subscribe(topic)
    client.close()
    server.noticed_leaving(client.client_id)
    sender = connect(V5)
    for number in range(3):
        sender.publish(topic, b"%d" % number, qos=1 + number % 2)
    again = keep(version, client.client_id)
    assert again.connack.session_present is True
    assert again.payloads() == [b"0", b"1", b"2"]
    sender.publish(topic, b"live")
    assert again.payloads() == [b"live"]


@BOTH
def test_session_present_is_0_with_clean_start_and_without_a_session(
    keep: Any, connect: Any, version: ProtocolVersion
) -> None:
    assert connect(version).connack.session_present is False
    client = keep(version)
    assert client.connack.session_present is False
    assert keep(version, client.client_id).connack.session_present is True
    assert keep(version, client.client_id, clean=True).connack.session_present is False


@BOTH
def test_a_session_that_ends_with_its_connection_is_not_taken_over(
    connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    """Take-over closes the former connection first, and with it a session without expiry."""
    first = connect(version, clean=True)
    first.subscribe(topic)
    connect(V5).publish(topic, b"x", 1)
    second = keep(version, first.client_id)
    assert second.connack.session_present is False
    connect(V5).publish(topic, b"y", 1)
    assert second.fenced() == []


def test_state_belongs_to_the_client_id(connect: Any, keep: Any, topic: str) -> None:
    one, two = keep(V311), keep(V311)
    one.subscribe(topic)
    one.close()
    two.close()
    connect(V5).publish(topic, b"x")
    assert keep(V311, two.client_id).fenced() == []
    assert keep(V311, one.client_id).payloads() == [b"x"]


@BOTH
def test_a_second_connection_with_the_id_ends_the_first(connect: Any, version: ProtocolVersion) -> None:
    first = connect(version)
    second = connect(version, first.client_id)
    assert first.until_closed() == ([Disconnect(ReasonCode.SESSION_TAKEN_OVER)] if version is V5 else [])
    assert second.ask(PingReq()) == PingResp()


# --- acceptance and refusal ----------


@VERSIONS
def test_acceptance_is_said_once_and_first(connect: Any, keep: Any, topic: str, version: ProtocolVersion) -> None:
    """Even when messages wait and packets came right behind CONNECT."""
    client = keep(version)
    client.subscribe(topic)
    client.close()
    connect(V5).publish(topic, b"x")
    again = keep(version, client.client_id)
    assert again.connack.reason_code == 0
    assert [type(packet) for packet in again.fenced()] == [Publish]


def test_the_octets_of_connack_have_no_reserved_flags(dial: Any) -> None:
    client = dial(V311)
    client.ask(login(V311, "flags", clean_start=False))
    assert client.octets_read == b"\x20\x02\x00\x00"
    again = dial(V311)
    again.ask(login(V311, "flags", clean_start=False))
    assert again.octets_read == b"\x20\x02\x01\x00"


REFUSALS = {
    "wrong password": ({"username": "admin", "password": b"wrong"}, 4, 0x86),
    "unknown user": ({"username": "nobody", "password": b"x"}, 4, 0x86),
    "no credentials": ({}, 5, 0x87),
    "will not allowed": ({"username": "reader", "password": b"secret", "will": Will("x", b"")}, 5, 0x87),
    "will too deep": ({"username": "admin", "password": b"secret", "will": Will("/".join("x" * 300), b"")}, 5, 0x90),
}


@BOTH
@pytest.mark.parametrize(("fields", "code", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_have_their_code_no_session_and_close(
    server: Any, dial: Any, keep: Any, version: ProtocolVersion, fields: dict[str, Any], code: int, reason: int
) -> None:
    kept = keep(version)
    kept.close()
    client = dial(version)
    client.send(Connect(kept.client_id, version, False, **fields))
    assert client.until_closed() == [ConnAck(False, reason if version is V5 else code)]
    assert not server.broker.engine.sessions[("ssni", "password", kept.client_id)].outlet


@BOTH
def test_nothing_behind_a_refused_connect_is_worked_off(
    connect: Any, dial: Any, topic: str, version: ProtocolVersion
) -> None:
    watcher = connect(V5)
    watcher.subscribe(topic)
    client = dial(version)
    packets = [Connect("x", version, username="admin", password=b"wrong"), Publish(topic, b"x"), PingReq()]
    client.octets(b"".join(encode(packet, version) for packet in packets))
    assert [type(packet) for packet in client.until_closed()] == [ConnAck]
    assert watcher.fenced() == []


@VERSIONS
def test_packets_right_behind_connect_are_answered_after_connack(
    dial: Any, topic: str, version: ProtocolVersion
) -> None:
    client = dial(version)
    items = (TopicSubscription(topic, 1),)
    client.send(login(version, "hasty"), Subscribe(1, items), Publish(topic, b"x", 1, packet_id=2), PingReq())
    packets = [client.next() for _ in range(5)]
    assert [type(packet) for packet in packets] == [ConnAck, SubAck, *[type(p) for p in packets[2:4]], PingResp]
    assert {type(packet) for packet in packets[2:4]} == {Publish, PubAck}


# --- keep alive ----------


@BOTH
def test_silence_of_one_and_a_half_keep_alives_ends_the_connection(
    server: Any, connect: Any, topic: str, version: ProtocolVersion
) -> None:
    watcher = connect(V5)
    watcher.subscribe(topic)
    client = connect(version, keep_alive=10, will=Will(topic, b"gone"))
    server.skip(14.5)
    assert client.ask(PingReq()) == PingResp()  # one and a half times 10 s counts anew
    server.skip(14.5)
    assert client.ask(PingReq()) == PingResp()
    server.skip(15.1)
    assert client.until_closed() == ([Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)] if version is V5 else [])
    assert watcher.take().payload == b"gone"  # as if the network had failed


def test_keep_alive_0_is_no_limit_in_3_1_1(server: Any, connect: Any) -> None:
    client = connect(V311, keep_alive=0)
    server.skip(100_000)
    assert client.ask(PingReq()) == PingResp()


def test_a_server_keep_alive_is_told_where_it_differs(server: Any, connect: Any) -> None:
    """This module's broker grants 600 s at most."""
    assert connect(V5, keep_alive=60).connack.properties.server_keep_alive is None
    assert connect(V5, keep_alive=0).connack.properties.server_keep_alive == 600
    client = connect(V5, keep_alive=1_000)
    assert client.connack.properties.server_keep_alive == 600
    server.skip(901)
    assert client.until_closed() == [Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)]


# --- session expiry ----------


def test_the_granted_session_expiry_is_told_where_it_differs(connect: Any) -> None:
    assert connect(V5, expiry=60).connack.properties.session_expiry_interval is None
    assert connect(V5, expiry=0xFFFF_FFFF).connack.properties.session_expiry_interval == 3_600


def test_a_session_ends_when_its_expiry_has_passed(server: Any, connect: Any) -> None:
    for seconds, is_kept in ((30, True), (62, False)):
        client = connect(V5, expiry=60)
        client.close()
        server.noticed_leaving(client.client_id)
        server.skip(seconds)
        assert connect(V5, client.client_id, clean=False).connack.session_present is is_kept


def test_without_expiry_a_session_ends_with_its_connection(server: Any, connect: Any) -> None:
    client = connect(V5)
    client.close()
    server.noticed_leaving(client.client_id)
    assert connect(V5, client.client_id, clean=False).connack.session_present is False


def test_a_session_lasts_as_long_as_its_connection(server: Any, connect: Any, topic: str) -> None:
    client = connect(V5, expiry=5, keep_alive=0)
    client.subscribe(topic)
    for _ in range(4):
        server.skip(500)
        assert client.ask(PingReq()) == PingResp()
    connect(V5).publish(topic, b"x")
    assert client.payloads() == [b"x"]


# --- authentication ----------


@pytest.mark.parametrize("data", [None, b"x"])
def test_enhanced_authentication_is_refused_and_closed(dial: Any, data: bytes | None) -> None:
    client = dial(V5)
    properties = Properties(authentication_method="SCRAM-SHA-1", authentication_data=data)
    client.send(login(V5, properties=properties))
    assert client.until_closed() == [ConnAck(False, ReasonCode.BAD_AUTHENTICATION_METHOD)]


def test_authentication_data_without_a_method_closes(dial: Any) -> None:
    client = dial(V5)
    client.octets("10 11 0004 4d515454 05 02 0000 03 160000 0001 61")
    assert client.until_closed() == []


def test_no_auth_and_no_method_come_from_us(connect: Any) -> None:
    client = connect(V5)
    assert client.connack.properties.authentication_method is None
    assert client.fenced() == []


@pytest.mark.parametrize("reason", [0x00, 0x18, 0x19])
def test_auth_from_a_client_without_a_method_is_a_protocol_error(connect: Any, reason: int) -> None:
    client = connect(V5)
    client.send(Auth(reason, Properties(authentication_method="X")))
    assert client.until_closed() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


def test_auth_with_header_flags_closes(connect: Any) -> None:
    client = connect(V5)
    client.octets("f1 00")
    assert client.until_closed() == [Disconnect(ReasonCode.MALFORMED_PACKET)]


# --- what CONNACK says in MQTT 5 ----------


def test_connack_says_only_what_a_client_would_not_assume(connect: Any) -> None:
    """No Response Information, no Maximum QoS, no missing feature; reason strings are never sent."""
    properties = Properties(request_response_information=0, request_problem_information=0)
    told = connect(V5, keep_alive=30, properties=properties).connack.properties
    assert told.response_information is None and told.reason_string is None and told.user_properties == ()
    for name in ("maximum_qos", "retain_available", "wildcard_subscription_available", "server_reference"):
        assert getattr(told, name) is None
    assert told.shared_subscription_available is told.subscription_identifier_available is None
    assert told.maximum_packet_size == LIMITS.max_packet_octets
    assert told.topic_alias_maximum == LIMITS.topic_alias_maximum
