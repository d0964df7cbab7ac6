"""Batches: numbered records of a line, as a NIC hands them over the network to whoever watches (`/sys/link/frames`).

    batch    CBOR array of records, ascending by number; empty: nothing new
    record   [number, time, sender, octets, reason, note, sdu]

`number` counts what the line has seen, so that a gap says how many records were lost; `time` is Unix nanoseconds;
`sender` 0 is the NIC, 1 the board; `octets` are those of the line with their flags; `reason` says why they are no
frame, else null; `sdu` is null for none, true for the frame's information field, or the octets put together from
several frames. Pure; both ends of the wire use this file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import cbor2

from meshwire.capture.record import Record, Side
from meshwire.hdlc.errors import DiscardReason, FrameError
from meshwire.hdlc.frame import decode_frame

__all__ = ["BatchError", "Numbered", "decode_batch", "encode_batch", "encode_record"]

_SIDES: Final = (Side.NIC, Side.BOARD)
_FIELDS: Final = 7
_MOST_NOTE: Final = 200


class BatchError(ValueError):
    """The octets are no batch; the message says what does not fit."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A record and its number on its line."""

    number: int
    record: Record


def encode_record(number: int, record: Record) -> bytes:
    """One record of a batch."""
    sdu: bytes | bool | None = None
    if record.sdu:
        sdu = True if record.frame is not None and record.sdu == record.frame.info else record.sdu
    reason = None if record.reason is None else record.reason.value
    side = _SIDES.index(record.sender)
    octets: bytes = cbor2.dumps([number, record.at_ns, side, record.octets, reason, record.note, sdu])
    return octets


def encode_batch(records: Sequence[bytes]) -> bytes:
    """A batch of encoded records; at most 255."""
    count = len(records)
    head = bytes((0x80 | count,)) if count < 24 else bytes((0x98, count))
    return head + b"".join(records)


def decode_batch(octets: bytes) -> list[Numbered]:
    """Read a batch; whatever is odd about it is an error, for it comes from a device.

    Raises:
        BatchError: it is no batch, its numbers do not ascend, or a frame in it is none.
    """
    stream = io.BytesIO(octets)
    try:
        items = cbor2.CBORDecoder(stream).decode()
    except Exception as error:  # cbor2 raises far more than its own errors on hostile input
        raise BatchError(f"no CBOR: {error}") from None
    if not isinstance(items, list) or stream.tell() != len(octets):
        raise BatchError("no array alone")
    numbered = [_numbered(item) for item in items]
    if not _ascend(each.number for each in numbered):
        raise BatchError("numbers do not ascend")
    return numbered


def _ascend(numbers: Iterable[int]) -> bool:
    last = -1
    for number in numbers:
        if number <= last:
            return False
        last = number
    return True


def _numbered(item: object) -> Numbered:
    match item:
        case [int(number), int(at_ns), (0 | 1) as side, bytes(octets), (str() | None) as reason, str(note), sdu]:
            if number < 0 or not 0 <= at_ns < 1 << 63 or not isinstance(sdu, bytes | bool | None):
                raise BatchError("a value is out of range")
        case _:
            raise BatchError(f"a record is not of {_FIELDS} fields of their types")
    try:
        why = None if reason is None else DiscardReason(reason)
        frame = decode_frame(octets[1:-1]) if octets and why is None else None
    except (ValueError, FrameError) as error:
        raise BatchError(f"record {number}: {error}") from None
    whole = (frame.info if frame is not None else b"") if sdu is True else sdu or b""
    return Numbered(number, Record(at_ns, _SIDES[side], octets, frame, why, whole, note[:_MOST_NOTE]))
