"""The octets of records, against the vectors of dialect B.4 and E.6."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_sim.errors import SensorError, SensorFailure
from sensor_sim.records import MAX_RECORD_OCTETS, LogisticsRecord, Tlv, TlvType, device_record


@pytest.mark.parametrize(
    ("device_type", "value", "octets"),
    [
        (
            "temp",
            "1700000005,72.50,F",
            "a2 00 64 74 65 6d 70 01 72 31 37 30 30 30 30 30 30 30 35 2c 37 32 2e 35 30 2c 46",
        ),
        ("temp", "1700000002,F", "a2 00 64 74 65 6d 70 01 6c 31 37 30 30 30 30 30 30 30 32 2c 46"),
        ("echo", "Hello World: 1", "a2 00 64 65 63 68 6f 01 6e 48 65 6c 6c 6f 20 57 6f 72 6c 64 3a 20 31"),
        ("ncmth1", "10,lvl", "a2 00 66 6e 63 6d 74 68 31 01 66 31 30 2c 6c 76 6c"),
    ],
)
def test_device_record(device_type: str, value: str, octets: str) -> None:
    assert device_record(device_type, value).hex(" ") == octets


def test_logistics_record() -> None:
    tlvs = (Tlv.temperature(24.07), Tlv.humidity(76), Tlv.tilt(304, 720, 572))
    record = LogisticsRecord(0x57D89814, 0x11A76, tlvs).encode()
    assert device_record("lnic", record).hex(" ") == (
        "a2 00 64 6c 6e 69 63 01 58 25 57 d8 98 14 00 01 1a 76 00 19 10 00 02 00 01 02 09 67 00 03 01 4c "
        "00 05 0c 00 00 01 30 00 00 02 d0 00 00 02 3c"
    )


@given(st.text(max_size=40), st.one_of(st.text(max_size=20), st.binary(max_size=20)))
def test_a_record_reads_back(device_type: str, value: str | bytes) -> None:
    try:
        record = device_record(device_type, value)
    except SensorError:
        assert len(device_type.encode()) + len(value) > 60
        return
    assert len(record) <= MAX_RECORD_OCTETS
    assert cbor2.loads(record) == {0: device_type, 1: value}


def test_a_record_above_the_boards_buffer_fails() -> None:
    with pytest.raises(SensorError) as caught:
        device_record("temp", "x" * 130)
    assert caught.value.failure is SensorFailure.FAILED


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_values_outside_a_field_are_kept_at_its_end(celsius: float, per_cent: float) -> None:
    assert len(Tlv.temperature(celsius).value) == 2
    assert 0 <= Tlv.humidity(per_cent).value[0] <= 100


def test_a_tlv_has_type_length_and_value() -> None:
    assert Tlv(TlvType.ALERT, b"\x14").encode() == bytes.fromhex("0004 01 14")
