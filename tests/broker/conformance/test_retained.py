"""Retained messages (section 3.3.1.3 of both versions, 3.8.3.1 of MQTT 5.0)."""

from typing import Any

import pytest

from meshwire.mqtt import Disconnect, Properties, ProtocolVersion, Publish

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_is_kept_with_its_qos_for_later_subscribers(
    connect: Any, topic: str, version: ProtocolVersion, qos: int
) -> None:
    connect(version).publish(topic, b"kept", qos, retain=True)
    late = connect(version)
    late.subscribe(f"{topic}/#")
    received = late.take()
    assert (received.payload, received.qos, received.retain) == (b"kept", qos, True)


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_newer_retained_message_takes_the_place(connect: Any, topic: str, version: ProtocolVersion, qos: int) -> None:
    sender = connect(version)
    sender.publish(topic, b"old", 2, retain=True)
    sender.publish(topic, b"new", qos, retain=True)
    late = connect(version)
    late.subscribe(topic)
    assert late.payloads() == [b"new"]


@BOTH
def test_an_empty_retained_message_is_delivered_clears_and_is_not_kept(
    connect: Any, topic: str, version: ProtocolVersion
) -> None:
    sender, live = connect(version), connect(version)
    live.subscribe(topic)
    sender.publish(topic, b"kept", retain=True)
    sender.publish(topic, b"", retain=True)
    assert live.payloads() == [b"kept", b""]
    late = connect(version)
    late.subscribe(topic)
    assert late.fenced() == []


def test_no_local_holds_for_retained_messages(server: Any, connect: Any, keep: Any, topic: str) -> None:
    client, other = keep(V5), connect(V5)
    client.publish(f"{topic}/mine", b"mine", 1, retain=True)
    other.publish(f"{topic}/other", b"of another", 1, retain=True)
    client.subscribe(f"{topic}/#", no_local=True)
    assert client.payloads() == [b"of another"]
    client.close()
    server.noticed_leaving(client.client_id)
    again = connect(V5, client.client_id)  # another session of the same client
    again.subscribe(f"{topic}/#", no_local=True)
    assert again.payloads() == [b"of another"]
    again.subscribe(f"{topic}/#")
    assert sorted(again.payloads()) == [b"mine", b"of another"]


@BOTH
def test_a_message_without_the_flag_changes_nothing_retained(
    connect: Any, topic: str, version: ProtocolVersion
) -> None:
    sender = connect(version)
    sender.publish(topic, b"passing")
    late = connect(version)
    late.subscribe(topic)
    assert late.fenced() == []
    sender.publish(topic, b"kept", retain=True)
    for payload in (b"passing", b""):
        sender.publish(topic, payload)
    late = connect(version)
    late.subscribe(topic)
    assert late.payloads() == [b"kept"]


@BOTH
def test_every_matching_topic_gives_its_message(connect: Any, topic: str, version: ProtocolVersion) -> None:
    sender = connect(version)
    names = [f"{topic}/{name}" for name in ("a", "b", "b/c", "d/e/f")]
    for name in names:
        sender.publish(name, name.encode(), retain=True)
    for text, expected in ((f"{topic}/#", names), (f"{topic}/+", names[:2]), (f"{topic}/b/#", names[1:3])):
        late = connect(version)
        late.subscribe(text)
        assert sorted(late.payloads()) == sorted(name.encode() for name in expected), text


@BOTH
def test_established_subscriptions_get_it_without_the_flag(connect: Any, topic: str, version: ProtocolVersion) -> None:
    live = connect(version)
    live.subscribe(topic)
    connect(version).publish(topic, b"x", retain=True)
    assert live.take().retain is False


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published(connect: Any, topic: str, published: bool, as_published: bool) -> None:
    live = connect(V5)
    live.subscribe(topic, retain_as_published=as_published)
    connect(V5).publish(topic, b"x", retain=published)
    assert live.take().retain is (published and as_published)


@pytest.mark.parametrize("as_published", [False, True])
def test_what_a_new_subscription_finds_always_has_the_flag(connect: Any, topic: str, as_published: bool) -> None:
    connect(V5).publish(topic, b"x", retain=True)
    late = connect(V5)
    late.subscribe(topic, retain_as_published=as_published)
    assert late.take().retain is True


@pytest.mark.parametrize(("handling", "first", "second"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling(connect: Any, topic: str, handling: int, first: int, second: int) -> None:
    connect(V5).publish(topic, b"x", retain=True)
    client = connect(V5)
    for expected in (first, second):
        client.subscribe(topic, retain_handling=handling)
        assert len(client.fenced()) == expected
    client.unsubscribe(topic)
    client.subscribe(topic, retain_handling=handling)
    assert len(client.fenced()) == first


def test_retain_handling_1_means_new_in_the_session(server: Any, connect: Any, keep: Any, topic: str) -> None:
    connect(V5).publish(topic, b"x", retain=True)
    client = keep(V5)
    client.subscribe(topic, retain_handling=1)
    assert len(client.payloads()) == 1
    client.close()
    server.noticed_leaving(client.client_id)
    again = keep(V5, client.client_id)
    again.subscribe(topic, retain_handling=1)
    assert again.fenced() == []


def test_retain_handling_3_is_a_protocol_error(connect: Any) -> None:
    client = connect(V5)
    client.octets("82 07 0001 00 0001 61 30")
    assert client.until_closed() == [Disconnect(0x82)]


@BOTH
def test_subscribing_again_sends_retained_messages_again_and_loses_none(
    connect: Any, topic: str, version: ProtocolVersion
) -> None:
    connect(version).publish(topic, b"kept", retain=True)
    client, sender = connect(version), connect(version)
    client.subscribe(topic, qos=1)
    assert client.payloads() == [b"kept"]
    sender.publish(topic, b"live")
    client.send(Publish(f"{topic}/none", b""))
    assert client.take().payload == b"live"
    client.subscribe(topic, qos=2)
    assert client.payloads() == [b"kept"]
    sender.publish(topic, b"live")
    assert client.payloads() == [b"live"]


@BOTH
def test_retained_messages_outlive_the_session_that_made_them(
    server: Any, connect: Any, topic: str, version: ProtocolVersion
) -> None:
    sender = connect(version)
    sender.publish(topic, b"kept", retain=True)
    sender.send(Disconnect())
    sender.until_closed()
    connect(version, sender.client_id)
    late = connect(version)
    late.subscribe(topic)
    assert late.payloads() == [b"kept"]


@BOTH
def test_retained_messages_come_at_the_lower_qos(connect: Any, topic: str, version: ProtocolVersion) -> None:
    for published in (0, 1, 2):
        connect(version).publish(topic, b"x", published, retain=True)
        for granted in (0, 1, 2):
            late = connect(version)
            late.subscribe(topic, qos=granted)
            assert late.take().qos == min(published, granted)


def test_identifiers_come_with_retained_messages(connect: Any, topic: str) -> None:
    connect(V5).publish(topic, b"x", retain=True)
    late = connect(V5)
    late.subscribe(topic, properties=Properties(subscription_identifiers=(77,)))
    assert late.take().properties.subscription_identifiers == (77,)


def test_shared_subscriptions_get_no_retained_messages(connect: Any, topic: str) -> None:
    connect(V5).publish(topic, b"x", retain=True)
    late = connect(V5)
    late.subscribe(f"$share/g/{topic}")
    assert late.fenced() == []
