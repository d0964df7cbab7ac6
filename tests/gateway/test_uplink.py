"""The short way for notifications gives what the general codec gives, octet for octet, or stands back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import StoredNotification, pack
from gateway.publication import PacketMaker
from gateway.segments import Record
from gateway.settings import BridgeSettings, CategoryRule, Qos
from gateway.uplink import MAX_ROUTES, Origin, RouteTable, Uplink, pack_uplink
from meshwire.coap import CON, Message, MessageError, codes, decode, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.mqtt import MqttError, ProtocolVersion
from meshwire.notification import Notification, NotificationError, parse_uplink, uplink_request

MACS = st.sampled_from([DeviceId("001350050047dd92"), DeviceId("00135005004700ff")])
SEGMENT = st.text(min_size=1, max_size=30).filter(lambda text: "/" not in text)
RECORDS = st.tuples(st.text(max_size=12), st.text(max_size=80)).map(lambda pair: cbor2.dumps({0: pair[0], 1: pair[1]}))
NOTIFICATIONS = st.builds(
    Notification,
    device=MACS,
    path=st.lists(SEGMENT, min_size=1, max_size=4).map("/".join),
    observe=st.integers(0, 0xFFFFFF),
    epoch=st.integers(0, (1 << 63) - 1),
    content_format=st.none() | st.integers(0, 0xFFFF),
    payload=st.binary(max_size=300) | RECORDS,
    time_s=st.integers(0, 2_000_000_000_000).map(lambda ms: ms / 1000),
)


def request(notification: Notification, token: bytes = b"up") -> bytes:
    segments, queries = uplink_request(notification)
    pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
    if notification.content_format is not None:
        pairs.append((options.CONTENT_FORMAT, options.encode_uint(notification.content_format)))
    pairs += [(options.URI_QUERY, query.encode()) for query in queries]
    return encode(Message(CON, codes.POST, 7, token, tuple(pairs), notification.payload))


def as_the_general_codec_reads_it(octets: bytes) -> Notification | None:
    """What the sink's general way would store of it; None when it would not."""
    try:
        message = decode(octets)
        known = {options.URI_PATH, options.URI_QUERY, options.CONTENT_FORMAT}
        if (message.mtype, message.code) != (CON, codes.POST) or not {n for n, _ in message.options} <= known:
            return None
        content_format = message.uint(options.CONTENT_FORMAT)
        return parse_uplink(message.path(), message.query(), content_format, message.payload)
    except (MessageError, NotificationError):
        return None


def check(uplink: Uplink, octets: bytes) -> None:
    notification = as_the_general_codec_reads_it(octets)
    assert notification is not None
    stored = StoredNotification(TenantId("acme"), notification)
    assert uplink.key == notification.key.encode()
    assert pack_uplink(uplink, "acme") == pack(stored)


@given(st.lists(NOTIFICATIONS, max_size=5), st.binary(max_size=8))
def test_reads_what_the_general_codec_reads(notifications: list[Notification], token: bytes) -> None:
    table = RouteTable()
    for notification in notifications * 2:
        octets = request(notification, token)
        uplink = table.read(octets, 5)
        if uplink is not None:
            check(uplink, octets)


USUAL = Notification(DeviceId("001350050047dd92"), "snsr/arduino/temp", 70, 12, 60, b"21.5", 1_700_000_000.25)


@pytest.mark.parametrize("epoch", [0, 9_999_999_999, 99_999_999_999, 1_700_000_000_123])
@pytest.mark.parametrize("observe", [0, 9, 12_345, 0xFFFFFF])
@pytest.mark.parametrize("content_format", [None, 0, 60, 300])
def test_the_usual_spelling_goes_the_short_way(epoch: int, observe: int, content_format: int | None) -> None:
    octets = request(replace(USUAL, epoch=epoch, observe=observe, content_format=content_format))
    for port in (1, 1, 2):
        uplink = RouteTable().read(octets, port)
        assert uplink is not None
        check(uplink, octets)


@given(st.data())
def test_damaged_datagrams_are_never_read_differently(data: Any) -> None:
    table = RouteTable()
    octets = bytearray(request(USUAL))
    assert table.read(bytes(octets), 5) is not None
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(octets[: data.draw(st.integers(0, len(octets)))])
    uplink = table.read(damaged, 5)
    if uplink is not None:
        check(uplink, damaged)


def test_routes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.uplink.MAX_ROUTES", 10)
    table = RouteTable()
    for number in range(100):
        assert table.read(request(replace(USUAL, path=f"a/{number}")), number % 7) is not None
        assert len(table._routes) <= 10 and len(table._old_routes) <= 10


def test_a_route_that_is_used_is_kept_while_others_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.uplink.MAX_ROUTES", 10)
    table = RouteTable()
    first = table.read(request(USUAL), 1)
    for number in range(100):
        table.read(request(replace(USUAL, path=f"a/{number}")), 2)
        if number % 5 == 0:
            again = table.read(request(USUAL), 1)
            assert first is not None and again is not None and again.route is first.route


def test_as_many_devices_as_a_large_site_has_are_each_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.uplink.MAX_ROUTES", MAX_ROUTES // 1000)
    table, devices = RouteTable(), MAX_ROUTES // 1000
    learnt: list[bytes] = []
    learn = table._learn
    monkeypatch.setattr(table, "_learn", lambda constant: learnt.append(constant) or learn(constant))
    for turn in range(3):
        for number in range(devices):
            one = replace(USUAL, device=DeviceId(f"{number:016x}"), observe=turn)
            assert table.read(request(one), 4849) is not None
    assert MAX_ROUTES == 100_000 and len(learnt) == devices


@given(NOTIFICATIONS, st.sampled_from(list(Qos)), st.sampled_from(list(CategoryRule)), st.booleans())
def test_packets_are_the_same_from_memory_and_from_disk(
    notification: Notification, qos: Qos, rule: CategoryRule, five: bool
) -> None:
    notification = replace(notification, time_s=1_700_000_000 + notification.time_s % 1000)
    octets = request(notification)
    uplink = RouteTable().read(octets, 1)
    if uplink is None:
        return
    maker = PacketMaker(BridgeSettings(default_message_qos=qos, default_category=rule))
    version = ProtocolVersion.V5 if five else ProtocolVersion.V3_1_1
    from_disk = Record(1, 0, pack_uplink(uplink, "acme"), 0)
    results = []
    for record in (from_disk, from_disk._replace(companion=Origin(uplink, "acme"))):
        try:
            results.append(maker.packets(record, version))
        except MqttError:
            results.append([])
    assert results[0] == results[1]


@given(st.lists(NOTIFICATIONS, max_size=4), st.sampled_from(list(Qos)), st.booleans(), st.booleans())
def test_a_run_has_the_packets_that_single_records_have(
    notifications: list[Notification], qos: Qos, five: bool, user_properties: bool
) -> None:
    maker = PacketMaker(BridgeSettings(default_message_qos=qos, user_properties=user_properties))
    version = ProtocolVersion.V5 if five else ProtocolVersion.V3_1_1
    table, records = RouteTable(), []
    for notification in notifications * 2:
        uplink = table.read(request(replace(notification, time_s=1_700_000_000 + notification.time_s % 1000)), 1)
        if uplink is not None:
            records.append(Record(len(records) + 1, 0, pack_uplink(uplink, "acme"), 0, Origin(uplink, "acme")))
    identifiers = bytes(range(1, 2 * len(records) + 1))
    packets = maker.run(records, identifiers, version)
    assert not packets or qos is Qos.AT_LEAST_ONCE
    for number, packet in enumerate(packets):
        ((head, tail),) = maker.packets(records[number], version)
        assert packet == head + identifiers[2 * number : 2 * number + 2] + tail
        ((head, tail),) = maker.packets(records[number]._replace(companion=None), version)
        assert packet == head + identifiers[2 * number : 2 * number + 2] + tail


def usual_records() -> list[Record]:
    table, records = RouteTable(), []
    for number in range(3):
        uplink = table.read(request(replace(USUAL, observe=70 + number, payload=b"\xa2\x00dtemp\x01d21.5")), 1)
        assert uplink is not None
        records.append(Record(number, 0, b"", 0, Origin(uplink, "acme")))
    return records


@pytest.mark.parametrize(("rule", "count"), [(CategoryRule.READ, 3), (CategoryRule.BOTH, 0)])
def test_a_usual_record_is_in_a_run_and_one_that_goes_two_ways_is_not(rule: CategoryRule, count: int) -> None:
    maker = PacketMaker(BridgeSettings(default_category=rule))
    assert len(maker.run(usual_records(), bytes(6), ProtocolVersion.V5)) == count


def test_a_run_ends_where_a_record_comes_from_disk() -> None:
    first, second, third = usual_records()
    records = [first, second._replace(companion=None), third]
    assert len(PacketMaker(BridgeSettings()).run(records, bytes(6), ProtocolVersion.V5)) == 1
