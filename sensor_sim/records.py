"""The octets of a reading: the CBOR device record (dialect B.4) and the logistics record inside it (dialect E.6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import cbor2

from sensor_sim.errors import SensorError, SensorFailure

__all__ = ["MAX_RECORD_OCTETS", "LogisticsRecord", "Tlv", "TlvType", "device_record"]

MAX_RECORD_OCTETS: Final = 128
"""The board builds its payload in a buffer of this size (dialect A.6)."""


def device_record(device_type: str, value: str | bytes) -> bytes:
    """The CBOR map `{0: device type, 1: value}` in shortest form, keys in this order.

    Raises:
        SensorError: the record does not fit the board's buffer.
    """
    record = cbor2.dumps({0: device_type, 1: value})
    if len(record) > MAX_RECORD_OCTETS:
        raise SensorError(SensorFailure.FAILED)
    return record


class TlvType(IntEnum):
    """What an entry of a logistics record tells."""

    TEMPERATURE = 1
    """Hundredths of a degree Celsius, 2 octets."""
    SHOCK = 2
    """Three 32-bit axes."""
    HUMIDITY = 3
    """Per cent, 1 octet."""
    ALERT = 4
    """Bits, 1 octet."""
    TILT = 5
    """Three 32-bit axes."""
    SHOCK_SUM = 6


@dataclass(frozen=True, slots=True)
class Tlv:
    """One entry: type u16, length u8, value."""

    type: TlvType
    value: bytes

    def encode(self) -> bytes:
        """Its octets."""
        return struct.pack(">HB", self.type, len(self.value)) + self.value

    @classmethod
    def temperature(cls, celsius: float) -> Tlv:
        """Degrees Celsius, kept to hundredths and within the field's range."""
        hundredths = round(min(0x7FFF, max(-0x8000, celsius * 100)))
        return cls(TlvType.TEMPERATURE, struct.pack(">h", hundredths))

    @classmethod
    def humidity(cls, per_cent: float) -> Tlv:
        """Relative humidity, 0…100 %."""
        return cls(TlvType.HUMIDITY, bytes((round(min(100, max(0, per_cent))),)))

    @classmethod
    def tilt(cls, x: int, y: int, z: int) -> Tlv:
        """Tilt on three axes."""
        return cls(TlvType.TILT, struct.pack(">iii", x, y, z))


@dataclass(frozen=True, slots=True)
class LogisticsRecord:
    """Seconds u32, sequence u32, length u16 (TLV octets + 1), pad u16, type u8, then TLVs; big-endian (dialect E.6)."""

    seconds: int
    sequence: int
    tlvs: Sequence[Tlv]
    pad: int = 0x1000
    """The pad of the only record seen; its meaning is not public."""
    kind: int = 2
    """The record type of the only record seen (temperature)."""

    def encode(self) -> bytes:
        """Its octets."""
        body = b"".join(tlv.encode() for tlv in self.tlvs)
        sequence = self.sequence & 0xFFFFFFFF
        return struct.pack(">IIHHB", self.seconds, sequence, len(body) + 1, self.pad, self.kind) + body
