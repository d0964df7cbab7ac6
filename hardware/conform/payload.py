"""Cases of group payload: the CBOR record of a sensor (RFC 8949; dialect B.4)."""

from __future__ import annotations

import io
import re
from typing import Final

import cbor2

from hardware.conform.bench import Bench
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge, skipped
from meshwire.coap import codes, options
from meshwire.coap.message import Message

__all__ = ["CASES"]

_TYPE_KEY: Final = 0
_VALUE_KEY: Final = 1
_CBOR_AS_OLD_BOARDS_SAY: Final = 2
_READING: Final = re.compile(r"(\d+),(-?\d+\.\d\d),([CF])")
_WELL_FORMED: Final = "PAY-001"
_IS_MAP: Final = "PAY-003"


def _decode(payload: bytes) -> object:
    """The one CBOR item that the octets are. Raises ValueError."""
    stream = io.BytesIO(payload)
    try:
        item: object = cbor2.load(stream)
    except (cbor2.CBORDecodeError, EOFError) as error:
        raise ValueError(str(error)) from error
    if rest := stream.read():
        raise ValueError(f"{len(rest)} octets follow the item")
    return item


async def _reading(bench: Bench) -> Message | None:
    answer = await bench.ask(bench.sensor())
    return answer if answer is not None and answer.code == codes.CONTENT else None


async def _record(bench: Bench) -> dict[object, object]:
    answer = await _reading(bench)
    item = _decode(answer.payload) if answer is not None else {}
    return item if isinstance(item, dict) else {}


async def _well_formed(bench: Bench) -> Outcome:
    answer = await _reading(bench)
    if answer is None:
        return failed("no 2.05")
    try:
        return judge(True, repr(_decode(answer.payload)))
    except ValueError as error:
        return failed(f"{answer.payload.hex(' ')}: {error}")


async def _format(bench: Bench) -> Outcome:
    answer = await _reading(bench)
    seen = None if answer is None else answer.uint(options.CONTENT_FORMAT)
    good = seen == options.CBOR or (bench.milli and seen == _CBOR_AS_OLD_BOARDS_SAY)
    return judge(good, f"Content-Format {seen}")


async def _map(bench: Bench) -> Outcome:
    record = await _record(bench)
    return judge(set(record) == {_TYPE_KEY, _VALUE_KEY}, repr(record))


async def _type(bench: Bench) -> Outcome:
    name = (await _record(bench)).get(_TYPE_KEY)
    return judge(name == bench.settings.sensor.rsplit("/", 1)[-1], f"key 0 is {name!r}")


async def _value(bench: Bench) -> Outcome:
    value = (await _record(bench)).get(_VALUE_KEY)
    return judge(isinstance(value, str | bytes) and value, f"key 1 is {value!r}")


async def _temperature(bench: Bench) -> str | None:
    record = await _record(bench)
    value = record.get(_VALUE_KEY)
    return value if bench.settings.sensor.endswith("/temp") and isinstance(value, str) else None


async def _units(bench: Bench) -> Outcome:
    text = await _temperature(bench)
    return skipped("no temperature sensor") if text is None else judge(_READING.fullmatch(text), text)


async def _plausible(bench: Bench) -> Outcome:
    text = await _temperature(bench)
    if text is None or (match := _READING.fullmatch(text)) is None:
        return skipped("no reading with a unit")
    degrees = float(match[2]) if match[3] == "C" else (float(match[2]) - 32) / 1.8
    return judge(-60 <= degrees <= 125, f"{degrees:.1f} degrees C")


async def _time(bench: Bench) -> Outcome:
    text = await _temperature(bench)
    if text is None or (match := _READING.fullmatch(text)) is None:
        return skipped("no reading with a time")
    clock = await bench.get("sys/time")
    if clock is None or len(clock.payload) != 4:
        return skipped("no /sys/time")
    late = int.from_bytes(clock.payload, "big") - int(match[1])
    return judge(0 <= late <= 4, f"the reading is {late} s older than /sys/time")


async def _notified(bench: Bench) -> Outcome:
    found = [message for _, message in (await bench.observation()).notifications]
    if not found:
        return skipped("no notification came while the bench waited")
    for message in found:
        try:
            record = _decode(message.payload)
        except ValueError as error:
            return failed(f"{message.payload.hex(' ')}: {error}")
        if not isinstance(record, dict) or set(record) != {_TYPE_KEY, _VALUE_KEY}:
            return failed(repr(record))
    return judge(True, f"{len(found)} records")


_case: Final = CaseSeries("PAY", Group.PAYLOAD)
_RECORD: Final = (_WELL_FORMED, _IS_MAP)
CASES: Final = (
    _case(1, "well-formed", "A reading is one CBOR item, nothing behind it.", "RFC 8949, 5.3.1", _well_formed),
    _case(2, "Content-Format", "A reading says that it is CBOR: 60.", "RFC 8949, 9.3", _format,
          "60, or 2 before 1.4.8.", "B.4"),
    _case(3, "record", "A reading is a map of the keys 0 and 1.", "dialect B.4", _map, needs=(_WELL_FORMED,)),
    _case(4, "type key", "Key 0 is the device type, the path's last segment.", "dialect B.4", _type, needs=_RECORD),
    _case(5, "value", "Key 1 is text or octets, not empty.", "dialect B.4", _value, needs=_RECORD),
    _case(6, "units", "A temperature is epoch, value with two decimals, and unit C or F.", "dialect B.4", _units,
          needs=_RECORD),
    _case(7, "plausible", "A temperature is one that a sensor can have.", "dialect B.4", _plausible, needs=_RECORD),
    _case(8, "time of a reading", "Its epoch is that of /sys/time.", "dialect B.4", _time,
          needs=(*_RECORD, "RES-005", "RES-006")),
    _case(9, "notified records", "Notifications carry records of the same kind.", "dialect B.5", _notified,
          needs=_RECORD),
)  # fmt: skip
