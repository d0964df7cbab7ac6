"""Numbers in notifications, as series over time for a plot: by the gateway's decoders, else by what JSON and CBOR say.

Pure. Nothing here changes what is published; a payload without numbers is no part of a plot.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import cbor2

from gateway.decoders import DecoderSettings, Undecodable, decode
from meshwire.identity import DeviceId
from meshwire.notification import Notification, device_type

__all__ = ["Reading", "Series", "series_of"]

MOST_SERIES: Final = 12
_UNITS: Final = {"Cel": "°C", "%RH": "% RH"}
"""SenML units (RFC 8428 section 12.1) that people write otherwise."""
_NOBODY: Final = DeviceId("0" * 16)


class Reading(NamedTuple):
    """One notification as it was stored."""

    tenant: str
    path: str
    at_s: float
    """When the NIC got it, Unix seconds."""
    content_format: int | None
    payload: bytes


@dataclass(slots=True)
class Series:
    """One value over time."""

    path: str
    name: str
    unit: str
    points: list[tuple[float, float]] = field(default_factory=list)
    """Unix seconds and value, oldest first."""


def series_of(readings: Iterable[Reading], decoders: Mapping[str, DecoderSettings]) -> list[Series]:
    """Series of a device's notifications.

    Args:
        readings: in any order.
        decoders: by device type.
    """
    found: dict[tuple[str, str], Series] = {}
    for reading in sorted(readings, key=lambda each: each.at_s):
        notification = Notification(_NOBODY, reading.path, 0, 0, reading.content_format, reading.payload, reading.at_s)
        for name, unit, value in _numbers(notification, decoders):
            fresh = Series(reading.path, name, _UNITS.get(unit, unit))
            series = found.setdefault((reading.path, name), fresh)
            series.points.append((reading.at_s, value))
    return list(found.values())[:MOST_SERIES]


def _numbers(notification: Notification, decoders: Mapping[str, DecoderSettings]) -> Iterator[tuple[str, str, float]]:
    """Names, units and finite numbers of one payload."""
    decoder = decoders.get(device_type(notification))
    if decoder is not None:
        try:
            decoded = decode(decoder, notification.payload)
        except Undecodable:
            return
        for each in decoded.values:
            if not isinstance(each.value, str) and math.isfinite(each.value):
                yield each.name, each.unit or "", each.value
        return
    yield from _plain(_value(notification.payload))


def _value(payload: bytes) -> object:
    """What JSON, CBOR or a number as text says."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        pass
    stream = io.BytesIO(payload)
    try:
        value: object = cbor2.CBORDecoder(stream).decode()
    except Exception:  # cbor2 raises far more than its own errors on hostile input
        return None
    return value if stream.tell() == len(payload) else None


def _plain(value: object) -> Iterator[tuple[str, str, float]]:
    match value:
        case bool():
            return
        case int() | float() if math.isfinite(value):
            yield "value", "", float(value)
        case dict():
            for name, each in value.items():
                if isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each):
                    yield str(name)[:64], "", float(each)
        case list():  # SenML (RFC 8428): records with a name, a unit and a value
            for record in value:
                if isinstance(record, dict) and isinstance(number := record.get("v"), int | float):
                    yield str(record.get("n", "value"))[:64], str(record.get("u", ""))[:32], float(number)
