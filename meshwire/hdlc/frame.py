"""Frame format type 3: octets to Frame and back (IEC 62056-46, 6.4.1).

    7E | format (2) | destination (1, 2, 4) | source (1, 2, 4) | control (1) | HCS (2) | [ information | FCS (2) ] | 7E

    format    1010 S LLL LLLL LLLL: type 3, segmentation bit, length = octets between the flags
    HCS, FCS  CRC-16/X-25, low octet first; the FCS covers everything before it, the HCS included, and is there
              only when there is information

There is no transparency: 7E inside a frame is sent as it is, and a receiver relies on the length.

Two facts make this file fast. A check sequence taken over octets *and their own check sequence* is a constant, so the
FCS needs only the information field (the header with its HCS always leaves the same register). And a link uses few
headers, so encoded and verified ones are kept and looked up again.

Decided here: what a well-formed frame is. Left to the deframer: where in a stream of octets frames are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from meshwire.hdlc.address import Address, address_size, decode_address
from meshwire.hdlc.control import CONTROL_FIELDS, ControlField
from meshwire.hdlc.crc import RESIDUE, continue_crc
from meshwire.hdlc.errors import DiscardReason, FrameError

FLAG: Final = b"\x7e"
FLAG_OCTET: Final = 0x7E
MAX_LENGTH: Final = 0x7FF
"""Longest frame in octets between the flags: the length sub-field has 11 bits."""
MIN_LENGTH: Final = 7
"""Shortest frame: format, two addresses of one octet, control, HCS."""

_TYPE_3: Final = 0xA000
_TYPE_MASK: Final = 0xF0
_SEGMENTATION: Final = 0x0800
_KNOWN_LIMIT: Final = 4096
"""Headers kept. More than that many different ones are no longer one process's links."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    ``info`` is the information field, empty for none; ``segmented`` is the segmentation bit: more of the same SDU
    follows in the next I frame.
    """

    destination: Address
    source: Address
    control: ControlField
    info: bytes = b""
    segmented: bool = False

    def __str__(self) -> str:
        size = f" {len(self.info)} octets" if self.info else ""
        return f"{self.source}>{self.destination} {self.control}{size}{' +' if self.segmented else ''}"


class Header(NamedTuple):
    """What the octets from the format field to the HCS say, once the HCS was found good."""

    length: int
    octets: int
    """How long the header itself is, HCS included."""
    destination: Address
    source: Address
    control: ControlField
    segmented: bool


_encoded: dict[tuple[bytes, bytes, int, bool, int], bytes] = {}
verified_headers: dict[bytes, Header] = {}
"""Headers whose HCS was found good, by their octets; for ``read_header`` and the deframer."""


def _encode_header(key: tuple[bytes, bytes, int, bool, int]) -> bytes:
    destination, source, control, segmented, info_octets = key
    length = 5 + len(destination) + len(source) + (info_octets + 2 if info_octets else 0)
    if length > MAX_LENGTH:
        raise FrameError(DiscardReason.LENGTH, f"{length} octets between the flags; the length field ends at 2047")
    format_field = _TYPE_3 | (_SEGMENTATION if segmented else 0) | length
    header = b"%b%b%b%c" % (format_field.to_bytes(2, "big"), destination, source, control)
    if len(_encoded) >= _KNOWN_LIMIT:
        _encoded.clear()
    octets = FLAG + header + continue_crc(header, 0).to_bytes(2, "little")
    return _encoded.setdefault(key, octets)


def encode_frame(frame: Frame) -> bytes:
    """Return the octets of ``frame`` with both flags. Raises FrameError(LENGTH) when the length field cannot say it."""
    info = frame.info
    key = (frame.destination.octets, frame.source.octets, frame.control.octet, frame.segmented, len(info))
    header = _encoded.get(key) or _encode_header(key)
    if not info:
        return header + FLAG
    return header + info + continue_crc(info, RESIDUE).to_bytes(2, "little") + FLAG


def read_header(data: bytes, start: int) -> Header | None:
    """Return the header that begins at ``start`` (its format field), None when octets are still missing.

    Raises FrameError as soon as the octets there are cannot be a header.
    """
    have = len(data) - start
    if have < 1:
        return None
    if data[start] & _TYPE_MASK != _TYPE_3 >> 8:
        raise FrameError(DiscardReason.FORMAT, f"type octet {data[start]:02x}")
    if have < 2:
        return None
    format_field = data[start] << 8 | data[start + 1]
    length = format_field & MAX_LENGTH
    if length < MIN_LENGTH:
        raise FrameError(DiscardReason.LENGTH, f"length field {length}")
    destination = address_size(data, start + 2)
    source = address_size(data, start + 2 + destination) if destination else None
    if not destination or not source:
        return None
    octets = 5 + destination + source
    # Either nothing follows the HCS, or at least one octet of information and its FCS.
    if length < octets or octets < length < octets + 3:
        raise FrameError(DiscardReason.LENGTH, f"length field {length} with a header of {octets} octets")
    if have < octets:
        return None
    return _verified(data[start : start + octets], length, destination, bool(format_field & _SEGMENTATION))


def _verified(header: bytes, length: int, destination: int, segmented: bool) -> Header:
    known = verified_headers.get(header)
    if known is not None:
        return known
    if continue_crc(header, 0) != RESIDUE:
        raise FrameError(DiscardReason.HCS)
    if len(verified_headers) >= _KNOWN_LIMIT:
        verified_headers.clear()
    destination_field, source_field = header[2 : 2 + destination], header[2 + destination : -3]
    addresses = decode_address(destination_field), decode_address(source_field)
    return verified_headers.setdefault(
        header, Header(length, len(header), *addresses, CONTROL_FIELDS[header[-3]], segmented)
    )


def decode_frame(body: bytes) -> Frame:
    """Return the frame of ``body``, the octets between two flags. Raises FrameError with the reason."""
    header = read_header(body, 0)
    if header is None:
        raise FrameError(DiscardReason.TRUNCATED, f"{len(body)} octets")
    if header.length != len(body):
        raise FrameError(DiscardReason.LENGTH, f"{len(body)} octets, the length field says {header.length}")
    info = body[header.octets : -2]
    if header.length > header.octets and continue_crc(body[header.octets :], RESIDUE) != RESIDUE:
        raise FrameError(DiscardReason.FCS)
    return Frame(header.destination, header.source, header.control, info, header.segmented)
