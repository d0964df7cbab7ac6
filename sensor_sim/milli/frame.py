"""One UART buffer, judged the way the Milli board judges it (dialect A.3, A.4, A.7), and the frames it sends.

The board has no deframer: it takes what came between two silences and either finds exactly one frame in it or drops
all of it. So this is not `meshwire.hdlc.deframer` with other settings; the whole-buffer rule is the point.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from meshwire.hdlc.crc import crc16_x25

__all__ = ["MAX_INFO_OCTETS", "UA_PARAMETERS", "DropReason", "Input", "MilliFrame", "build_frame", "examine"]

FLAG: Final = 0x7E
MAX_INFO_OCTETS: Final = 255
_HEADER_OCTETS: Final = 7
"""Format, two addresses, control, HCS."""
_FCS_OCTETS: Final = 2
_FORMAT_TYPE: Final = 0xA
_ADDRESS: Final = 0x03
"""Address 1 in one octet; the board puts it on everything it sends, whatever it was called (A.3)."""

UA_PARAMETERS: Final = bytes.fromhex("8180140502 00ff 0602 00ff 0704 00000001 0804 00000001")
"""Always 255/255/1/1, whatever the SNRM proposed (A.5)."""


class DropReason(Enum):
    """Why a whole buffer was thrown away without an answer."""

    FLAGS = "no flag at one end"
    SHORT = "shorter than a header"
    FORMAT = "format type other than A"
    LENGTH = "length field does not fit the buffer"
    ADDRESS = "address of more than one octet"
    HEADER_CHECK = "wrong HCS"
    FRAME_CHECK = "wrong FCS"
    TOO_LONG = "information field above 255 octets"
    CONTROL = "unknown control field"


class Input(Enum):
    """What a frame is to the link machine."""

    SNRM = "SNRM"
    DISC = "DISC"
    I_INFO = "I with information"
    I_EMPTY = "I without information"
    RR = "RR"
    RNR = "RNR"
    UI = "UI"
    UA = "UA"
    DM = "DM"
    FRMR = "FRMR"
    UNKNOWN = "unknown control"


_UNNUMBERED: Final = {
    0x83: Input.SNRM,
    0x43: Input.DISC,
    0x63: Input.UA,
    0x0F: Input.DM,
    0x87: Input.FRMR,
    0x03: Input.UI,
}
"""By control octet with the poll bit masked out (A.4)."""
_SUPERVISORY: Final = {0x01: Input.RR, 0x05: Input.RNR}
_POLL_BIT: Final = 0x10


@dataclass(frozen=True, slots=True)
class MilliFrame:
    """A frame that the board accepts; the poll bit and the addresses mean nothing to it."""

    kind: Input
    receive_number: int
    """N(R); 0 for an unnumbered frame (A.8 rule 1)."""
    send_number: int
    """N(S) of an I frame, else 0."""
    info: bytes


def examine(buffer: bytes) -> MilliFrame | DropReason:
    """Judge everything that came between two silences.

    The segmentation bit is ignored; a length field below 7 passes when there is no information field (A.7).
    """
    if len(buffer) < 2 or buffer[0] != FLAG or buffer[-1] != FLAG:
        return DropReason.FLAGS
    body = buffer[1:-1]
    if len(body) < _HEADER_OCTETS:
        return DropReason.SHORT
    if (refusal := _check_header(body)) is not None:
        return refusal
    info = body[_HEADER_OCTETS:-_FCS_OCTETS]
    if len(body) > _HEADER_OCTETS and crc16_x25(body[:-_FCS_OCTETS]) != int.from_bytes(body[-_FCS_OCTETS:], "little"):
        return DropReason.FRAME_CHECK
    if len(info) > MAX_INFO_OCTETS:
        return DropReason.TOO_LONG
    return _classify(body[4], info)


def _check_header(body: bytes) -> DropReason | None:
    if body[0] >> 4 != _FORMAT_TYPE:
        return DropReason.FORMAT
    length = (body[0] << 8 | body[1]) & 0x7FF
    bare = len(body) == _HEADER_OCTETS
    if length != len(body) and not (bare and length < _HEADER_OCTETS):
        return DropReason.LENGTH
    if not bare and len(body) < _HEADER_OCTETS + _FCS_OCTETS:
        return DropReason.LENGTH
    if not (body[2] & 1 and body[3] & 1):
        return DropReason.ADDRESS
    if crc16_x25(body[:5]) != int.from_bytes(body[5:7], "little"):
        return DropReason.HEADER_CHECK
    return None


def _classify(control: int, info: bytes) -> MilliFrame:
    receive_number = control >> 5
    if not control & 1:
        kind = Input.I_INFO if info else Input.I_EMPTY
        return MilliFrame(kind, receive_number, control >> 1 & 7, info)
    if control & 3 == 1:
        return MilliFrame(_SUPERVISORY.get(control & 0x0F, Input.UNKNOWN), receive_number, 0, info)
    return MilliFrame(_UNNUMBERED.get(control & ~_POLL_BIT, Input.UNKNOWN), 0, 0, info)


def build_frame(control: int, info: bytes = b"") -> bytes:
    """A frame as the board sends it: final bit set, one flag at each end, FCS only with information.

    Args:
        control: the control octet without the final bit.
        info: 0 to 255 octets.
    """
    length = _HEADER_OCTETS + (len(info) + _FCS_OCTETS if info else 0)
    body = bytes((_FORMAT_TYPE << 4 | length >> 8, length & 0xFF, _ADDRESS, _ADDRESS, control | _POLL_BIT))
    body += crc16_x25(body).to_bytes(2, "little")
    if info:
        body += info
        body += crc16_x25(body).to_bytes(2, "little")
    return bytes((FLAG,)) + body + bytes((FLAG,))
