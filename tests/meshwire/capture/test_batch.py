"""Records over the network and back, and what a device may not send."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.capture.batch import BatchError, Numbered, decode_batch, encode_batch, encode_record
from meshwire.capture.record import Record, Side
from meshwire.capture.recorder import Recorder
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import information
from meshwire.hdlc.frame import Frame, encode_frame

STATION = Address(1)
NOW_NS = 1_760_000_000_123_456_789
SNRM = bytes.fromhex("7ea00703039 38c117e".replace(" ", ""))
GET = bytes.fromhex("42011234aabbb76172647569 6e6f0474656d704473656e73".replace(" ", ""))


def records() -> list[Record]:
    """A whole message, one of two segments, a damaged frame, noise, and something beside the octets."""
    told: list[Record] = []
    recorder = Recorder([told.append])
    recorder.heard(Side.NIC, SNRM, NOW_NS)
    recorder.heard(Side.NIC, encode_frame(Frame(STATION, STATION, information(0, 0, True), GET)), NOW_NS + 1)
    for ns, part, more in ((1, GET[:9], True), (2, GET[9:], False)):
        recorder.heard(Side.NIC, encode_frame(Frame(STATION, STATION, information(ns, 0, True), part, more)), NOW_NS)
    recorder.heard(Side.BOARD, SNRM[:-2] + b"\0\x7e", NOW_NS + 2)
    recorder.event(Side.BOARD, "wake line pulsed", NOW_NS + 3)
    recorder.finish()
    return told


def test_every_kind_of_record_comes_back_as_it_was() -> None:
    sent = records()
    assert [record.sdu for record in sent if record.sdu] == [GET, GET], "whole, and put together"
    octets = encode_batch([encode_record(number, record) for number, record in enumerate(sent, 7)])
    assert decode_batch(octets) == [Numbered(number, record) for number, record in enumerate(sent, 7)]


def test_an_empty_batch_and_a_long_one() -> None:
    assert encode_batch([]) == b"\x80" and decode_batch(b"\x80") == []
    note = Record(NOW_NS, Side.NIC, b"", note="x")
    octets = encode_batch([encode_record(number, note) for number in range(200)])
    assert [each.number for each in decode_batch(octets)] == list(range(200))


GOOD = [1, NOW_NS, 0, SNRM, None, "", None]


@pytest.mark.parametrize(
    "item",
    [
        b"\x81",
        b"\x80\x80",
        b"\xa0",
        cbor2.dumps([GOOD[:6]]),
        cbor2.dumps([["1", *GOOD[1:]]]),
        cbor2.dumps([[1, -5, *GOOD[2:]]]),
        cbor2.dumps([[1, NOW_NS, 2, *GOOD[3:]]]),
        cbor2.dumps([[*GOOD[:3], SNRM[:-3] + b"\0\0\x7e", *GOOD[4:]]]),
        cbor2.dumps([[*GOOD[:4], "no such reason", *GOOD[5:]]]),
        cbor2.dumps([[*GOOD[:6], 7]]),
        cbor2.dumps([GOOD, GOOD]),
    ],
)
def test_what_does_not_fit_is_refused_whole(item: bytes) -> None:
    with pytest.raises(BatchError):
        decode_batch(item)


@given(st.binary(max_size=200))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    try:
        decode_batch(octets)
    except BatchError:
        pass
