"""A PDU with the tags that tell Wireshark what it is (LINKTYPE_WIRESHARK_UPPER_PDU, epan/exported_pdu.h).

    tag (2, big-endian) | length (2) | value, padded to 4            the list ends with tag 0; then comes the PDU

The two stations of a serial line have no addresses that Wireshark could pair requests and answers by, so each gets an
IPv6 address of the documentation prefix (RFC 3849).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final

from meshwire.capture.record import Side

__all__ = ["ADDRESSES", "COAP_PORT", "coap_pdu"]

ADDRESSES: Final = {Side.NIC: IPv6Address("2001:db8::1"), Side.BOARD: IPv6Address("2001:db8::b")}
COAP_PORT: Final = 5683
_PORT_TYPE_UDP: Final = 3


class _Tag(IntEnum):
    """The tags used here."""

    END = 0
    DISSECTOR_NAME = 12
    IPV6_SOURCE = 22
    IPV6_DESTINATION = 23
    PORT_TYPE = 24
    SOURCE_PORT = 25
    DESTINATION_PORT = 26


def _tag(tag: _Tag, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return struct.pack(">HH", tag, len(padded)) + padded


def _tags(sender: Side) -> bytes:
    port = struct.pack(">I", COAP_PORT)
    return (
        _tag(_Tag.DISSECTOR_NAME, b"coap")
        + _tag(_Tag.IPV6_SOURCE, ADDRESSES[sender].packed)
        + _tag(_Tag.IPV6_DESTINATION, ADDRESSES[sender.other].packed)
        + _tag(_Tag.PORT_TYPE, struct.pack(">I", _PORT_TYPE_UDP))
        + _tag(_Tag.SOURCE_PORT, port)
        + _tag(_Tag.DESTINATION_PORT, port)
        + struct.pack(">HH", _Tag.END, 0)
    )


_TAGS: Final = {side: _tags(side) for side in Side}


def coap_pdu(sender: Side, message: bytes) -> bytes:
    """`message` with the tags that make Wireshark decode it as CoAP between the NIC and the board."""
    return _TAGS[sender] + message
