"""Frames as a board sent them, faults and all: the receiver of a judge, not of a station.

A station throws bad frames away. A judge needs to know what was meant and what was wrong with it, so that a wrong check
sequence fails the case about check sequences and no other. Frames are cut by their length field where a flag stands
there, else at the next flag (IEC 62056-46, 6.4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwire.hdlc.control import ControlField, FrameKind, decode_control
from meshwire.hdlc.crc import crc16_x25

__all__ = ["Fault", "SeenFrame", "read_frames"]

_FLAG: Final = 0x7E
_SHORTEST: Final = 7
_UNREADABLE: Final = decode_control(0xFF)


class Fault(StrEnum):
    """What was wrong with a frame."""

    NOISE = "octets outside of a frame"
    LENGTH = "length field does not fit"
    TYPE = "frame format type is not 3"
    HCS = "wrong HCS"
    FCS = "wrong FCS"
    ADDRESS = "address field"


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """One frame of the board; ``faults`` is empty for a good one. ``kind`` is UNKNOWN where nothing could be read."""

    octets: bytes
    destination: bytes = b""
    source: bytes = b""
    control: ControlField = _UNREADABLE
    info: bytes = b""
    segmented: bool = False
    faults: tuple[Fault, ...] = ()

    @property
    def kind(self) -> FrameKind:
        """What kind of frame it is."""
        return self.control.kind

    @property
    def final(self) -> bool:
        """Whether the F bit is set."""
        return self.control.poll_final


def read_frames(data: bytes) -> tuple[SeenFrame, ...]:
    """Return everything in ``data`` as frames, in the order of the line; nothing is thrown away."""
    found: list[SeenFrame] = []
    position = 0
    while position < len(data):
        flag = data.find(_FLAG, position)
        if flag != position:
            end = flag if flag >= 0 else len(data)
            found.append(SeenFrame(data[position:end], faults=(Fault.NOISE,)))
            position = end
            continue
        body = position + 1
        if body < len(data) and data[body] == _FLAG:
            position = body
            continue
        end = _end_of(data, body)
        if end > body:
            found.append(_read(data[position : end + 1], data[body:end]))
        # One flag may end a frame and open the next.
        position = end if end + 1 < len(data) and data[end + 1] != _FLAG and end > body else end + 1
    return tuple(found)


def _end_of(data: bytes, body: int) -> int:
    """Return where the closing flag stands, or the end of the data."""
    if body + 1 < len(data):
        end = body + ((data[body] << 8 | data[body + 1]) & 0x7FF)
        if end < len(data) and end - body >= _SHORTEST and data[end] == _FLAG:
            return end
    end = data.find(_FLAG, body)
    return end if end >= 0 else len(data)


def _read(octets: bytes, body: bytes) -> SeenFrame:
    destination = _address(body, 2)
    source = _address(body, 2 + len(destination))
    control = 2 + len(destination) + len(source)
    if not destination or not source or len(body) < control + 3:
        return SeenFrame(octets, faults=(Fault.LENGTH if len(body) < _SHORTEST else Fault.ADDRESS,))
    faults = [Fault.TYPE] if body[0] >> 4 != 0xA else []
    if (body[0] << 8 | body[1]) & 0x7FF != len(body):
        faults.append(Fault.LENGTH)
    rest = body[control + 3 :]
    if crc16_x25(body[: control + 1]) != int.from_bytes(body[control + 1 : control + 3], "little"):
        faults.append(Fault.HCS)
    if rest and crc16_x25(body[:-2]) != int.from_bytes(body[-2:], "little"):
        faults.append(Fault.FCS)
    return SeenFrame(
        octets, destination, source, decode_control(body[control]), rest[:-2], bool(body[0] & 8), tuple(faults)
    )


def _address(body: bytes, start: int) -> bytes:
    for size in (1, 2, 3, 4):
        if start + size > len(body):
            return b""
        if body[start + size - 1] & 1:
            return body[start : start + size]
    return b""
