"""Decoded copies: the vendor's types, forms of one's own, hostile payloads, rules on QoS, retained and decoded."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.decoders import (
    BUILT_IN,
    BinaryForm,
    Decoded,
    DecoderSettings,
    Measurement,
    TextForm,
    Undecodable,
    decode,
    decoders_for,
)
from gateway.envelope import StoredNotification, pack
from gateway.publication import PacketMaker, Publisher
from gateway.segments import Record
from gateway.senml import senml_json
from gateway.settings import BridgeSettings
from gateway.statistics import Event, Statistics
from gateway.uplink import Origin, RouteTable, pack_uplink
from meshwire.coap import CON, Message, codes, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.mqtt import ProtocolVersion
from meshwire.notification import Notification, uplink_request

MAC = DeviceId("001350050047dd92")
DECODERS = decoders_for(())
LNIC = bytes.fromhex(
    "a200646c6e69630158 2557d8981400011a760019100002 0001020967 0003014c 00050c00000130000002d00000023c".replace(
        " ", ""
    )
)


def record(kind: str, value: object) -> bytes:
    return cbor2.dumps({0: kind, 1: value})


def values(kind: str, payload: bytes) -> dict[str, float | str]:
    return {one.name: one.value for one in decode(DECODERS[kind], payload).values}


@pytest.mark.parametrize(
    ("payload", "celsius"),
    [
        (record("temp", "1700000008,72.50,F"), 22.5),
        (record("temp", "1700000008,22.50,C"), 22.5),
        (b"1700000008,-40.00,F", -40.0),
        (record("temp", "1700000008,0.00,F"), -17.7777778),
    ],
)
def test_temp_in_both_units_as_record_and_as_text(payload: bytes, celsius: float) -> None:
    assert decode(DECODERS["temp"], payload) == Decoded((Measurement("temperature", celsius, "Cel"),), 1_700_000_008.0)


def test_a_clock_that_was_never_set_does_not_count() -> None:
    assert decode(DECODERS["temp"], b"943920000,1.00,C").time_s is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10,lvl", {"level": 10.0}),
        ("14/09/16/00/21/40,t,7,lvl", {"level": 7.0}),
        ("3,h,OK,s", {"health": 3.0, "status": "OK"}),
        ("3,h,NG,s,LB,s", {"health": 3.0, "status": "NG", "battery": "LB"}),
        ("LB,1,2", {"LB": "1,2"}),
        ("R,x", {"R": "x"}),
        ("SF,", {"SF": ""}),
    ],
)
def test_ncmth1(text: str, expected: dict[str, float | str]) -> None:
    assert values("ncmth1", record("ncmth1", text)) == expected


def test_ncmth1_of_the_dialect_and_its_clock() -> None:
    assert values("ncmth1", bytes.fromhex("a200666e636d746831016631302c6c766c")) == {"level": 10.0}
    assert decode(DECODERS["ncmth1"], b"14/09/16/00/21/40,t,7,lvl").time_s == 1_473_812_500.0


def test_lnic_of_the_dialect() -> None:
    decoded = decode(DECODERS["lnic"], LNIC)
    assert {one.name: one.value for one in decoded.values} == {
        "sequence": 72_310.0,
        "temperature": 24.07,
        "humidity": 76.0,
        "tilt_x": 304.0,
        "tilt_y": 720.0,
        "tilt_z": 572.0,
    }
    assert decoded.time_s == 1_473_812_500.0


@pytest.mark.parametrize("kind", ["temp", "ncmth1", "lnic"])
@given(noise=st.binary(max_size=80), value=st.one_of(st.text(max_size=40), st.binary(max_size=60), st.integers()))
def test_whatever_comes_is_decoded_or_refused(kind: str, noise: bytes, value: object) -> None:
    for payload in (noise, record(kind, value)):
        try:
            decoded = decode(DECODERS[kind], payload)
        except Undecodable:
            continue
        json.loads(senml_json(Notification(MAC, "a/b", 1, 1, 60, payload, 5.0), decoded))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("temp", b"1700000008,1e999,C"),
        ("temp", b"1700000008,nan,C"),
        ("temp", b"1700000008,1_0,C"),
        ("temp", b"1700000008,1.0,K"),
        ("temp", b"1700000008,1.0"),
        ("temp", record("temp", b"octets")),
        ("temp", record("temp", 5)),
        ("temp", b"\xff\xfe"),
        ("ncmth1", b"99/99/99/99/99/99,t,1,lvl"),
        ("lnic", record("lnic", "text")),
        ("lnic", LNIC[:-1]),
        ("lnic", record("lnic", bytes(12))),
        ("lnic", record("lnic", bytes(13) + b"\x00\x05\x04abcd")),
        ("lnic", record("lnic", bytes(13) + b"\x00\x03\x09" + bytes(9))),
    ],
)
def test_malformed_payloads_are_refused(kind: str, payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(DECODERS[kind], payload)


def test_a_flood_of_items_is_refused() -> None:
    with pytest.raises(Undecodable, match="more than"):
        decode(DECODERS["lnic"], record("lnic", bytes(13) + b"\x00\x03\x01\x05" * 5000))


def test_senml() -> None:
    notification = Notification(MAC, "snsr/arduino/temp", 4, 2, 60, b"", 1_700_000_008.25)
    decoded = Decoded((Measurement("temperature", 22.5, "Cel"), Measurement("status", "OK")))
    assert json.loads(senml_json(notification, decoded)) == [
        {
            "bn": "urn:dev:mac:001350050047dd92:snsr/arduino/temp/",
            "bt": 1_700_000_008.25,
            "n": "temperature",
            "u": "Cel",
            "v": 22.5,
        },
        {"n": "status", "vs": "OK"},
    ]
    assert json.loads(senml_json(notification, Decoded((), 5.0)))[0]["vb"] is True


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "x"},
        {"type": "x", "text": [{"pattern": "{a:rest},{b}"}]},
        {"type": "x", "text": [{"pattern": "{a b}"}]},
        {"type": "x", "text": [{"pattern": "{a:code}"}]},
        {"type": "x", "text": [{"pattern": "{a}", "scales": {"b": {"factor": 2}}}]},
        {"type": "x", "text": [{"pattern": ",".join(["{a}"] * 65)}]},
        {"type": "x", "binary": [{"head": [{"form": "uint"}]}]},
        {"type": "x", "binary": [{"items": {1: [{"form": "uint"}, {"form": "u8"}]}}]},
        {"type": "x", "binary": [{"head": [{"form": "u8", "script": "print(1)"}]}]},
    ],
)
def test_a_decoder_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DecoderSettings.model_validate(settings)


def test_decoders_of_the_configuration_take_the_place_of_those_built_in() -> None:
    own = DecoderSettings(
        type="temp",
        text=(TextForm(pattern="{raw}"),),
        binary=(BinaryForm.model_validate({"head": [{"form": "u8", "name": "n"}]}),),
    )
    chosen = decoders_for([own])
    assert set(chosen) == {decoder.type for decoder in BUILT_IN}
    assert [one.name for one in decode(chosen["temp"], b"5").values] == ["raw"]
    assert [one.value for one in decode(chosen["temp"], record("temp", b"\x07")).values] == [7.0]


def published(settings: BridgeSettings, payload: bytes, statistics: Statistics | None = None) -> list[Any]:
    notification = Notification(MAC, "snsr/arduino/temp", 4, 2, 60, payload, 1_700_000_008.0)
    stored = StoredNotification(TenantId("acme"), notification)
    return Publisher(settings, statistics or Statistics()).publications(stored)


TEMP = record("temp", "1700000008,72.50,F")
RULES: list[dict[str, Any]] = [
    {"type": "temp", "category": "alert", "qos": "EXACTLY_ONCE"},
    {"tenant": "acme", "type": "temp", "decoded": True},
    {"category": "decoded", "retain": True, "qos": "AT_MOST_ONCE"},
    {"tenant": "other", "qos": "AT_MOST_ONCE", "retain": True},
    {"type": "temp", "retain": True},
]


def test_rules_by_type_category_and_tenant() -> None:
    settings = BridgeSettings(rules=RULES, default_category="both")  # type: ignore[arg-type]
    read, alert, decoded = published(settings, TEMP)
    assert (read.topic, read.qos, read.retain) == (f"acme/read/{MAC}/temp", 1, True)
    assert (alert.topic, alert.qos, alert.retain) == (f"acme/alert/{MAC}/temp", 2, True)
    assert (decoded.topic, decoded.qos, decoded.retain) == (f"acme/decoded/{MAC}/temp", 0, True)
    assert decoded.content_type == "application/senml+json" and json.loads(decoded.payload)[0]["v"] == 22.5
    assert decoded.properties == read.properties


def test_alarms_have_no_decoded_copy_and_malformed_payloads_are_counted() -> None:
    statistics = Statistics()
    rules: list[Any] = [{"decoded": True}]
    alarms = BridgeSettings(rules=rules, default_category="alert")  # type: ignore[arg-type]
    assert len(published(alarms, TEMP, statistics)) == 1
    readings = BridgeSettings(rules=rules)
    assert len(published(readings, record("temp", "?"), statistics)) == 1
    assert len(published(readings, record("other", "?"), statistics)) == 1
    assert len(published(readings, TEMP, statistics)) == 2
    assert statistics.by_reason(Event.DECODED) == {"malformed": 1, "no-decoder": 1, "made": 1}


@pytest.mark.parametrize(
    "rule", [{}, {"type": "temp"}, {"category": "read", "decoded": True}, {"qos": 1}, {"mac": "x"}]
)
def test_a_rule_that_says_nothing_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BridgeSettings(rules=[rule])  # type: ignore[list-item]


@pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V3_1_1])
def test_packets_from_memory_and_from_disk_are_the_same_with_rules(version: ProtocolVersion) -> None:
    notification = Notification(MAC, "snsr/arduino/temp", 4, 2, 60, TEMP, 1_700_000_008.0)
    segments, queries = uplink_request(notification)
    pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
    pairs.append((options.CONTENT_FORMAT, b"\x3c"))
    pairs += [(options.URI_QUERY, query.encode()) for query in queries]
    uplink = RouteTable().read(encode(Message(CON, codes.POST, 1, b"", tuple(pairs), TEMP)), 5)
    assert uplink is not None
    maker = PacketMaker(BridgeSettings(rules=RULES, default_category="both"))  # type: ignore[arg-type]
    from_disk = Record(1, 0, pack_uplink(uplink, "acme"), 0)
    assert from_disk.payload == pack(StoredNotification(TenantId("acme"), notification))
    packets = maker.packets(from_disk, version)
    assert len(packets) == 3
    assert maker.packets(from_disk._replace(companion=Origin(uplink, "acme")), version) == packets
