"""The frame codec: every line of dialect A.10 both ways, what is no frame, and round trips."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import CONTROL_FIELDS, ControlField, FrameKind, information, unnumbered
from meshwire.hdlc.crc import crc16_x25
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.errors import DiscardReason, FrameError
from meshwire.hdlc.frame import FLAG, Frame, decode_frame, encode_frame

VECTORS = tomllib.loads((Path(__file__).parents[2] / "vectors" / "hdlc_milli.toml").read_text())["frame"]
ONE = Address(1)


def frame_of(vector: dict[str, object]) -> Frame:
    numbers = vector["ns"], vector["nr"]
    control = ControlField(FrameKind(str(vector["kind"])), *map(int, map(str, numbers)), bool(vector["poll_final"]))
    return Frame(ONE, ONE, control, bytes.fromhex(str(vector["info"])))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["meaning"])
class TestVectors:
    def test_encodes_to_these_octets(self, vector: dict[str, object]) -> None:
        assert encode_frame(frame_of(vector)).hex(" ") == vector["hex"]

    def test_decodes_whole(self, vector: dict[str, object]) -> None:
        octets = bytes.fromhex(str(vector["hex"]))
        assert decode_frame(octets[1:-1]) == frame_of(vector)
        assert Deframer().feed(octets) == [frame_of(vector)]

    def test_decodes_octet_by_octet(self, vector: dict[str, object]) -> None:
        octets = bytes.fromhex(str(vector["hex"]))
        deframer = Deframer()
        found = [deframer.feed(octets[at : at + 1]) for at in range(len(octets))]
        assert found == [[]] * (len(octets) - 1) + [[frame_of(vector)]]

    def test_decodes_with_trailing_octets(self, vector: dict[str, object]) -> None:
        octets = bytes.fromhex(str(vector["hex"]))
        for trailing in (b"\x7e", b"\x7e\xa0", b"\x00", octets[:5]):
            assert Deframer().feed(octets + trailing)[:1] == [frame_of(vector)]
        assert Deframer().feed(octets * 3) == [frame_of(vector)] * 3


def body(header: bytes, info_and_fcs: bytes = b"") -> bytes:
    """Complete a header by its HCS."""
    return header + crc16_x25(header).to_bytes(2, "little") + info_and_fcs


BROKEN = [
    ("", DiscardReason.TRUNCATED, "nothing"),
    ("a0", DiscardReason.TRUNCATED, "half a format field"),
    ("a0 07 03 03 93 8c", DiscardReason.TRUNCATED, "HCS incomplete"),
    ("90 07 03 03 93 8c 11", DiscardReason.FORMAT, "another frame format type"),
    ("a0 06 03 03 93 8c 11", DiscardReason.LENGTH, "shorter than any frame"),
    ("a0 07 03 03 93 8c 11 00", DiscardReason.LENGTH, "an octet too many"),
    ("a0 07 02 02 02 8c 11", DiscardReason.ADDRESS, "no address ends"),
    ("a0 07 02 02 03 03 11", DiscardReason.ADDRESS, "an address of three octets"),
    ("a0 07 03 03 93 8c 12", DiscardReason.HCS, "wrong HCS"),
    ("a0 0d 03 03 52 a7 1a 70 00 f1 09 db 54", DiscardReason.FCS, "wrong FCS"),
    ("a0 0d 03 03 52 a7 1a 70 00 f1 08 db 55", DiscardReason.FCS, "wrong information"),
]


@pytest.mark.parametrize(("octets", "reason", "meaning"), BROKEN)
def test_what_is_no_frame_says_why(octets: str, reason: DiscardReason, meaning: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode_frame(bytes.fromhex(octets))
    assert caught.value.reason is reason


@pytest.mark.parametrize("extra", [1, 2])
def test_room_for_an_fcs_but_not_for_information_is_no_length(extra: int) -> None:
    with pytest.raises(FrameError) as caught:
        decode_frame(body(bytes((0xA0, 7 + extra, 3, 3, 0x10)), b"\x00" * extra))
    assert caught.value.reason is DiscardReason.LENGTH


def test_flag_and_escape_octets_travel_as_they_are() -> None:
    info = bytes.fromhex("7e 7d 7e 7d 7e")  # a CoAP token the real board echoed (dialect A.3)
    octets = encode_frame(Frame(ONE, ONE, information(0, 0, True), info))
    assert info in octets
    assert Deframer().feed(octets)[0] == Frame(ONE, ONE, information(0, 0, True), info)


def test_segmentation_bit() -> None:
    octets = encode_frame(Frame(ONE, ONE, information(0, 0, False), b"x", segmented=True))
    assert octets[1:3] == bytes.fromhex("a8 0a")
    assert decode_frame(octets[1:-1]).segmented


def test_the_longest_frame_and_one_octet_more() -> None:
    longest = Frame(ONE, ONE, information(0, 0, True), bytes(2038))
    assert decode_frame(encode_frame(longest)[1:-1]) == longest
    with pytest.raises(FrameError) as caught:
        encode_frame(Frame(ONE, ONE, information(0, 0, True), bytes(2039)))
    assert caught.value.reason is DiscardReason.LENGTH


ADDRESSES = st.sampled_from([1, 2, 4]).flatmap(
    lambda size: st.integers(0, (1 << 7 * size) - 1).map(lambda value: Address(value, size))
)
FRAMES = st.builds(
    Frame,
    destination=ADDRESSES,
    source=ADDRESSES,
    control=st.sampled_from(CONTROL_FIELDS),
    info=st.binary(max_size=300) | st.just(FLAG * 20),
    segmented=st.booleans(),
)


@given(FRAMES)
def test_round_trip(frame: Frame) -> None:
    octets = encode_frame(frame)
    assert octets[:1] == octets[-1:] == FLAG
    assert decode_frame(octets[1:-1]) == frame


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: body(b"\xa0\x20\x03\x03\x10", data)))
def test_any_octets_give_a_frame_or_a_reason(octets: bytes) -> None:
    try:
        assert encode_frame(decode_frame(octets)) == FLAG + octets + FLAG
    except FrameError as error:
        assert isinstance(error.reason, DiscardReason)


def test_kept_headers_are_bounded() -> None:
    from meshwire.hdlc import frame as module

    for value in range(1 << 13):
        octets = encode_frame(Frame(Address(value, 2), ONE, unnumbered(FrameKind.UA)))
        decode_frame(octets[1:-1])
    assert len(module._encoded) <= 4096
    assert len(module.verified_headers) <= 4096


def test_text_for_logs() -> None:
    assert str(Frame(ONE, Address(16), information(1, 2, True), b"abc", True)) == "16>1 I ns=1 nr=2 P/F 3 octets +"
