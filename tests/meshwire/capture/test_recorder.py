"""What passes by becomes records: frames, SDUs put together, what came again, and what was no frame."""

from __future__ import annotations

import pytest

from meshwire.capture.record import Record, Side, describe
from meshwire.capture.recorder import OCTET_TIMEOUT_NS, Recorder
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind, decode_control, information
from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.frame import Frame, encode_frame

STATION = Address(1)
SNRM = encode_frame(Frame(STATION, STATION, ControlField(FrameKind.SNRM, poll_final=True)))


def i_frame(ns: int, info: bytes, segmented: bool = False) -> bytes:
    return encode_frame(Frame(STATION, STATION, information(ns, 0, True), info, segmented))


def records(*octets: bytes, sender: Side = Side.NIC, gap_ns: int = 1) -> list[Record]:
    told: list[Record] = []
    recorder = Recorder([told.append])
    for number, data in enumerate(octets, 1):
        recorder.heard(sender, data, number * gap_ns)
    recorder.finish()
    return told


@pytest.mark.parametrize("control", range(256))
def test_a_frame_is_recorded_octet_for_octet(control: int) -> None:
    octets = encode_frame(Frame(Address(300, 2), Address(5, 4), decode_control(control), b"\x7e\x7d~"))
    assert [record.octets for record in records(*(bytes([each]) for each in octets))] == [octets]


def test_frames_that_share_a_flag_are_two_whole_ones() -> None:
    told = records(SNRM + SNRM[1:])
    assert [record.octets for record in told] == [SNRM, SNRM]


def test_segments_are_put_together_and_a_repeated_one_counts_once() -> None:
    frames = (SNRM, i_frame(0, b"ab", True), i_frame(0, b"ab", True), i_frame(1, b"cd", True), i_frame(2, b"ef"))
    told = records(*frames)
    assert [record.sdu for record in told] == [b"", b"", b"", b"", b"abcdef"]
    assert [record.note for record in told] == ["", "", "this N(S) came before", "", ""]


def test_a_whole_sdu_that_came_again_is_shown_again() -> None:
    told = records(SNRM, i_frame(0, b"ab"), i_frame(0, b"ab"), i_frame(3, b"cd"))
    assert [record.sdu for record in told] == [b"", b"ab", b"ab", b"cd"]
    assert told[2].note == "this N(S) came before" and told[3].note == "N(S) out of sequence"


def test_a_new_link_begins_at_zero_on_both_sides() -> None:
    told: list[Record] = []
    recorder = Recorder([told.append])
    recorder.heard(Side.BOARD, i_frame(0, b"ab"), 1)
    recorder.heard(Side.NIC, SNRM, 2)
    recorder.heard(Side.BOARD, i_frame(0, b"ab"), 3)
    assert told[-1].note == ""


def test_damage_is_told_with_its_reason_and_all_its_octets() -> None:
    good = i_frame(0, b"ab")
    bad = good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]
    assert [(r.reason, r.octets) for r in records(bad)] == [(DiscardReason.FCS, bad)]
    noise, frame = records(b"\x00\x01" + good)
    assert (noise.reason, noise.octets, frame.octets) == (DiscardReason.NOISE, b"\x00\x01", good)


def test_a_frame_that_was_broken_off_is_told_after_the_silence() -> None:
    told: list[Record] = []
    recorder = Recorder([told.append])
    recorder.heard(Side.BOARD, SNRM[:6], 1_000)
    recorder.silence(1_000 + OCTET_TIMEOUT_NS)
    assert told == []
    recorder.silence(1_001 + OCTET_TIMEOUT_NS)
    assert [(r.reason, r.at_ns, r.sender) for r in told] == [(DiscardReason.TRUNCATED, 1_000, Side.BOARD)]
    recorder.heard(Side.BOARD, SNRM, 2_000_000_000)
    assert told[-1].octets == SNRM


def test_directions_do_not_disturb_each_other() -> None:
    told: list[Record] = []
    recorder = Recorder([told.append])
    for position in range(len(SNRM)):
        for side in Side:
            recorder.heard(side, SNRM[position : position + 1], position)
    assert [(r.sender, r.octets) for r in told] == [(Side.NIC, SNRM), (Side.BOARD, SNRM)]


def test_lines_for_people() -> None:
    get = bytes.fromhex("42010102c0de60b174") + b"\xffsecret"
    (record,) = records(i_frame(0, get))
    line = describe(record)
    assert "nic > board" in line and "I ns=0 nr=0 P/F" in line and "CON GET" in line and "observe=0" in line
    assert "secret" not in line and get.hex(" ") not in line
    assert get.hex(" ") in describe(record, with_hex=True)
    assert "no CoAP" in describe(records(i_frame(0, b"\xff"))[0])
    assert "no frame: noise, 3 octets" in describe(records(b"abc")[0])
    wake = Record(0, Side.BOARD, b"", note="wake line pulsed")
    assert describe(wake).endswith("(wake line pulsed)")
    assert "[" not in describe(wake, with_hex=True)
