"""pcapng, as much of it as a capture needs: blocks out and blocks in (draft-ietf-opsawg-pcapng).

    block      type (4) | total length (4) | body, padded to 4 | total length (4)
    option     code (2) | length (2) | value, padded to 4            the list ends with code 0

Written: section header, interface description, enhanced packet; little-endian, times in nanoseconds. Read: the same
three in either order of octets and any decimal or binary resolution; every other block is passed over.

Decided here: the form. Left to `capture.file`: which interfaces there are and what is put on them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, Final

from meshwire.capture.errors import CaptureError, CaptureProblem

__all__ = [
    "Direction",
    "Interface",
    "LinkType",
    "Packet",
    "enhanced_packet",
    "interface_description",
    "read_packets",
    "section_header",
]

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_ENHANCED_PACKET: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_VERSION: Final = (1, 0)
_LENGTH_UNKNOWN: Final = -1
_MAX_BLOCK_OCTETS: Final = 16 * 1024 * 1024
_DIRECTION_MASK: Final = 3


class _Option(IntEnum):
    """Option codes; their meaning depends on the block, except for END and COMMENT."""

    END = 0
    COMMENT = 1
    IF_NAME = 2
    PACKET_FLAGS = 2
    IF_DESCRIPTION = 3
    SECTION_APPLICATION = 4
    IF_TIME_RESOLUTION = 9


class LinkType(IntEnum):
    """The two link types of a capture (the registry's LINKTYPE_ values)."""

    USER0 = 147
    """Private use: one HDLC frame with its flags, or octets that are none."""
    EXPORTED_PDU = 252
    """LINKTYPE_WIRESHARK_UPPER_PDU: a PDU that says itself which dissector it is for."""


class Direction(IntEnum):
    """Bits 0 and 1 of the flags of an enhanced packet, seen from the NIC."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface description.

    Args:
        link_type: what the packets of this interface are.
        name: short, shown in Wireshark's column and filter `frame.interface_name`.
        description: for people.
    """

    link_type: int
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as read from a file.

    Args:
        interface: where it was captured.
        at_ns: Unix time in nanoseconds.
        octets: the packet.
        direction: seen from the NIC.
        comments: in the order of the file.
    """

    interface: Interface
    at_ns: int
    octets: bytes
    direction: Direction = Direction.UNKNOWN
    comments: tuple[str, ...] = ()


def section_header(application: str) -> bytes:
    """The block that begins a section (section 4.1). `application` is what wrote it."""
    body = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, *_VERSION, _LENGTH_UNKNOWN)
    return _block(_SECTION_HEADER, body + _options([(_Option.SECTION_APPLICATION, application.encode())]))


def interface_description(interface: Interface) -> bytes:
    """The block that adds an interface to the section (section 4.2); interfaces count from 0 in the order written."""
    body = struct.pack("<HHI", interface.link_type, 0, 0)  # snapshot length 0: no limit
    options = [
        (_Option.IF_NAME, interface.name.encode()),
        (_Option.IF_DESCRIPTION, interface.description.encode()),
        (_Option.IF_TIME_RESOLUTION, b"\x09"),
    ]
    return _block(_INTERFACE_DESCRIPTION, body + _options(options))


def enhanced_packet(
    interface_id: int, at_ns: int, octets: bytes, *, direction: Direction, comments: Iterable[str] = ()
) -> bytes:
    """One packet (section 4.3). `at_ns` is Unix time in nanoseconds."""
    header = struct.pack("<IIIII", interface_id, at_ns >> 32, at_ns & 0xFFFFFFFF, len(octets), len(octets))
    options = [(_Option.COMMENT, comment.encode()) for comment in comments]
    options.append((_Option.PACKET_FLAGS, struct.pack("<I", direction)))
    return _block(_ENHANCED_PACKET, header + _padded(octets) + _options(options))


def _block(kind: int, body: bytes) -> bytes:
    total = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + total + body + total


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    listed = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options if value)
    return listed + struct.pack("<HH", _Option.END, 0)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


@dataclass(slots=True)
class _Section:
    """What has to be remembered while a section is read."""

    order: str
    interfaces: list[tuple[Interface, int]]


def read_packets(stream: BinaryIO) -> Iterator[Packet]:
    """The packets of a file, in its order; a last block that was cut off (a capture still running) ends it silently.

    Raises:
        CaptureError: MW-CAP-002 when it is no pcapng file, or damaged.
    """
    section: _Section | None = None
    for kind, body, order in _read_blocks(stream):
        try:
            if kind == _SECTION_HEADER:
                section = _Section(order, [])
            elif section is not None and kind == _INTERFACE_DESCRIPTION:
                section.interfaces.append(_read_interface(body, order))
            elif section is not None and kind == _ENHANCED_PACKET:
                yield _read_enhanced(body, section)
        except (struct.error, IndexError) as error:
            raise _damaged(f"block of type {kind}: {error}") from None


def _read_blocks(stream: BinaryIO) -> Iterator[tuple[int, bytes, str]]:
    """(type, body, order of octets) of each block."""
    order = ""
    while len(head := stream.read(8)) == 8:
        if head[:4] == _SECTION_HEADER.to_bytes(4, "big"):  # a palindrome: the same in both orders
            magic = stream.read(4)
            order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(magic, "")
            if len(magic) < 4:
                return
        else:
            magic = b""
        if not order:
            raise _damaged(f"it begins with {head.hex(' ')}")
        kind, total = struct.unpack(f"{order}II", head)
        rest = total - 8 - len(magic)
        if total % 4 or total < 12 or total > _MAX_BLOCK_OCTETS:
            raise _damaged(f"a block of {total} octets")
        body = stream.read(rest)
        if len(body) < rest:
            return
        yield kind, magic + body[:-4], order


def _read_interface(body: bytes, order: str) -> tuple[Interface, int]:
    """The interface, and the octet that says how fine its times are; microseconds where there is none."""
    (link_type,) = struct.unpack_from(f"{order}H", body)
    options = dict(_read_options(body[8:], order))
    resolution = options.get(_Option.IF_TIME_RESOLUTION, b"\x06")[0]
    name, description = options.get(_Option.IF_NAME, b""), options.get(_Option.IF_DESCRIPTION, b"")
    return Interface(link_type, name.decode(errors="replace"), description.decode(errors="replace")), resolution


def _read_enhanced(body: bytes, section: _Section) -> Packet:
    interface_id, high, low, captured, _ = struct.unpack_from(f"{section.order}IIIII", body)
    interface, resolution = section.interfaces[interface_id]
    options = list(_read_options(body[20 + captured + -captured % 4 :], section.order))
    flags = next((value for code, value in options if code == _Option.PACKET_FLAGS), bytes(4))
    (flag_bits,) = struct.unpack(f"{section.order}I", flags)
    direction = flag_bits & _DIRECTION_MASK
    return Packet(
        interface,
        _nanoseconds(high << 32 | low, resolution),
        body[20 : 20 + captured],
        Direction(direction) if direction in (1, 2) else Direction.UNKNOWN,
        tuple(value.decode(errors="replace") for code, value in options if code == _Option.COMMENT),
    )


def _nanoseconds(ticks: int, resolution: int) -> int:
    """Resolution: a negative power of 10, or of 2 when its highest bit is set (section 4.2, if_tsresol)."""
    base = 2 if resolution & 0x80 else 10
    return int(ticks * 1_000_000_000 // base ** (resolution & 0x7F))


def _read_options(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(data):
        code, size = struct.unpack_from(f"{order}HH", data, position)
        if code == _Option.END:
            return
        yield code, data[position + 4 : position + 4 + size]
        position += 4 + size + -size % 4


def _damaged(evidence: str) -> CaptureError:
    return CaptureError(
        CaptureProblem.NOT_A_CAPTURE,
        "the capture cannot be read",
        evidence=evidence,
        fix="give a pcapng file, such as `meshwire capture` writes",
    )
