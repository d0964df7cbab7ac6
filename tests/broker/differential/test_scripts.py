"""The same script against our broker and a peer: the same observations, or the clause that permits the difference.

A difference is data: what the peer shows and why both may. The peer's part is checked as well, so that a difference
that went away is noticed.
"""

import inspect
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshwire.mqtt import (
    Auth,
    Disconnect,
    PingReq,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    TopicSubscription,
    Unsubscribe,
    Will,
)

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
DIFFERENCES = tomllib.loads((Path(__file__).parent / "differences.toml").read_text())
"""script -> peer -> {clause, shows}."""

pytestmark = pytest.mark.server

Script = Callable[[Any], None]
SCRIPTS: dict[str, Script] = {}


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


# --- CONNECT ----------


@script
def unknown_protocol_level(world: Any) -> None:
    wire = world.dial(V311)
    wire.octets("10 0d 0004 4d515454 09 02 0000 0001 61")
    for packet in wire.until_closed():
        world.note("answer", packet)


@script
def packets_before_connect(world: Any) -> None:
    for octets in ("c0 00", "30 03 0001 74"):
        wire = world.dial(V311)
        wire.octets(octets)
        world.note("said", len(wire.until_closed()))


@script
def second_connect(world: Any) -> None:
    for version in (V311, V5):
        wire = world.join(version)
        wire.send(world.hello(version))
        world.outcome(wire, version.name)


@script
def reserved_connect_flag(world: Any) -> None:
    wire = world.dial(V311)
    wire.octets("10 0d 0004 4d515454 04 03 0000 0001 61")
    world.note("said", len(wire.until_closed()))


@script
def empty_client_id(world: Any) -> None:
    for version, clean in ((V311, True), (V311, False), (V5, True), (V5, False)):
        wire = world.dial(version)
        answer = wire.ask(world.hello(version, "", clean))
        assigned = bool(getattr(answer, "properties", None) and answer.properties.assigned_client_identifier)
        world.note(f"{version.name} clean={clean}", answer, f"assigned={assigned}")


@script
def session_present(world: Any) -> None:
    keep = Properties(session_expiry_interval=100)
    for version, properties in ((V311, None), (V5, keep)):
        for clean in (True, False, False, True, False):
            wire = world.join(version, f"s{version}", clean=clean, properties=properties)
            world.note(f"{version.name} clean={clean}", wire.connack)
            world.leave(wire)


@script
def take_over(world: Any) -> None:
    for version in (V311, V5):
        first = world.join(version, f"t{version}")
        world.join(version, f"t{version}")
        world.note(version.name, *first.until_closed(), None)


@script
def take_over_of_a_session_without_expiry(world: Any) -> None:
    for version, keep in ((V311, None), (V5, Properties(session_expiry_interval=100))):
        first = world.join(version, f"t{version}", clean=True)
        world.subscribe(first, "a")
        second = world.join(version, f"t{version}", clean=False, properties=keep)
        world.note("second", second.connack)
        world.publish(world.join(V5, "p"), "a")
        world.received(second)


@script
def enhanced_authentication(world: Any) -> None:
    wire = world.dial(V5)
    wire.send(world.hello(V5, "a", properties=Properties(authentication_method="SCRAM")))
    world.note("refused", wire.next().reason_code >= 0x80, wire.next())


@script
def auth_without_a_method(world: Any) -> None:
    wire = world.join(V5)
    wire.send(Auth(0x19, Properties(authentication_method="X")))
    world.outcome(wire, "auth")


@script
def v3_1_client(world: Any) -> None:
    wire = world.join(V31)
    world.subscribe(wire, "a", qos=1)
    world.publish(wire, "a", b"x", 1)
    world.received(wire)


# --- messages ----------


@script
def qos_of_every_pair(world: Any) -> None:
    for subscriber_version in (V311, V5):
        for publisher_version in (V311, V5):
            sender = world.join(publisher_version, f"p{subscriber_version}{publisher_version}")
            for granted in (0, 1, 2):
                receiver = world.join(subscriber_version, f"r{subscriber_version}{publisher_version}{granted}")
                world.subscribe(receiver, "a", qos=granted)
                for published in (0, 1, 2):
                    world.publish(sender, "a", b"%d" % published, published)
                    world.received(receiver, f"granted {granted}")
                world.leave(receiver)


@script
def qos_2_repeated(world: Any) -> None:
    for version in (V311, V5):
        receiver, sender = world.join(V5, f"r{version}"), world.join(version, f"p{version}")
        world.subscribe(receiver, "a")
        for dup in (False, True):
            world.note("answer", sender.ask(Publish(world.topic("a"), b"x", 2, dup=dup, packet_id=5)))
        world.note("answer", sender.ask(PubRel(5)))
        world.received(receiver)
        world.note("unknown release", sender.ask(PubRel(77)))


@script
def unknown_acknowledgements(world: Any) -> None:
    for version in (V311, V5):
        wire = world.join(version, f"u{version}")
        wire.send(PubAck(77))
        world.outcome(wire, f"{version.name} PUBACK")
        wire = world.join(version, f"u{version}")
        wire.send(PubRec(77))
        world.outcome(wire, f"{version.name} PUBREC")
        wire = world.join(version, f"u{version}")
        wire.send(PubComp(77))
        world.outcome(wire, f"{version.name} PUBCOMP")


@script
def redelivery(world: Any) -> None:
    keep = Properties(session_expiry_interval=100)
    for version, properties in ((V311, None), (V5, keep)):
        receiver = world.join(version, f"r{version}", clean=False, properties=properties)
        world.subscribe(receiver, f"a{version}")
        sender = world.join(V5, f"p{version}")
        world.publish(sender, f"a{version}", b"1", 1)
        world.publish(sender, f"a{version}", b"2", 2)
        world.settle()
        for packet in receiver.fenced():
            world.note(f"{version.name} first", packet)
            if packet.qos == 2:
                world.note(version.name, receiver.ask(PubRec(packet.packet_id)))
        world.leave(receiver)
        again = world.join(version, f"r{version}", clean=False, properties=properties)
        world.settle()
        for line in sorted(map(world.words, again.fenced())):
            world.note(f"{version.name} again", line)


@script
def queue_of_an_absent_client(world: Any) -> None:
    receiver = world.join(V311, "r", clean=False)
    world.subscribe(receiver, "a")
    world.leave(receiver)
    sender = world.join(V5, "p")
    for number in range(6):
        world.publish(sender, "a", b"%d" % number, number % 3)
    again = world.join(V311, "r", clean=False)
    world.note("back", again.connack)
    world.received(again)


@script
def messages_of_a_clean_client_are_not_kept(world: Any) -> None:
    receiver = world.join(V311, "r")
    world.subscribe(receiver, "a")
    world.leave(receiver)
    world.publish(world.join(V5, "p"), "a")
    again = world.join(V311, "r", clean=False)
    world.note("back", again.connack)
    world.received(again)


@script
def overlapping_subscriptions(world: Any) -> None:
    for version in (V311, V5):
        receiver = world.join(version, f"r{version}")
        world.subscribe(receiver, "a/#", qos=0)
        world.subscribe(receiver, "a/+", qos=2)
        world.subscribe(receiver, "a/b", qos=1)
        world.publish(world.join(V5, f"p{version}"), "a/b", b"x", 2)
        world.received(receiver, ordered=False)


@script
def properties_pass_through(world: Any) -> None:
    receiver, sender = world.join(V5, "r"), world.join(V5, "p")
    world.subscribe(receiver, "a")
    properties = Properties(
        payload_format_indicator=1,
        content_type="text/plain",
        response_topic="x/y",
        correlation_data=b"\0\1",
        user_properties=(("b", "1"), ("a", "2"), ("b", "1")),
    )
    for qos in (0, 1, 2):
        world.publish(sender, "a", b"x", qos, properties=properties)
        [received] = world.received(receiver)
        world.note("properties", received.properties == properties)


@script
def message_expiry(world: Any) -> None:
    keep = Properties(session_expiry_interval=100)
    receiver = world.join(V5, "r", clean=False, properties=keep)
    world.subscribe(receiver, "a")
    world.leave(receiver)
    sender = world.join(V5, "p")
    world.publish(sender, "a", b"short", 1, properties=Properties(message_expiry_interval=1))
    world.publish(sender, "a", b"long", 1, properties=Properties(message_expiry_interval=100))
    world.settle(2.1)
    for packet in world.received(world.join(V5, "r", clean=False, properties=keep)):
        world.note("expiry counted down", (packet.properties.message_expiry_interval or 0) < 100)


@script
def subscription_identifiers(world: Any) -> None:
    receiver = world.join(V5, "r")
    for number, text in enumerate(("a/#", "a/+", "b"), 1):
        world.subscribe(receiver, text, properties=Properties(subscription_identifiers=(number,)))
    world.publish(world.join(V5, "p"), "a/b")
    got = world.received(receiver)
    world.note("all", sorted(number for packet in got for number in packet.properties.subscription_identifiers))


@script
def no_local(world: Any) -> None:
    wire, other = world.join(V5, "r"), world.join(V5, "o")
    for client in (wire, other):
        world.subscribe(client, "a", no_local=True)
    world.publish(wire, "a", b"x", 0)
    world.received(wire, "own")
    world.received(other, "other")


@script
def receive_maximum(world: Any) -> None:
    receiver, sender = world.join(V5, "r", properties=Properties(receive_maximum=2)), world.join(V5, "p")
    world.subscribe(receiver, "a")
    for number in range(5):
        world.publish(sender, "a", b"%d" % number, 1)
    world.settle()
    window = receiver.fenced()
    world.note("at once", len(window))
    for packet in window:
        receiver.send(PubAck(packet.packet_id))
    world.received(receiver)


@script
def maximum_packet_size(world: Any) -> None:
    receiver, sender = world.join(V5, "r", properties=Properties(maximum_packet_size=60)), world.join(V5, "p")
    world.subscribe(receiver, "a")
    for length in (10, 100, 20):
        world.publish(sender, "a", b"x" * length, 1)
    world.received(receiver)


@script
def topic_aliases(world: Any) -> None:
    receiver, sender = world.join(V5, "r"), world.join(V5, "p")
    world.subscribe(receiver, "a")
    world.note("aliases accepted", bool(sender.connack.properties.topic_alias_maximum))
    sender.send(Publish(world.topic("a"), b"1", properties=Properties(topic_alias=1)))
    sender.send(Publish("", b"2", properties=Properties(topic_alias=1)))
    world.outcome(sender, "sender")
    world.received(receiver)


BAD_ALIASES = {"zero": "30 06 0000 03 230000", "unknown": "30 06 0000 03 230005", "too large": "30 06 0000 03 23ffff"}


@script
def bad_topic_aliases(world: Any) -> None:
    for name, octets in BAD_ALIASES.items():
        wire = world.join(V5, "b")
        wire.octets(octets)
        world.outcome(wire, name)


@script
def nobody_listens(world: Any) -> None:
    for version in (V311, V5):
        wire = world.join(version, f"n{version}")
        for qos in (1, 2):
            world.note(version.name, wire.ask(Publish(world.topic("none"), b"x", qos, packet_id=qos)))


# --- retained ----------


@script
def retained(world: Any) -> None:
    for version in (V311, V5):
        name = f"a{version}"
        sender = world.join(version, f"p{version}")
        live = world.join(version, f"l{version}")
        world.subscribe(live, name)
        for payload in (b"1", b"2", b""):
            world.publish(sender, name, payload, 1, retain=True)
            world.received(live, "live")
            late = world.join(version, f"r{version}{payload.decode()}")
            world.subscribe(late, name)
            world.received(late, "late")
        world.publish(sender, name, b"3", 2, retain=True)
        world.publish(sender, name, b"not kept", 2)
        for qos in (0, 1, 2):
            late = world.join(version, f"q{version}{qos}")
            world.subscribe(late, name, qos=qos)
            world.received(late, "late")


@script
def retained_by_wildcard(world: Any) -> None:
    sender = world.join(V311, "p")
    for name in ("a", "a/b", "a/c", "a/b/c"):
        world.publish(sender, name, name.encode(), 1, retain=True)
    for text in ("a/#", "a/+", "+/a", "a/b/#"):
        late = world.join(V311, f"r{text}")
        world.subscribe(late, world.topic(text) if text.startswith("+") else text)
        world.received(late, text, ordered=False)


@script
def retain_handling(world: Any) -> None:
    world.publish(world.join(V5, "p"), "a", b"x", 1, retain=True)
    for handling in (0, 1, 2):
        wire = world.join(V5, f"r{handling}")
        for _ in range(2):
            world.subscribe(wire, "a", retain_handling=handling)
            world.received(wire, f"handling {handling}")


@script
def retain_as_published(world: Any) -> None:
    for as_published in (False, True):
        wire = world.join(V5, f"r{as_published}")
        world.subscribe(wire, "a", retain_as_published=as_published)
        for retain in (False, True):
            world.publish(world.join(V5, "p"), "a", b"x", 1, retain=retain)
            world.received(wire, f"as published {as_published}")


# --- wills ----------


@script
def wills(world: Any) -> None:
    watcher = world.join(V5, "w")
    world.subscribe(watcher, "will/#")
    for version in (V311, V5):
        for qos in (0, 1, 2):
            will = Will(world.topic(f"will/{version}"), b"gone", qos)
            world.leave(world.join(version, f"c{version}{qos}", will=will))
            world.received(watcher, "broken off")
            wire = world.join(version, f"c{version}{qos}", will=will)
            wire.send(Disconnect())
            wire.until_closed()
            world.received(watcher, "good-bye")


@script
def will_with_a_good_bye_that_asks_for_it(world: Any) -> None:
    watcher = world.join(V5, "w")
    world.subscribe(watcher, "will")
    wire = world.join(V5, "c", will=Will(world.topic("will"), b"gone"))
    wire.send(Disconnect(0x04))
    wire.until_closed()
    world.received(watcher)


@script
def retained_will(world: Any) -> None:
    world.leave(world.join(V311, "c", will=Will(world.topic("will"), b"gone", 1, True)))
    late = world.join(V311, "r")
    world.subscribe(late, "will")
    world.received(late)


@script
def will_at_take_over(world: Any) -> None:
    watcher = world.join(V5, "w")
    world.subscribe(watcher, "will")
    for version in (V311, V5):
        world.join(version, f"c{version}", will=Will(world.topic("will"), b"gone", 1))
        world.join(version, f"c{version}")
        world.received(watcher, version.name)


@script
def will_delay(world: Any) -> None:
    watcher = world.join(V5, "w")
    world.subscribe(watcher, "will")
    will = Will(world.topic("will"), b"gone", 1, properties=Properties(will_delay_interval=1))
    keep = Properties(session_expiry_interval=100)
    world.leave(world.join(V5, "c", clean=False, will=will, properties=keep))
    world.received(watcher, "at once")
    world.settle(2.2)
    world.received(watcher, "later")
    world.leave(world.join(V5, "c", clean=False, will=will, properties=keep))
    world.join(V5, "c", clean=False, properties=keep)
    world.settle(2.2)
    world.received(watcher, "after coming back")


# --- SUBSCRIBE, UNSUBSCRIBE, topics ----------


@script
def unsubscribe_codes(world: Any) -> None:
    for version in (V311, V5):
        wire = world.join(version, f"u{version}")
        world.subscribe(wire, "a", "b")
        for names in (("a", "c", "b"), ("a",)):
            wire.send(Unsubscribe(9, tuple(world.topic(name) for name in names)))
            world.note(version.name, wire.next())
        world.publish(wire, "a", b"x", 0)
        world.received(wire)


@script
def subscribing_again(world: Any) -> None:
    for version in (V311, V5):
        wire, name = world.join(version, f"s{version}"), f"a{version}"
        world.publish(wire, name, b"kept", 1, retain=True)
        world.subscribe(wire, name, qos=2)
        world.received(wire)
        world.subscribe(wire, name, qos=0)
        world.received(wire)
        world.publish(wire, name, b"x", 2)
        world.received(wire)


BAD_FILTERS = ("", "a/#/b", "a#", "a+", "+a", "#/", "a/+b")


@script
def bad_filters(world: Any) -> None:
    for version in (V311, V5):
        for text in BAD_FILTERS:
            wire = world.join(version, "f")
            body = b"\0\1" + (b"\0" if version is V5 else b"") + len(text).to_bytes(2, "big") + text.encode() + b"\0"
            wire.octets(bytes((0x82, len(body))) + body)
            world.outcome(wire, f"{version.name} {text!r}")


BAD_TOPICS = {"+": "2b", "a/#": "612f23", "empty": "", "U+0000": "610062", "no UTF-8": "ff", "surrogate": "eda080"}


@script
def bad_topics(world: Any) -> None:
    for version in (V311, V5):
        for name, octets in BAD_TOPICS.items():
            wire, raw = world.join(version, "t"), bytes.fromhex(octets)
            body = len(raw).to_bytes(2, "big") + raw + (b"\0" if version is V5 else b"") + b"x"
            wire.octets(bytes((0x30, len(body))) + body)
            world.outcome(wire, f"{version.name} {name}")


@script
def matching(world: Any) -> None:
    names = ["a", "a/b", "a/b/c", "/a", "a/", "a//b", "A/b", "a b", "\u00e9", "e\u0301"]
    sender = world.join(V311, "p")
    for text in ["#", "a/#", "a/+", "+/b", "+", "+/+", "/+", "a/+/c", "a//b", "a/b", "\u00e9", "a/b/#", "+/#", "a/"]:
        wire = world.join(V311, "m")
        world.subscribe(wire, world.topic(text) if text[0] in "+#" else text, qos=1)
        for name in names:
            world.publish(sender, name, b"", 1)
        got = world.drain(wire)
        world.note(text, sorted({packet.topic.removeprefix(f"{world.prefix}/") for packet in got}))


@script
def dollar_topics(world: Any) -> None:
    wire = world.join(V311, "d")
    world.subscribe(wire, "#", "+/#", qos=0)
    world.settle()
    world.note("seen", [packet.topic for packet in wire.fenced() if packet.topic.startswith("$")])


@script
def shared_subscriptions(world: Any) -> None:
    for version in (V311, V5):
        members = [world.join(version, f"m{version}{number}") for number in range(2)]
        for member in members:
            world.subscribe(member, f"$share/g{version}/{world.topic('a')}", qos=1)
        sender = world.join(V5, f"p{version}")
        for number in range(6):
            world.publish(sender, "a", b"%d" % number, 1)
        got = [packet.payload for member in members for packet in world.drain(member)]
        world.note(version.name, sorted(got))


@script
def no_local_on_a_shared_subscription(world: Any) -> None:
    wire = world.join(V5, "n")
    wire.octets(b"\x82\x10\x00\x02\x00\x00\x0a$share/g/a\x04")
    world.outcome(wire, "no local")


# --- malformed packets ----------

MALFORMED = {
    "QoS 3": "36 05 0001 74 0001",
    "DUP at QoS 0": "38 03 0001 74",
    "identifier 0": "32 05 0001 74 0000",
    "PUBREL flags": "60 02 0001",
    "SUBSCRIBE flags": "80 06 0001 0001 61 00",
    "UNSUBSCRIBE flags": "a0 05 0001 0001 61",
    "PINGREQ flags": "c1 00",
    "DISCONNECT flags": "e1 00",
    "PUBACK flags": "41 02 0001",
    "SUBSCRIBE without filter": "82 02 0001",
    "UNSUBSCRIBE without filter": "a2 02 0001",
    "QoS 3 wanted": "82 06 0001 0001 61 03",
    "reserved options": "82 06 0001 0001 61 40",
    "CONNACK": "20 02 0000",
    "SUBACK": "90 03 0001 00",
    "PINGRESP": "d0 00",
    "type 0": "00 00",
    "type 15": "f0 00",
    "length of five octets": "30 ffffffff7f",
    "padded length": "c0 8000",
    "topic longer than the packet": "30 03 0009 74",
}


@script
def malformed_packets_of_3_1_1(world: Any) -> None:
    for name, octets in MALFORMED.items():
        wire = world.join(V311, "x")
        wire.octets(octets)
        world.outcome(wire, name)


MALFORMED_V5 = {
    "unknown property": "30 06 0001 74 02 0400",
    "misplaced property": "30 07 0001 74 03 210001",
    "property twice": "30 08 0001 74 04 01010101",
    "payload format 2": "30 06 0001 74 02 0102",
    "subscription identifier from a client": "30 06 0001 74 02 0b05",
    "response topic with wildcard": "30 08 0001 74 04 08 0001 23",
    "subscription identifier 0": "82 09 0001 02 0b00 0001 61 00",
    "retain handling 3": "82 07 0001 00 0001 61 30",
    "PUBACK with an unknown reason": "40 03 0001 55",
    "DISCONNECT with an unknown reason": "e0 01 01",
    "empty topic without alias": "30 03 0000 00",
    "session expiry at DISCONNECT": "e0 07 00 05 1100000005",
}


@script
def malformed_packets_of_5_0(world: Any) -> None:
    for name, octets in MALFORMED_V5.items():
        wire = world.join(V5, "x")
        wire.octets(octets)
        world.outcome(wire, name)


@script
def pings_and_pieces(world: Any) -> None:
    wire = world.join(V311, "p")
    for octet in b"\xc0\x00\xc0\x00":
        wire.octets(bytes((octet,)))
    world.note("answers", wire.next(), wire.next())
    wire.send(PingReq(), Subscribe(1, (TopicSubscription(world.topic("a"), 0),)), PingReq())
    world.note("answers", *(wire.next() for _ in range(3)))


# --- the comparison ----------


def only_in(first: list[str], second: list[str]) -> list[str]:
    """Lines of the first that the second does not have as often, in order."""
    left = Counter(second)
    found = []
    for line in first:
        if left[line]:
            left[line] -= 1
        else:
            found.append(line)
    return found


def compare(name: str, ours: list[str], theirs: list[str], peer: str) -> None:
    difference = DIFFERENCES.get(name, {}).get(peer)
    if difference is None:
        assert ours == theirs
        return
    assert len(difference["clause"]) > 10
    assert only_in(ours, theirs) == difference["ours"]
    assert only_in(theirs, ours) == difference["theirs"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_ours_and_mosquitto(name: str, ours: Any, mosquitto: Any, observe: Any) -> None:
    compare(name, observe(ours, SCRIPTS[name]), observe(mosquitto, SCRIPTS[name]), "mosquitto")


@pytest.mark.parametrize("name", SCRIPTS)
def test_ours_and_ejabberd(name: str, ours: Any, ejabberd: Any, observe: Any) -> None:
    compare(name, observe(ours, SCRIPTS[name]), observe(ejabberd, SCRIPTS[name]), "ejabberd")


def test_every_difference_has_its_script() -> None:
    assert set(DIFFERENCES) <= set(SCRIPTS)
    assert all(inspect.isfunction(function) for function in SCRIPTS.values())
