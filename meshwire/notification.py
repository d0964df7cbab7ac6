"""One notification of a sensor board, its envelope from NIC to gateway, and how people read its payload.

The envelope is a confirmable CoAP request to the gateway, marked as bubble-up by its path:
`POST /bubble-up/{mac}/{path…}?o={observe}&e={epoch}&t={unix seconds}` with the board's payload, octet for octet,
and its Content-Format. This file decides that spelling for both sides. Which tenant owns the device, which topic
and which QoS: the gateway. Decoders here are for people and for reading the device type; nothing re-encodes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cbor2

from meshwire.coap.observe import SEQUENCE_MODULUS
from meshwire.identity import DeviceId, IdentityError

__all__ = [
    "BUBBLE_UP",
    "Category",
    "Notification",
    "NotificationError",
    "Reading",
    "decode_reading",
    "device_type",
    "parse_uplink",
    "reported_value",
    "uplink_request",
]

BUBBLE_UP: Final = "bubble-up"
"""First path segment that marks a request as bubble-up data."""
TYPE_KEY: Final = 0
VALUE_KEY: Final = 1
"""Keys of a device record (dialect B.4): 0 = device type, 1 = value."""


class NotificationError(ValueError):
    """A request on the bubble-up path is no notification; the message says which part is wrong."""


class Category(StrEnum):
    """Branch of the topic tree that a notification goes to."""

    READ = "read"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Notification:
    """What a board reported once."""

    device: DeviceId
    path: str
    """The resource as the network sees it, without leading slash, such as `snsr/arduino/temp`."""
    observe: int
    """The board's Observe sequence number, 0 to 2^24 - 1."""
    epoch: int
    """Which registration the sequence belongs to; grows whenever the NIC registers again."""
    content_format: int | None
    payload: bytes
    time_s: float
    """When the NIC received it, Unix seconds UTC."""

    @property
    def key(self) -> str:
        """Idempotency key: the same notification has the same key however often it is sent."""
        return f"{self.device}/{self.path}/{self.epoch}/{self.observe}"


def uplink_request(notification: Notification) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Uri-Path segments and Uri-Query arguments of the envelope."""
    segments = (BUBBLE_UP, notification.device.value, *notification.path.split("/"))
    queries = (f"o={notification.observe}", f"e={notification.epoch}", f"t={notification.time_s:.3f}")
    return segments, queries


def parse_uplink(
    segments: Sequence[str], queries: Sequence[str], content_format: int | None, payload: bytes
) -> Notification:
    """Read an envelope back.

    Raises:
        NotificationError: a part is missing, malformed or out of range.
    """
    if len(segments) < 3 or segments[0] != BUBBLE_UP:
        raise NotificationError(f"path is not /{BUBBLE_UP}/{{mac}}/{{resource}}")
    if any("\0" in segment for segment in segments):
        # MQTT can't carry it (5.0 section 1.5.4): better refused here than lost behind our 2.04.
        raise NotificationError("path holds U+0000")
    try:
        device = DeviceId.parse(segments[1])
    except IdentityError as error:
        raise NotificationError(str(error)) from None
    arguments = dict(query.split("=", 1) for query in queries if "=" in query)
    return Notification(
        device=device,
        path="/".join(segments[2:]),
        observe=_integer(arguments, "o", SEQUENCE_MODULUS),
        epoch=_integer(arguments, "e", 1 << 63) if "e" in arguments else 0,
        content_format=content_format,
        payload=payload,
        time_s=_seconds(arguments),
    )


def _integer(arguments: Mapping[str, str], name: str, limit: int) -> int:
    text = arguments.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) >= limit:
        raise NotificationError(f"query {name}= is not a number below {limit}: {text[:32]!r}")
    return int(text)


def _seconds(arguments: Mapping[str, str]) -> float:
    text = arguments.get("t", "")
    try:
        value = float(text)
    except ValueError:
        raise NotificationError(f"query t= is not a time in Unix seconds: {text[:32]!r}") from None
    if not 0 <= value < 1 << 40:
        raise NotificationError(f"query t= is out of range: {text[:32]!r}")
    return value


@dataclass(frozen=True, slots=True)
class Reading:
    """A payload as people read it."""

    device_type: str
    text: str
    values: Mapping[str, float | str]
    """Named values with the unit in the name where one is known, such as `temperature_f`."""


def _record(payload: bytes) -> Mapping[object, object] | None:
    """The CBOR map that a payload is, or None. Depth and size are bounded by the datagram that carried it."""
    if not payload or payload[0] >> 5 != 5:
        return None
    stream = io.BytesIO(payload)
    try:
        record = cbor2.CBORDecoder(stream).decode()
    except Exception:  # cbor2 raises far more than its own errors on hostile input (OverflowError, MemoryError …)
        return None
    return record if isinstance(record, dict) and stream.tell() == len(payload) else None


def reported_value(payload: bytes) -> str | bytes | None:
    """What a board reports: text or octets at key 1 of a CBOR record, else the whole payload as text, else None."""
    record = _record(payload)
    if record is not None:
        value = record.get(VALUE_KEY)
        return value if isinstance(value, str | bytes) else None
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def device_type(notification: Notification) -> str:
    """The device type: text at key 0 of a CBOR record, else the last segment of the path (dialect H.7, decided)."""
    record = _record(notification.payload)
    if record is not None:
        value = record.get(TYPE_KEY)
        if isinstance(value, str) and value:
            return value
    return notification.path.rsplit("/", 1)[-1]


def decode_reading(kind: str, payload: bytes) -> Reading | None:
    """A payload for people: CBOR device records and plain text; None when neither.

    Args:
        kind: the device type, last level of the topic.
        payload: the message body.
    """
    record = _record(payload)
    value = record.get(VALUE_KEY) if record is not None else None
    if isinstance(value, bytes):
        return _decode_logistics(kind, value)
    if value is None and record is None:
        try:
            value = payload.decode()
        except UnicodeDecodeError:
            return None
    return _decode_text(kind, value) if isinstance(value, str) else None


def _decode_text(kind: str, text: str) -> Reading:
    values: dict[str, float | str] = {}
    fields = text.split(",")
    if kind == "temp" and len(fields) == 3:
        try:
            values = {"epoch_s": float(fields[0]), f"temperature_{fields[2].lower()}": float(fields[1])}
        except ValueError:
            values = {}
    elif kind == "ncmth1" and fields[-1] == "lvl" and len(fields) >= 2:
        values = {"level": fields[-2]}
    return Reading(kind, text, values)


_LNIC_HEADER: Final = struct.Struct(">IIHHB")
"""seconds, sequence, length, pad, type (dialect E.6)."""


def _decode_logistics(kind: str, record: bytes) -> Reading | None:
    """The `lnic` record: a header, then TLVs of type (2 octets), length (1 octet) and value, big-endian."""
    if len(record) < _LNIC_HEADER.size:
        return None
    seconds, sequence, *_ = _LNIC_HEADER.unpack_from(record)
    values: dict[str, float | str] = {"epoch_s": float(seconds), "sequence": float(sequence)}
    position = _LNIC_HEADER.size
    while position + 3 <= len(record):
        number = int.from_bytes(record[position : position + 2], "big")
        length = record[position + 2]
        value = record[position + 3 : position + 3 + length]
        position += 3 + length
        if len(value) != length:
            return None
        values.update(_logistics_value(number, value))
    text = ", ".join(f"{name} {value:g}" for name, value in values.items() if isinstance(value, float))
    return Reading(kind, text, values)


def _logistics_value(number: int, value: bytes) -> Mapping[str, float]:
    if number in (2, 5) and len(value) == 12:
        name = "shock" if number == 2 else "tilt"
        return {f"{name}_{axis}": float(part) for axis, part in zip("xyz", struct.unpack(">iii", value), strict=True)}
    if number == 1 and len(value) == 2:
        return {"temperature_c": int.from_bytes(value, "big", signed=True) / 100}
    names = {3: "humidity_percent", 4: "alert_bits", 6: "shock_sum"}
    return {names[number]: float(int.from_bytes(value, "big"))} if number in names else {}
