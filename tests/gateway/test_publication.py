"""What a stored notification becomes: topic, category, QoS, properties; payload untouched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import EnvelopeError, StoredNotification, pack, unpack
from gateway.mqtt import Publication
from gateway.publication import Publisher, content_type
from gateway.settings import BridgeSettings, CategoryRule, Qos
from gateway.statistics import Statistics
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification

MAC = DeviceId("001350050047dd92")
TEMP = bytes.fromhex("a2006474656d700172313730303030303030382c37322e35302c46")


def stored(
    payload: bytes = TEMP, path: str = "snsr/arduino/temp", content_format: int | None = 60
) -> StoredNotification:
    return StoredNotification(TenantId("acme"), Notification(MAC, path, 4, 2, content_format, payload, 1_700_000_008.0))


def publications(stored: StoredNotification, settings: BridgeSettings) -> list[Publication]:
    return Publisher(settings, Statistics()).publications(stored)


@pytest.mark.parametrize(
    ("rules", "default", "branches"),
    [
        ({}, CategoryRule.READ, ["read"]),
        ({}, CategoryRule.ALERT, ["alert"]),
        ({"temp": CategoryRule.ALERT}, CategoryRule.READ, ["alert"]),
        ({"temp": CategoryRule.BOTH}, CategoryRule.READ, ["read", "alert"]),
        ({"other": CategoryRule.BOTH}, CategoryRule.READ, ["read"]),
    ],
)
def test_branches(rules: dict[str, CategoryRule], default: CategoryRule, branches: list[str]) -> None:
    settings = BridgeSettings(categories=rules, default_category=default)
    messages = publications(stored(), settings)
    assert [message.topic for message in messages] == [f"acme/{branch}/{MAC}/temp" for branch in branches]
    assert {message.payload for message in messages} == {TEMP}


@pytest.mark.parametrize(
    ("payload", "path", "kind"),
    [
        (TEMP, "snsr/a/other", "temp"),
        (b"21.5", "snsr/arduino/temp", "temp"),
        (bytes.fromhex("a1016161"), "snsr/a/b", "b"),
        (bytes.fromhex("a10063612f62"), "snsr/x", "a_b"),
        (bytes.fromhex("a100612b"), "snsr/x", "_"),
        (b"", "", "_"),
    ],
)
def test_the_last_topic_level_is_the_device_type(payload: bytes, path: str, kind: str) -> None:
    (message,) = publications(stored(payload, path), BridgeSettings())
    assert message.topic == f"acme/read/{MAC}/{kind}"
    assert message.payload == payload


@pytest.mark.parametrize(("qos", "level"), [(Qos.AT_MOST_ONCE, 0), (Qos.AT_LEAST_ONCE, 1), (Qos.EXACTLY_ONCE, 2)])
def test_qos_by_name(qos: Qos, level: int) -> None:
    assert publications(stored(), BridgeSettings(default_message_qos=qos))[0].qos == level


def test_properties() -> None:
    (message,) = publications(stored(), BridgeSettings())
    assert dict(message.properties) == {
        "device": MAC.value,
        "path": "snsr/arduino/temp",
        "observe": "4",
        "time": "1700000008.000",
        "key": f"{MAC}/snsr/arduino/temp/2/4",
    }
    assert not message.retain


@pytest.mark.parametrize(
    ("content_format", "expected"),
    [
        (None, None),
        (0, "text/plain;charset=utf-8"),
        (42, "application/octet-stream"),
        (60, "application/cbor"),
        (9999, None),
    ],
)
def test_content_types(content_format: int | None, expected: str | None) -> None:
    assert content_type(content_format) == expected


@given(st.binary(max_size=300), st.text(max_size=40), st.integers(0, 0xFFFFFF), st.none() | st.integers(0, 0xFFFF))
def test_the_envelope_keeps_everything(payload: bytes, path: str, observe: int, content_format: int | None) -> None:
    notification = Notification(MAC, path, observe, 7, content_format, payload, 1_700_000_000.125)
    kept = StoredNotification(TenantId("acme"), notification)
    assert unpack(pack(kept)) == kept


@given(st.binary(max_size=60))
def test_what_is_no_envelope_is_said_to_be_none(octets: bytes) -> None:
    with pytest.raises(EnvelopeError):
        unpack(octets)
