"""Whatever can be written is read back the same; whatever octets come, nothing but PacketError is raised, and the two
paths agree.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshwire.mqtt import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    PacketStream,
    PingReq,
    PingResp,
    Place,
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
from meshwire.mqtt.decoder import REASONS, decode_body
from meshwire.mqtt.properties import _RULES, PacketType, _Kind

V5 = ProtocolVersion.V5
VERSIONS = st.sampled_from(ProtocolVersion)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
TOPIC = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=20)
FILTER = st.lists(st.sampled_from(["a", "bb", "+", "", "$SYS"]), min_size=1, max_size=5).map("/".join).filter(bool)
BINARY = st.binary(max_size=40)
ID = st.integers(1, 65_535)
QOS = st.integers(0, 2)

VALUES: dict[_Kind, st.SearchStrategy[Any]] = {
    _Kind.TEXT: TEXT,
    _Kind.BINARY: BINARY,
    _Kind.PAIR: st.tuples(TEXT, TEXT),
}


def properties(place: Place, *, without: tuple[str, ...] = ()) -> st.SearchStrategy[Properties]:
    """Any valid property list of this place, built from the table under test: names and ranges are checked by the
    vectors.
    """
    choices: dict[str, st.SearchStrategy[Any]] = {}
    widths = {_Kind.BYTE: 0xFF, _Kind.TWO: 0xFFFF, _Kind.FOUR: 0xFFFF_FFFF, _Kind.VARIABLE: 268_435_455}
    for rule in _RULES.values():
        if place not in rule.places or rule.name in without:
            continue
        if rule.is_topic:
            value = TOPIC
        elif rule.kind in widths:
            low = 1 if rule.name == "topic_alias" else rule.minimum
            value = st.integers(low, min(rule.maximum, widths[rule.kind]))
        else:
            value = VALUES[rule.kind]
        if rule.repeats:
            most = 1 if place is Place.SUBSCRIBE and rule.kind is _Kind.VARIABLE else 3
            choices[rule.name] = st.lists(value, max_size=most).map(tuple)
        else:
            choices[rule.name] = st.none() | value
    return st.fixed_dictionaries(choices).map(lambda found: Properties(**found)).map(canonical)


def canonical(found: Properties) -> Properties:
    return NO_PROPERTIES if found == NO_PROPERTIES else found


def listed(version: ProtocolVersion, place: Place, *, without: tuple[str, ...] = ()) -> st.SearchStrategy[Properties]:
    return properties(place, without=without) if version is V5 else st.just(NO_PROPERTIES)


def reason(version: ProtocolVersion, kind: PacketType) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(REASONS[kind])) if version is V5 else st.just(0)


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    version = draw(VERSIONS)
    will = draw(st.none() | st.builds(Will, TOPIC, BINARY, QOS, st.booleans(), listed(version, Place.WILL)))
    username = draw(st.none() | TEXT)
    password = draw(st.none() | BINARY) if username is not None or version is V5 else None
    found = draw(listed(version, Place.CONNECT, without=("authentication_data",)))
    clean, keep_alive = draw(st.booleans()), draw(st.integers(0, 65_535))
    is_bridge = draw(st.booleans()) and version is not V5
    return Connect(draw(TEXT), version, clean, keep_alive, will, username, password, found, is_bridge)


@st.composite
def publishes(draw: st.DrawFn, version: ProtocolVersion, side: Side) -> Publish:
    qos = draw(QOS)
    without = ("subscription_identifiers",) if side is Side.SERVER else ()
    found = draw(listed(version, Place.PUBLISH, without=without))
    dup = draw(st.booleans()) if qos else False
    return Publish(draw(TOPIC), draw(BINARY), qos, draw(st.booleans()), dup, draw(ID) if qos else 0, found)


def acknowledgements(version: ProtocolVersion) -> st.SearchStrategy[Packet]:
    kinds = (
        (PubAck, PacketType.PUBACK),
        (PubRec, PacketType.PUBREC),
        (PubRel, PacketType.PUBREL),
        (PubComp, PacketType.PUBCOMP),
    )
    return st.one_of(
        [st.builds(record, ID, reason(version, kind), listed(version, Place(kind))) for record, kind in kinds]
    )


def subscriptions(version: ProtocolVersion) -> st.SearchStrategy[TopicSubscription]:
    if version is not V5:
        return st.builds(TopicSubscription, FILTER, QOS)
    return st.builds(TopicSubscription, FILTER, QOS, st.booleans(), st.booleans(), st.integers(0, 2))


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Packet, ProtocolVersion, Side]:
    """A packet, the connection's version, and who receives it."""
    version, side = draw(VERSIONS), draw(st.sampled_from(Side))
    common = [publishes(version, side), acknowledgements(version)]
    if version is V5:
        common.append(st.builds(Disconnect, reason(version, PacketType.DISCONNECT), properties(Place.DISCONNECT)))
        common.append(st.builds(Auth, reason(version, PacketType.AUTH), properties(Place.AUTH)))
    if side is Side.SERVER:
        filters = st.lists(subscriptions(version), min_size=1, max_size=3).map(tuple)
        texts = st.lists(FILTER, min_size=1, max_size=3).map(tuple)
        special: list[st.SearchStrategy[Packet]] = [
            st.just(PingReq()),
            st.builds(Subscribe, ID, filters, listed(version, Place.SUBSCRIBE)),
            st.builds(Unsubscribe, ID, texts, listed(version, Place.UNSUBSCRIBE)),
        ]
    else:
        codes = sorted(REASONS[PacketType.SUBACK]) if version is V5 else [0, 1, 2, 0x80]
        answers = sorted(REASONS[PacketType.UNSUBACK])
        many = st.lists(st.sampled_from(answers), min_size=1, max_size=3).map(tuple)
        code = reason(version, PacketType.CONNACK) if version is V5 else st.integers(0, 5)
        special = [
            st.just(PingResp()),
            st.builds(ConnAck, st.booleans(), code, listed(version, Place.CONNACK)),
            st.builds(
                SubAck, ID, st.lists(st.sampled_from(codes), min_size=1).map(tuple), listed(version, Place.SUBACK)
            ),
            st.builds(UnsubAck, ID, many if version is V5 else st.just(()), listed(version, Place.UNSUBACK)),
        ]
    return draw(st.one_of(*common, *special)), version, side


def read(raw: bytes, version: ProtocolVersion, side: Side) -> list[Packet]:
    stream = PacketStream(side, version)
    stream.feed(raw)
    return list(stream.packets())


@given(exchanges())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_packet_comes_back_as_it_was(exchange: tuple[Packet, ProtocolVersion, Side]) -> None:
    packet, version, side = exchange
    assert read(encode(packet, version), version, side) == [packet]


@given(connects())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_connect_comes_back_and_sets_the_version(packet: Connect) -> None:
    stream = PacketStream(Side.SERVER)
    stream.feed(encode(packet, packet.version))
    assert list(stream.packets()) == [packet]
    assert stream.version is packet.version


@given(st.lists(exchanges(), min_size=1, max_size=4), st.lists(st.integers(1, 9), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_cuts_between_segments_change_nothing(
    some: list[tuple[Packet, ProtocolVersion, Side]], cuts: list[int]
) -> None:
    _, version, side = some[0]
    fitting = [packet for packet, its_version, its_side in some if (its_version, its_side) == (version, side)]
    raw = b"".join(encode(packet, version) for packet in fitting)
    stream, seen, position, turn = PacketStream(side, version), [], 0, 0
    while position < len(raw):
        step = cuts[turn % len(cuts)]
        stream.feed(raw[position : position + step])
        seen.extend(stream.packets())
        position, turn = position + step, turn + 1
    assert seen == fitting
    assert stream.buffered_octets == 0


@given(st.binary(max_size=200), VERSIONS, st.sampled_from(Side))
@settings(max_examples=1_500, deadline=None, derandomize=True)
def test_random_octets_raise_nothing_but_packet_error(raw: bytes, version: ProtocolVersion, side: Side) -> None:
    try:
        read(raw, version, side)
    except PacketError:
        pass


@given(exchanges(), st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_damaged_packets_raise_nothing_but_packet_error(
    exchange: tuple[Packet, ProtocolVersion, Side], data: st.DataObject
) -> None:
    packet, version, side = exchange
    raw = bytearray(encode(packet, version))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read(bytes(raw), version, side)
    except PacketError:
        pass


@given(st.integers(0, 15), st.binary(max_size=60))
@settings(max_examples=1_000, deadline=None, derandomize=True)
def test_the_short_way_for_publish_agrees_with_the_long_way(flags: int, body: bytes) -> None:
    first = 0x30 | flags
    outcomes: list[object] = []
    for way in (
        lambda: read(bytes((first, len(body))) + body, ProtocolVersion.V3_1_1, Side.SERVER),
        lambda: [decode_body(first, body, ProtocolVersion.V3_1_1, Side.SERVER)],
    ):
        try:
            outcomes.append(way())
        except PacketError as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1]
