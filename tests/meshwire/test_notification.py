import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.identity import DeviceId
from meshwire.notification import (
    Notification,
    NotificationError,
    decode_reading,
    device_type,
    parse_uplink,
    uplink_request,
)

MAC = DeviceId("001350050047dd92")
TEMP = bytes.fromhex("a2 00 64 74 65 6d 70 01 72 31 37 30 30 30 30 30 30 30 38 2c 37 32 2e 35 30 2c 46")
METHANE = bytes.fromhex("a2 00 66 6e 63 6d 74 68 31 01 66 31 30 2c 6c 76 6c")
LOGISTICS = bytes.fromhex(
    "a2 00 64 6c 6e 69 63 01 58 25 57 d8 98 14 00 01 1a 76 00 19 10 00 02 00 01 02 09 67 00 03 01 4c 00 05 0c"
    "00 00 01 30 00 00 02 d0 00 00 02 3c"
)


def notification(**changes: object) -> Notification:
    values: dict[str, object] = {
        "device": MAC,
        "path": "snsr/arduino/temp",
        "observe": 4,
        "epoch": 1,
        "content_format": 60,
        "payload": TEMP,
        "time_s": 1_700_000_008.25,
    }
    return Notification(**{**values, **changes})  # type: ignore[arg-type]


def test_the_envelope_is_marked_as_bubble_up() -> None:
    assert uplink_request(notification()) == (
        ("bubble-up", "001350050047dd92", "snsr", "arduino", "temp"),
        ("o=4", "e=1", "t=1700000008.250"),
    )


@given(
    st.builds(
        notification,
        observe=st.integers(0, (1 << 24) - 1),
        epoch=st.integers(0, 1 << 40),
        payload=st.binary(max_size=64),
        time_s=st.integers(0, 1 << 40).map(lambda ms: ms / 1000),
        content_format=st.sampled_from([None, 0, 60]),
    )
)
def test_the_envelope_is_read_back(sent: Notification) -> None:
    segments, queries = uplink_request(sent)
    assert parse_uplink(segments, queries, sent.content_format, sent.payload) == sent


@pytest.mark.parametrize(
    ("segments", "queries", "part"),
    [
        (("bubble-up",), (), "path"),
        (("other", str(MAC), "x"), (), "path"),
        (("bubble-up", "nonsense", "x"), ("o=1", "t=1"), "device"),
        (("bubble-up", str(MAC), "x"), ("t=1",), "o="),
        (("bubble-up", str(MAC), "x"), ("o=-1", "t=1"), "o="),
        (("bubble-up", str(MAC), "x"), ("o=16777216", "t=1"), "o="),
        (("bubble-up", str(MAC), "x"), ("o=٣", "t=1"), "o="),
        (("bubble-up", str(MAC), "x"), ("o=1",), "t="),
        (("bubble-up", str(MAC), "x"), ("o=1", "t=nan"), "t="),
        (("bubble-up", str(MAC), "x"), ("o=1", "t=inf"), "t="),
        (("bubble-up", str(MAC), "x"), ("o=1", "t=1", "e=x"), "e="),
    ],
)
def test_a_wrong_envelope_names_the_part(segments: tuple[str, ...], queries: tuple[str, ...], part: str) -> None:
    with pytest.raises(NotificationError, match=part):
        parse_uplink(segments, queries, None, b"")


def test_the_key_is_the_same_for_the_same_notification_only() -> None:
    assert notification().key == notification(time_s=9.0).key == "001350050047dd92/snsr/arduino/temp/1/4"
    assert len({notification().key, notification(observe=5).key, notification(epoch=2).key}) == 3


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (TEMP, "temp"),
        (METHANE, "ncmth1"),
        (LOGISTICS, "lnic"),
        (b"plain", "temp"),
        (b"", "temp"),
        (b"\xa1\0\1", "temp"),
    ],
)
def test_the_type_is_key_zero_or_the_last_segment(payload: bytes, expected: str) -> None:
    assert device_type(notification(payload=payload)) == expected


def test_readings_for_people() -> None:
    temp = decode_reading("temp", TEMP)
    assert temp is not None
    assert (temp.text, temp.values["temperature_f"]) == ("1700000008,72.50,F", 72.5)
    methane = decode_reading("ncmth1", METHANE)
    assert methane is not None
    assert methane.values == {"level": "10"}
    plain = decode_reading("x", b"hello")
    assert plain is not None
    assert plain.text == "hello"


def test_the_logistics_vector_of_the_dialect() -> None:
    reading = decode_reading("lnic", LOGISTICS)
    assert reading is not None
    assert reading.values == {
        "epoch_s": 1473812500.0,
        "sequence": 72310.0,
        "temperature_c": 24.07,
        "humidity_percent": 76.0,
        "tilt_x": 304.0,
        "tilt_y": 720.0,
        "tilt_z": 572.0,
    }


@given(st.binary(max_size=200), st.sampled_from(["temp", "lnic", "ncmth1"]))
def test_no_payload_makes_a_decoder_raise(payload: bytes, kind: str) -> None:
    decode_reading(kind, payload)
    decode_reading(kind, b"\xa2\x00\x64lnic\x01\x58" + bytes([len(payload)]) + payload)
    device_type(notification(payload=payload))
