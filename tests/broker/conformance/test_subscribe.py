"""SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (sections 3.8 to 3.11) and filters (4.7)."""

from typing import Any

import pytest

from broker.settings import Limits
from meshwire.mqtt import (
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

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
LIMITS = Limits(max_subscriptions=20)


@BOTH
def test_every_subscribe_is_acknowledged(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    for packet_id, qos in ((1, 0), (2, 1), (3, 2), (3, 2)):
        assert client.ask(Subscribe(packet_id, (TopicSubscription(topic, qos),))) == SubAck(packet_id, (qos,))


@BOTH
def test_many_filters_have_one_code_each_in_order(connect: Any, topic: str, version: ProtocolVersion) -> None:
    """As many SUBSCRIBEs in one: allowed, foreign, too deep, repeated."""
    client = connect(version, user="reader")
    wanted = ("ssni/read/a", "other/read/a", "ssni/read/#", "/".join("x" * 300), "ssni/read/a")
    items = tuple(TopicSubscription(text, qos) for text, qos in zip(wanted, (0, 1, 2, 1, 1), strict=True))
    answer = client.ask(Subscribe(9, items))
    expected = (0, 0x87, 2, 0x8F, 1) if version is V5 else (0, 0x80, 2, 0x80, 1)
    assert answer == SubAck(9, expected)
    sender = connect(V5)
    sender.publish("ssni/read/a", b"x", 2)
    assert [packet.qos for packet in client.fenced()] == [2]  # the last of both filters with its QoS 1, and `#`


@BOTH
def test_return_codes_are_of_the_list(connect: Any, topic: str, version: ProtocolVersion) -> None:
    """The limit on subscriptions gives 0x97, which 3.1.1 has no word for."""
    client = connect(version)
    for number in range(20):
        assert client.subscribe(f"{topic}/{number}") == (2,)
    assert client.subscribe(f"{topic}/one more") == ((0x97,) if version is V5 else (0x80,))
    assert client.subscribe(f"{topic}/0") == (2,)


@BOTH
def test_messages_come_at_the_lower_of_both_qos(connect: Any, topic: str, version: ProtocolVersion) -> None:
    sender = connect(version)
    for granted in (0, 1, 2):
        client = connect(version)
        client.subscribe(topic, qos=granted)
        for published in (0, 1, 2):
            sender.publish(topic, b"x", published)
            assert client.take().qos == min(granted, published)


@BOTH
def test_subscribing_again_replaces(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client, sender = connect(version), connect(version)
    client.subscribe(topic, qos=2)
    client.subscribe(topic, qos=0)
    sender.publish(topic, b"x", 2)
    assert [packet.qos for packet in client.fenced()] == [0]


def test_subscribing_again_replaces_the_options(connect: Any, topic: str) -> None:
    client = connect(V5)
    client.subscribe(topic, properties=Properties(subscription_identifiers=(1,)), no_local=True)
    client.subscribe(topic, qos=0)
    client.send(Publish(topic, b"x"))
    [received] = client.fenced()
    assert received.properties.subscription_identifiers == ()


@BOTH
def test_overlapping_subscriptions_respect_the_highest_qos(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client, sender = connect(version), connect(version)
    client.subscribe(f"{topic}/#", qos=0)
    client.subscribe(f"{topic}/+", qos=2)
    client.subscribe(f"{topic}/a", qos=1)
    sender.publish(f"{topic}/a", b"x", 2)
    received = client.fenced()
    assert len(received) >= 1 and max(packet.qos for packet in received) == 2


def test_all_identifiers_of_overlapping_subscriptions_come(connect: Any, topic: str) -> None:
    client, sender = connect(V5), connect(V5)
    for number, text in enumerate((f"{topic}/#", f"{topic}/+", f"{topic}/a", f"{topic}/b"), 1):
        client.subscribe(text, properties=Properties(subscription_identifiers=(number,)))
    client.subscribe(f"+/{topic.partition('/')[2]}/a")
    sender.publish(f"{topic}/a", b"x", 1)
    received = client.fenced()
    together = sorted(number for packet in received for number in packet.properties.subscription_identifiers)
    assert together == [1, 2, 3]


def test_one_copy_carries_all_identifiers(connect: Any, topic: str) -> None:
    """We send one copy; had we sent several, each would need its own identifier."""
    client, sender = connect(V5), connect(V5)
    client.subscribe(f"{topic}/#", properties=Properties(subscription_identifiers=(5,)))
    client.subscribe(topic, properties=Properties(subscription_identifiers=(5,)))
    sender.publish(topic, b"x")
    [received] = client.fenced()
    assert set(received.properties.subscription_identifiers) == {5}


def test_the_largest_identifier(connect: Any, topic: str) -> None:
    client = connect(V5)
    client.subscribe(topic, properties=Properties(subscription_identifiers=(268_435_455,)))
    client.send(Publish(topic, b"x"))
    assert client.take().properties.subscription_identifiers == (268_435_455,)


@pytest.mark.parametrize("octets", ["82 09 0001 02 0b00 0001 61 00", "82 0b 0001 04 0b010b02 0001 61 00"])
def test_identifier_0_and_two_identifiers_are_protocol_errors(connect: Any, octets: str) -> None:
    client = connect(V5)
    client.octets(octets)
    assert client.is_refused()


@pytest.mark.parametrize("no_local", [False, True])
def test_no_local(server: Any, connect: Any, keep: Any, topic: str, no_local: bool) -> None:
    client, other = keep(V5), connect(V5)
    for receiver in (client, other):
        receiver.subscribe(topic, no_local=no_local)
    client.send(Publish(topic, b"mine"))
    assert client.payloads() == ([] if no_local else [b"mine"])
    assert other.payloads() == [b"mine"]
    client.close()
    server.noticed_leaving(client.client_id)
    again = keep(V5, client.client_id)  # another connection of the same client
    again.send(Publish(topic, b"mine"))
    assert again.payloads() == ([] if no_local else [b"mine"])


def test_no_local_holds_among_overlapping_subscriptions(connect: Any, topic: str) -> None:
    """What comes is for those alone that take one's own messages: their QoS and identifiers."""
    client, other = connect(V5), connect(V5)
    client.subscribe(f"{topic}/#", qos=2, properties=Properties(subscription_identifiers=(9,)), no_local=True)
    client.subscribe(f"{topic}/+", qos=0, properties=Properties(subscription_identifiers=(8,)))
    client.send(Publish(f"{topic}/a", b"mine", 0))
    [mine] = client.fenced()
    assert (mine.qos, mine.properties.subscription_identifiers) == (0, (8,))
    other.publish(f"{topic}/a", b"of another", 1)
    [foreign] = client.fenced()
    assert (foreign.qos, sorted(foreign.properties.subscription_identifiers)) == (1, [8, 9])


def test_no_local_on_a_shared_subscription_is_a_protocol_error(connect: Any) -> None:
    client = connect(V5)
    client.send(Subscribe(1, (TopicSubscription("$share/g/a", 1, False),)))
    assert client.next() == SubAck(1, (1,))
    client.octets(b"\x82\x10\x00\x02\x00\x00\x0a$share/g/a\x04")
    assert client.is_refused()


BAD_OPTIONS = {
    "QoS 3": ("82 06 0001 0001 61 03", "82 07 0001 00 0001 61 03"),
    "bit 6": ("82 06 0001 0001 61 40", "82 07 0001 00 0001 61 40"),
    "bit 7": ("82 06 0001 0001 61 80", "82 07 0001 00 0001 61 80"),
    "bits of 5.0 in 3.1.1": ("82 06 0001 0001 61 04", "82 07 0001 00 0001 61 c4"),
    "second filter bad": ("82 0a 0001 0001 61 00 0001 62 43", "82 0b 0001 00 0001 61 00 0001 62 43"),
}


@BOTH
@pytest.mark.parametrize("octets", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_reserved_option_bits_close(connect: Any, version: ProtocolVersion, octets: tuple[str, str]) -> None:
    client = connect(version)
    client.octets(octets[version is V5])
    assert client.is_refused()


EMPTY = {
    "SUBSCRIBE": ("82 02 0001", "82 03 0001 00"),
    "filter without options": ("82 05 0001 0001 61", "82 06 0001 00 0001 61"),
    "UNSUBSCRIBE": ("a2 02 0001", "a2 03 0001 00"),
}


@BOTH
@pytest.mark.parametrize("octets", EMPTY.values(), ids=EMPTY)
def test_no_filter_at_all_closes(connect: Any, version: ProtocolVersion, octets: tuple[str, str]) -> None:
    client = connect(version)
    client.octets(octets[version is V5])
    assert client.is_refused()


# --- filters ----------

BAD_FILTERS = ["", "a/#/b", "a#", "#a", "##", "a+", "+a", "a/+b", "++", "a/b#", "#/"]


@BOTH
@pytest.mark.parametrize("text", BAD_FILTERS)
def test_a_filter_with_misplaced_wildcards_or_none_closes(connect: Any, version: ProtocolVersion, text: str) -> None:
    for first, tail in ((0x82, b"\0"), (0xA2, b"")):
        client = connect(version)
        body = b"\0\1" + (b"\0" if version is V5 else b"") + len(text).to_bytes(2, "big") + text.encode() + tail
        client.octets(bytes((first, len(body))) + body)
        assert client.is_refused()


@BOTH
@pytest.mark.parametrize("text", ["#", "+", "/#", "+/+", "+/#", "a/+", "a/+/b", "a/#", "/", "/+", "a//b", " "])
def test_wildcards_that_fill_their_level_are_accepted(connect: Any, version: ProtocolVersion, text: str) -> None:
    assert connect(version).subscribe(text) == (2,)


@BOTH
def test_wildcards_in_front_do_not_match_dollar_topics(server: Any, connect: Any, version: ProtocolVersion) -> None:
    """`$SYS` is published by the broker; live and retained alike."""
    everything, system = connect(version), connect(version)
    everything.subscribe("#", "+/#", "+/broker/uptime", "+/+/uptime")
    system.subscribe("$SYS/broker/uptime")
    assert system.take().topic == "$SYS/broker/uptime"
    server.skip(11)
    server.until(lambda: True)
    server.skip(1.1)
    assert any(packet.topic == "$SYS/broker/uptime" for packet in system.fenced())
    assert [packet.topic for packet in everything.fenced() if packet.topic.startswith("$")] == []


@BOTH
def test_matching_does_not_normalise(connect: Any, topic: str, version: ProtocolVersion) -> None:
    """Case, combining marks, BOM, blanks, control and unassigned characters, trailing and double slashes."""
    names = [
        "caf\u00e9",
        "cafe\u0301",
        "CAF\u00c9",
        "\ufeffx",
        "x",
        " x",
        "x ",
        "a//b",
        "a/b",
        "a/b/",
        "\u0001",
        "\U000e0fff",
    ]
    client, sender = connect(version), connect(version)
    for name in names:
        client.subscribe(f"{topic}/{name}")
        sender.publish(f"{topic}/{name}", b"x")
        assert [packet.topic for packet in client.fenced()] == [f"{topic}/{name}"]
        client.unsubscribe(f"{topic}/{name}")


@BOTH
def test_a_filter_of_65535_octets(connect: Any, version: ProtocolVersion) -> None:
    client = connect(version)
    longest = "y" * 65_533 + "/#"
    assert client.subscribe(longest) == (2,)
    client.send(Publish("y" * 65_533, b"x"))
    assert client.take().payload == b"x"


# --- UNSUBSCRIBE ----------


@BOTH
def test_every_unsubscribe_is_acknowledged_even_of_nothing(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    client.subscribe(topic)
    for packet_id, code in ((1, 0x00), (2, 0x11), (2, 0x11)):
        expected = UnsubAck(packet_id, (code,) if version is V5 else ())
        assert client.ask(Unsubscribe(packet_id, (topic,))) == expected


def test_many_filters_of_an_unsubscribe_have_one_code_each_in_order(connect: Any, topic: str) -> None:
    client = connect(V5)
    client.subscribe(f"{topic}/a", f"{topic}/b", f"{topic}/+")
    wanted = (f"{topic}/b", f"{topic}/c", f"{topic}/+", f"{topic}/b")
    assert client.unsubscribe(*wanted).reason_codes == (0x00, 0x11, 0x00, 0x11)
    client.send(Publish(f"{topic}/a", b"a"), Publish(f"{topic}/b", b"b"))
    assert client.payloads() == [b"a"]


@BOTH
def test_filters_are_compared_character_by_character(connect: Any, topic: str, version: ProtocolVersion) -> None:
    client = connect(version)
    client.subscribe(f"{topic}/+")
    client.unsubscribe(f"{topic}/#", f"{topic}/a", f"{topic}/+/", f"{topic.upper()}/+", "#")
    client.send(Publish(f"{topic}/a", b"still"))
    assert client.payloads() == [b"still"]
    client.unsubscribe(f"{topic}/+")
    client.send(Publish(f"{topic}/a", b"gone"))
    assert client.payloads() == []


@BOTH
def test_what_was_begun_is_completed_after_unsubscribe_and_nothing_is_added(
    server: Any, connect: Any, keep: Any, topic: str, version: ProtocolVersion
) -> None:
    client, sender = keep(version), connect(V5)
    client.subscribe(topic)
    sender.publish(topic, b"one", 1)
    sender.publish(topic, b"two", 2)
    one, two = client.fenced()
    client.unsubscribe(topic)
    sender.publish(topic, b"late", 2)
    client.close()
    server.noticed_leaving(client.client_id)
    again = keep(version, client.client_id)
    resent = again.fenced()
    assert [(packet.packet_id, packet.payload) for packet in resent] == [
        (one.packet_id, b"one"),
        (two.packet_id, b"two"),
    ]
    again.send(PubAck(one.packet_id))
    assert again.ask(PubRec(two.packet_id)) == PubRel(two.packet_id)
    again.send(PubComp(two.packet_id))
    assert again.fenced() == []


# --- shared subscriptions ----------


@BOTH
def test_a_shared_subscription_gives_each_message_to_one_member(
    connect: Any, topic: str, version: ProtocolVersion
) -> None:
    members, sender = [connect(version) for _ in range(3)], connect(V5)
    for member in members:
        member.subscribe(f"$share/group/{topic}/#")
    other = connect(version)
    other.subscribe(f"$share/other/{topic}/#")
    for number in range(12):
        sender.publish(f"{topic}/x", b"%d" % number)
    received = [member.payloads() for member in members]
    assert sorted(payload for some in received for payload in some) == sorted(b"%d" % number for number in range(12))
    assert all(received)
    assert len(other.payloads()) == 12


BAD_SHARES = ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a", "$share/g+/a"]


@pytest.mark.parametrize("text", BAD_SHARES)
def test_a_shared_subscription_needs_a_name_and_a_filter(connect: Any, text: str) -> None:
    client = connect(V5)
    body = b"\0\1\0" + len(text).to_bytes(2, "big") + text.encode() + b"\0"
    client.octets(bytes((0x82, len(body))) + body)
    assert client.is_refused()


def test_each_member_has_its_own_granted_qos(connect: Any, topic: str) -> None:
    members, sender = [connect(V5) for _ in range(3)], connect(V5)
    for qos, member in enumerate(members):
        member.subscribe(f"$share/g/{topic}", qos=qos)
    for _ in range(3):
        sender.publish(topic, b"x", 2)
    assert [[packet.qos for packet in member.fenced()] for member in members] == [[0], [1], [2]]


def test_an_unfinished_shared_message_is_completed_with_its_member(
    server: Any, connect: Any, keep: Any, topic: str
) -> None:
    member, other, sender = keep(V5), connect(V5), connect(V5)
    member.subscribe(f"$share/g/{topic}")
    sender.publish(topic, b"x", 2)
    [first] = member.fenced()
    other.subscribe(f"$share/g/{topic}")
    member.close()
    server.noticed_leaving(member.client_id)
    assert other.fenced() == []
    [again] = keep(V5, member.client_id).fenced()
    assert (again.packet_id, again.dup) == (first.packet_id, True)


def test_an_unfinished_shared_message_ends_with_its_members_session(server: Any, connect: Any, topic: str) -> None:
    member, other, sender = connect(V5), connect(V5), connect(V5)
    member.subscribe(f"$share/g/{topic}")
    sender.publish(topic, b"x", 2)
    assert len(member.fenced()) == 1
    other.subscribe(f"$share/g/{topic}")
    member.close()
    server.noticed_leaving(member.client_id)
    assert other.fenced() == []


@pytest.mark.parametrize("qos", [1, 2])
def test_a_shared_message_that_its_member_refuses_goes_to_nobody_else(connect: Any, topic: str, qos: int) -> None:
    member, other, sender = connect(V5), connect(V5), connect(V5)
    member.subscribe(f"$share/g/{topic}")
    sender.publish(topic, b"x", qos)
    [received] = member.fenced()
    other.subscribe(f"$share/g/{topic}")
    refusal = (PubAck if qos == 1 else PubRec)(received.packet_id, 0x83)
    member.send(refusal)
    assert member.fenced() == [] and other.fenced() == []
    sender.publish(topic, b"y", qos)
    sender.publish(topic, b"z", qos)
    assert sorted(member.payloads() + other.payloads()) == [b"y", b"z"]


def test_a_3_1_subscriber(connect: Any, topic: str) -> None:
    client = connect(V31)
    assert client.subscribe(topic, qos=1) == (1,)
    connect(V5).publish(topic, b"x")
    assert client.take().payload == b"x"
