"""The will (sections 3.1.2.5 to 3.1.2.7 of both versions, 3.1.3.2 of MQTT 5.0)."""

from typing import Any

import pytest

from meshwire.mqtt import Disconnect, PingReq, Properties, ProtocolVersion, Publish, ReasonCode, Will

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])


@pytest.fixture
def watcher(connect: Any, topic: str) -> Any:
    client = connect(V5)
    client.subscribe(topic, retain_as_published=True)
    return client


ABNORMAL_ENDS = {
    "network": lambda client: client.close(),
    "protocol error": lambda client: client.octets("c1 00"),
    "second connect": lambda client: client.octets("10 0d 0004 4d515454 04 02 0000 0001 61"),
}


@BOTH
@pytest.mark.parametrize("end", ABNORMAL_ENDS.values(), ids=ABNORMAL_ENDS)
def test_a_will_is_published_when_the_connection_ends_without_disconnect(
    connect: Any, watcher: Any, topic: str, version: ProtocolVersion, end: Any
) -> None:
    client = connect(version, will=Will(topic, b"gone", 1))
    end(client)
    assert watcher.take() == Publish(topic, b"gone", 1, packet_id=1)


@BOTH
def test_a_will_is_published_at_take_over(connect: Any, watcher: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version, will=Will(topic, b"gone"))
    connect(version, client.client_id)
    assert watcher.take().payload == b"gone"


@BOTH
def test_a_will_is_published_once_and_then_forgotten(
    server: Any, keep: Any, watcher: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version, will=Will(topic, b"gone"))
    client.close()
    assert watcher.take().payload == b"gone"
    again = keep(version, client.client_id)  # the session goes on, without a will
    again.close()
    server.noticed_leaving(client.client_id)
    assert watcher.fenced() == []


@BOTH
def test_a_good_bye_discards_the_will(
    server: Any, keep: Any, watcher: Any, topic: str, version: ProtocolVersion
) -> None:
    client = keep(version, will=Will(topic, b"gone"))
    client.send(Disconnect())
    assert client.until_closed() == []
    again = keep(version, client.client_id)
    again.close()
    server.noticed_leaving(client.client_id)
    assert watcher.fenced() == []


@pytest.mark.parametrize("reason", [0x04, 0x80, 0x82, 0x97])
def test_a_disconnect_with_another_reason_publishes_the_will(
    connect: Any, watcher: Any, topic: str, reason: int
) -> None:
    client = connect(V5, will=Will(topic, b"gone"))
    client.send(Disconnect(reason))
    assert watcher.take().payload == b"gone"
    assert client.until_closed() == []


@BOTH
def test_without_a_will_nothing_is_published(server: Any, connect: Any, version: ProtocolVersion) -> None:
    watcher = connect(V5)
    watcher.subscribe("#")
    client = connect(version)
    client.close()
    server.noticed_leaving(client.client_id)
    assert watcher.fenced() == []


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_will_has_its_qos(connect: Any, watcher: Any, topic: str, version: ProtocolVersion, qos: int) -> None:
    connect(version, will=Will(topic, b"gone", qos)).close()
    assert watcher.take().qos == qos


@BOTH
@pytest.mark.parametrize("retain", [False, True])
def test_the_will_is_retained_where_it_says_so(
    connect: Any, watcher: Any, topic: str, version: ProtocolVersion, retain: bool
) -> None:
    connect(version, will=Will(topic, b"gone", 1, retain)).close()
    assert watcher.take().retain is retain
    late = connect(version)
    late.subscribe(topic)
    assert late.payloads() == ([b"gone"] if retain else [])


def test_an_empty_will_and_a_binary_one(connect: Any, watcher: Any, topic: str) -> None:
    for payload in (b"", bytes(range(256))):
        connect(V311, will=Will(topic, payload)).close()
        assert watcher.take().payload == payload


def test_the_properties_of_a_will_travel_in_order(connect: Any, watcher: Any, topic: str) -> None:
    properties = Properties(
        payload_format_indicator=1,
        message_expiry_interval=100,
        content_type="text/plain",
        response_topic="answers",
        correlation_data=b"\0\xff",
        user_properties=(("b", "1"), ("a", "2"), ("b", "3")),
    )
    connect(V5, will=Will(topic, b"gone", properties=properties)).close()
    assert watcher.take().properties == properties


def delayed(topic: str, seconds: int) -> Will:
    return Will(topic, b"gone", 1, properties=Properties(will_delay_interval=seconds))


def test_a_delayed_will_waits_for_its_time(server: Any, connect: Any, watcher: Any, topic: str) -> None:
    client = connect(V5, expiry=600, will=delayed(topic, 60))
    client.close()
    server.noticed_leaving(client.client_id)
    server.skip(58)
    assert watcher.fenced() == []
    server.skip(4)
    [will] = watcher.fenced()
    assert will.payload == b"gone" and will.properties.will_delay_interval is None


def test_a_delayed_will_goes_out_at_the_latest_when_the_session_ends(
    server: Any, connect: Any, watcher: Any, topic: str
) -> None:
    client = connect(V5, expiry=30, will=delayed(topic, 600))
    client.close()
    server.noticed_leaving(client.client_id)
    server.skip(32)
    assert watcher.payloads() == [b"gone"]
    client = connect(V5, will=delayed(topic, 600))  # no expiry: the session ends with the connection
    client.close()
    assert watcher.take().payload == b"gone"
    client = connect(V5, expiry=30, will=delayed(topic, 600))
    connect(V5, client.client_id, clean=True)  # a new session takes the place of the old one
    assert watcher.take().payload == b"gone"


@pytest.mark.parametrize("takes_over", [False, True])
def test_who_comes_back_in_time_stops_the_delayed_will(
    server: Any, connect: Any, watcher: Any, topic: str, takes_over: bool
) -> None:
    client = connect(V5, expiry=600, will=delayed(topic, 60))
    if not takes_over:
        client.close()
        server.noticed_leaving(client.client_id)
    server.skip(10)
    again = connect(V5, client.client_id, clean=False, expiry=600)
    server.skip(100)
    assert watcher.fenced() == []
    again.send(Disconnect())
    again.until_closed()
    server.skip(100)
    assert watcher.fenced() == []


def test_a_will_that_may_not_be_published_refuses_the_connection(connect: Any, topic: str) -> None:
    refused = connect(V5, user="reader", will=Will(topic, b"x"))
    assert refused.connack.reason_code == ReasonCode.NOT_AUTHORIZED
    assert refused.until_closed() == []


def test_the_will_of_a_3_1_client(connect: Any, watcher: Any, topic: str) -> None:
    connect(V31, will=Will(topic, b"gone", 2)).close()
    assert watcher.take().payload == b"gone"
    assert watcher.ask(PingReq()) is not None
