"""Encode and decode HDLC frames of 64 octets, beside the shortest loop one would write by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from bench.result import Comparison
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import information
from meshwire.hdlc.crc import crc16_x25
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.frame import Frame, encode_frame

__all__ = ["measure_codec"]

_INFO: Final = bytes(range(64))
_PER_READ: Final = 16
"""Frames in one read, as a busy line gives them."""

_BATCHES: Final = 625


def measure_codec(quick: bool) -> Iterator[Comparison]:
    """`codec-64`: frames a second that are encoded and decoded again, 16 a read; `codec-64-single`: one a read."""
    runs = 3 if quick else 7
    for case, per_read, bar in (("codec-64", _PER_READ, 200_000.0), ("codec-64-single", 1, None)):
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(_rate(_our_turn, per_read))
            theirs.append(_rate(_minimal_turn, per_read))
        yield Comparison("link", case, ours, "hand-written loop", theirs, "frames/s", bar=bar)


def _rate(turn: Callable[[int, int], int], per_read: int) -> float:
    batches = _BATCHES * _PER_READ // per_read
    begin = time.perf_counter()
    frames = turn(batches, per_read)
    return frames / (time.perf_counter() - begin)


def _our_turn(batches: int, per_read: int) -> int:
    address, deframer, found = Address(1), Deframer(), 0
    for batch in range(batches):
        octets = b"".join(
            encode_frame(Frame(address, address, information(n & 7, batch & 7, False), _INFO)) for n in range(per_read)
        )
        found += sum(isinstance(item, Frame) and item.info == _INFO for item in deframer.feed(octets))
    assert found == batches * per_read
    return found


def _minimal_turn(batches: int, per_read: int) -> int:
    """The same octets with neither types nor resynchronisation nor segments: what a quick script does."""
    found = 0
    for batch in range(batches):
        octets = b"".join(_minimal_encode((batch & 7) << 5 | (n & 7) << 1) for n in range(per_read))
        at = 0
        while at < len(octets):
            length = (octets[at + 1] & 7) << 8 | octets[at + 2]
            found += _minimal_decode(octets[at + 1 : at + 1 + length]) == _INFO
            at += length + 2
    assert found == batches * per_read
    return found


def _minimal_encode(control: int) -> bytes:
    length = 7 + len(_INFO) + 2
    header = bytes((0xA0 | length >> 8, length & 0xFF, 3, 3, control))
    body = header + crc16_x25(header).to_bytes(2, "little") + _INFO
    return b"\x7e" + body + crc16_x25(body).to_bytes(2, "little") + b"\x7e"


def _minimal_decode(body: bytes) -> bytes:
    if crc16_x25(body[:5]) != int.from_bytes(body[5:7], "little"):
        raise ValueError("HCS")
    if crc16_x25(body[:-2]) != int.from_bytes(body[-2:], "little"):
        raise ValueError("FCS")
    return body[7:-2]
