"""pcapng blocks by their octets, read back, and files of others."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.capture.errors import CaptureError
from meshwire.capture.exported_pdu import coap_pdu
from meshwire.capture.pcapng import (
    Direction,
    Interface,
    Packet,
    enhanced_packet,
    interface_description,
    read_packets,
    section_header,
)
from meshwire.capture.record import Side

USER0 = Interface(147, "hdlc", "a line")
START = section_header("test") + interface_description(USER0)


def test_a_section_header_is_what_the_draft_draws() -> None:
    # Section 4.1: type, length, magic, version 1.0, section length unknown, options, length.
    assert section_header("abc").hex(" ", 4) == (
        "0a0d0d0a 28000000 4d3c2b1a 01000000 ffffffff ffffffff 04000300 61626300 00000000 28000000"
    )


def test_a_packet_is_what_the_draft_draws() -> None:
    octets = enhanced_packet(1, (2 << 32) + 3, b"\x7e\x01", direction=Direction.OUTBOUND)
    assert octets.hex(" ", 4) == (
        "06000000 30000000 01000000 02000000 03000000 02000000 02000000 7e010000 02000400 02000000 00000000 30000000"
    )


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=70),
            st.integers(0, 2**63),
            st.sampled_from(Direction),
            st.lists(st.text(min_size=1, max_size=20), max_size=2),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(packets: list[tuple[bytes, int, Direction, list[str]]]) -> None:
    file = START + b"".join(
        enhanced_packet(0, at_ns, octets, direction=direction, comments=comments)
        for octets, at_ns, direction, comments in packets
    )
    expected = [Packet(USER0, at_ns, octets, way, tuple(said)) for octets, at_ns, way, said in packets]
    assert list(read_packets(io.BytesIO(file))) == expected


def test_files_of_the_other_octet_order_with_microseconds_and_unknown_blocks_are_read() -> None:
    def block(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)

    file = block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    file += block(1, struct.pack(">HHI", 147, 0, 0))
    file += block(0x0BAD, b"\x00" * 8)
    file += block(6, struct.pack(">IIIII", 0, 0, 5, 1, 1) + b"\x7e\x00\x00\x00")
    assert list(read_packets(io.BytesIO(file))) == [Packet(Interface(147), 5000, b"\x7e")]


@pytest.mark.parametrize("cut", range(1, 48))
def test_a_capture_that_is_still_being_written_ends_silently(cut: int) -> None:
    packet = enhanced_packet(0, 1, b"\x7e\x7e", direction=Direction.INBOUND)
    assert list(read_packets(io.BytesIO(START + (packet + packet)[:-cut]))) == [
        Packet(USER0, 1, b"\x7e\x7e", Direction.INBOUND)
    ]


@pytest.mark.parametrize(
    "octets",
    [
        b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00",  # classic pcap
        b"GET / HTTP/1.1\r\n",
        START + struct.pack("<II", 6, 0xFFFFFFF0) + b"x" * 40,
        START + struct.pack("<II", 6, 8) + b"x" * 40,
        section_header("x") + enhanced_packet(0, 1, b"", direction=Direction.INBOUND),  # no interface 0
        START + struct.pack("<III", 6, 16, 0) + struct.pack("<I", 16),
    ],
)
def test_what_is_no_pcapng_is_said(octets: bytes) -> None:
    with pytest.raises(CaptureError, match="MW-CAP-002"):
        list(read_packets(io.BytesIO(octets)))


def test_a_coap_pdu_names_its_dissector_and_its_stations() -> None:
    octets = coap_pdu(Side.BOARD, b"\x60\x00\x00\x01")
    assert octets.startswith(bytes.fromhex("000c0004") + b"coap" + bytes.fromhex("00160010 20010db8"))
    assert octets.endswith(bytes.fromhex("00000000 60000001"))
    assert octets.replace(b"\x00\x16", b"\x00\x17", 1) != coap_pdu(Side.NIC, b"\x60\x00\x00\x01")
