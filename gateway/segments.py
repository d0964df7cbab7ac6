"""The octets of the outbox: how a record is written, and how records are found again in damaged octets.

A record is `magic (2) · CRC-32 (4) · length (4) · sequence (8) · time (8) · payload`, big-endian, the checksum over
everything behind it. Does: encode, walk a run of octets, tell records from damage. Does not: know files. The marker
in front lets a reader find the next whole record behind a damaged one, so that one flipped bit costs one record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["HEADER_OCTETS", "MAX_PAYLOAD_OCTETS", "Damage", "Record", "encode_record", "encode_records", "read_records"]

MAGIC: Final = b"\xa5\x5e"
_HEADER: Final = struct.Struct(">2sIIQQ")
_UNCHECKED: Final = struct.Struct(">2sI")
_CHECKED: Final = struct.Struct(">IQQ")
_CHECKED_FROM: Final = 6
"""The checksum covers everything behind itself."""
HEADER_OCTETS: Final = _HEADER.size
MAX_PAYLOAD_OCTETS: Final = 64 << 10
"""Longer is not written, and read only as damage; a notification comes in one datagram."""


class Record(NamedTuple):
    """One stored entry; a tuple, because there is one for every notification."""

    sequence: int
    time_ms: int
    """When it was stored, Unix milliseconds."""
    payload: bytes
    start: int
    """Where its octets start in the run that was read."""
    companion: object = None
    """What the writer gave along, for a reader that follows closely; None when it was read from disk."""

    @property
    def octets(self) -> int:
        """Its length in the log."""
        return HEADER_OCTETS + len(self.payload)

    @property
    def end(self) -> int:
        """Where the octets behind it start."""
        return self.start + self.octets


@dataclass(frozen=True, slots=True)
class Damage:
    """Octets that hold no whole record; `torn` when nothing whole follows: an interrupted write."""

    start: int
    end: int
    torn: bool


def encode_record(sequence: int, time_ms: int, payload: bytes) -> bytes:
    """The octets of one record; raises ValueError when the payload is longer than `MAX_PAYLOAD_OCTETS`."""
    if len(payload) > MAX_PAYLOAD_OCTETS:
        raise ValueError(f"payload of {len(payload)} octets; at most {MAX_PAYLOAD_OCTETS}")
    checked = _CHECKED.pack(len(payload), sequence, time_ms) + payload
    return _UNCHECKED.pack(MAGIC, zlib.crc32(checked)) + checked


def encode_records(first: int, entries: Iterable[tuple[int, bytes, object]]) -> bytes:
    """The octets of records with sequence numbers from `first` on, as `encode_record` gives; payloads are not checked.

    Args:
        first: sequence number of the first one.
        entries: time and payload of each; what else stands there is not written.
    """
    pieces: list[bytes] = []
    append, pack, head, checksum = pieces.append, _CHECKED.pack, _UNCHECKED.pack, zlib.crc32
    for sequence, (time_ms, payload, _) in enumerate(entries, first):
        checked = pack(len(payload), sequence, time_ms) + payload
        append(head(MAGIC, checksum(checked)))
        append(checked)
    return b"".join(pieces)


def read_records(octets: bytes, start: int = 0) -> Iterator[Record | Damage]:
    """Walk `octets` from `start`: every whole record, and the damage between and behind them."""
    position = start
    while position < len(octets):
        record = _record_at(octets, position)
        if record is not None:
            yield record
            position = record.end
            continue
        following = _next_record(octets, position + 1)
        end = len(octets) if following is None else following.start
        yield Damage(position, end, following is None)
        position = end


def _record_at(octets: bytes, position: int) -> Record | None:
    if len(octets) - position < HEADER_OCTETS:
        return None
    magic, checksum, length, sequence, time_ms = _HEADER.unpack_from(octets, position)
    end = position + HEADER_OCTETS + length
    if magic != MAGIC or length > MAX_PAYLOAD_OCTETS or end > len(octets):
        return None
    if zlib.crc32(memoryview(octets)[position + _CHECKED_FROM : end]) != checksum:
        return None
    return Record(sequence, time_ms, octets[position + HEADER_OCTETS : end], position)


def _next_record(octets: bytes, position: int) -> Record | None:
    while (position := octets.find(MAGIC, position)) >= 0:
        record = _record_at(octets, position)
        if record is not None:
            return record
        position += 1
    return None
