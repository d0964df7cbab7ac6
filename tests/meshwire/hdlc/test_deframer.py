"""Frames found in streams of octets: any cut, noise, doubled and shared flags, lost octets, rubbish."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import FrameKind, information, supervisory, unnumbered
from meshwire.hdlc.deframer import Deframer, Discarded
from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.frame import FLAG, Frame, encode_frame

ONE = Address(1)
SNRM = Frame(ONE, ONE, unnumbered(FrameKind.SNRM))
RR = Frame(ONE, ONE, supervisory(FrameKind.RR, 1, True))
I = Frame(ONE, ONE, information(0, 0, True), b"some information")  # noqa: E741 - the standard's name
FLAGGED = Frame(ONE, ONE, information(1, 0, True), FLAG * 30)
BIG = Frame(Address(9, 4), Address(1, 2), information(2, 3, False), bytes(range(256)) * 4, True)
FRAMES = [SNRM, I, RR, FLAGGED, BIG, I]
STREAM = b"".join(map(encode_frame, FRAMES))


def frames(found: list[Frame | Discarded]) -> list[Frame]:
    return [item for item in found if isinstance(item, Frame)]


def reasons(found: list[Frame | Discarded]) -> list[DiscardReason]:
    return [item.reason for item in found if isinstance(item, Discarded)]


def feed_in_pieces(deframer: Deframer, data: bytes, size: int) -> list[Frame | Discarded]:
    return [item for at in range(0, len(data), size) for item in deframer.feed(data[at : at + size])]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 64, 5000])
def test_any_cut_gives_the_same(size: int) -> None:
    deframer = Deframer()
    assert feed_in_pieces(deframer, STREAM, size) == FRAMES
    assert deframer.held_octets == 0
    assert deframer.counts.frames == len(FRAMES)


@pytest.mark.parametrize("size", [1, 4, 5000])
def test_flags_between_frames_are_passed_over(size: int) -> None:
    stream = FLAG * 3 + FLAG.join(map(encode_frame, FRAMES)) + FLAG * 2
    assert feed_in_pieces(Deframer(), stream, size) == FRAMES


@pytest.mark.parametrize("size", [1, 4, 5000])
def test_one_flag_may_end_a_frame_and_open_the_next(size: int) -> None:
    stream = FLAG + b"".join(encode_frame(frame)[1:] for frame in FRAMES)
    assert feed_in_pieces(Deframer(), stream, size) == FRAMES


@pytest.mark.parametrize("size", [1, 4, 5000])
def test_noise_before_between_and_after(size: int) -> None:
    noise = bytes.fromhex("00 ff 55 a0 07")
    deframer = Deframer()
    found = feed_in_pieces(deframer, noise + noise.join(map(encode_frame, FRAMES)) + noise, size)
    found += deframer.idle()
    assert frames(found) == FRAMES
    assert deframer.held_octets == 0
    assert deframer.counts.discarded_octets >= len(noise) * (len(FRAMES) + 1)


@pytest.mark.parametrize("cut", range(1, len(encode_frame(I))))
def test_a_truncated_frame_costs_itself_only(cut: int) -> None:
    following = Frame(ONE, ONE, information(1, 0, True), b"A" * 40)
    deframer = Deframer()
    found = deframer.feed(encode_frame(I)[:cut] + encode_frame(following) + encode_frame(RR))
    found += deframer.idle()
    # When only the closing flag is missing, the next opening flag stands in for it.
    whole = [I] if cut == len(encode_frame(I)) - 1 else []
    assert frames(found) == [*whole, following, RR]


def test_a_flag_that_happens_to_stand_at_the_end_takes_what_lies_before_it_along() -> None:
    """The price of not searching inside a frame whose length fits: these come again by the link's procedure."""
    cut = encode_frame(I)[: -len(encode_frame(RR))]
    found = Deframer().feed(cut + encode_frame(RR) + encode_frame(SNRM))
    assert frames(found) == [SNRM]
    assert reasons(found) == [DiscardReason.FCS]


@pytest.mark.parametrize("lost", range(len(encode_frame(I))))
def test_a_lost_octet_costs_one_frame(lost: int) -> None:
    octets = encode_frame(I)
    deframer = Deframer()
    found = deframer.feed(encode_frame(SNRM) + octets[:lost] + octets[lost + 1 :] + encode_frame(RR) * 2)
    found += deframer.idle()
    # Without its opening flag the frame begins with the closing flag before it: nothing is lost.
    survivors = [SNRM, I, RR, RR] if lost in (0, len(octets) - 1) else [SNRM, RR, RR]
    assert frames(found) == survivors


@pytest.mark.parametrize("at", range(len(encode_frame(I))))
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_costs_one_frame(at: int, bit: int) -> None:
    octets = bytearray(encode_frame(I))
    octets[at] ^= 1 << bit
    deframer = Deframer()
    found = deframer.feed(encode_frame(SNRM) + FLAG + bytes(octets) + FLAG + encode_frame(RR))
    found += deframer.idle()
    assert frames(found) == [SNRM, RR]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("00 00", DiscardReason.NOISE),
        ("7e 90 07 03 03 93 8c 11 7e", DiscardReason.FORMAT),
        ("7e a0 05 03 03 93 8c 11 7e", DiscardReason.LENGTH),
        ("7e a0 07 02 02 02 8c 11 7e", DiscardReason.ADDRESS),
        ("7e a0 07 03 03 93 8c 10 7e", DiscardReason.HCS),
        ("7e a0 0d 03 03 52 a7 1a 70 00 f1 08 db 55 7e", DiscardReason.FCS),
        ("7e a0 0d 03 03 52 a7 1a 70 00 f1 09 db 55 00 7e", DiscardReason.UNCLOSED),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_reasons(octets: str, reason: DiscardReason, size: int) -> None:
    deframer = Deframer()
    found = feed_in_pieces(deframer, bytes.fromhex(octets) + encode_frame(RR), size)
    assert frames(found) == [RR]
    assert reasons(found)[0] is reason
    assert deframer.counts.discarded[reason] >= 1


def test_a_bad_fcs_does_not_open_the_information_to_a_search() -> None:
    image = encode_frame(SNRM)
    octets = bytearray(encode_frame(Frame(ONE, ONE, information(0, 0, True), b"xx" + image + b"yy")))
    octets[9] ^= 1
    found = Deframer().feed(bytes(octets) + encode_frame(RR))
    assert frames(found) == [RR]
    assert reasons(found) == [DiscardReason.FCS]


def test_silence_ends_a_frame() -> None:
    deframer = Deframer()
    assert deframer.feed(encode_frame(I)[:-4]) == []
    assert deframer.held_octets == len(encode_frame(I)) - 4
    assert reasons(deframer.idle()) == [DiscardReason.TRUNCATED]
    assert deframer.held_octets == 0
    assert deframer.feed(encode_frame(RR)) == [RR]


def test_silence_frees_a_frame_behind_octets_that_look_like_the_start_of_one() -> None:
    deframer = Deframer()
    false_start = encode_frame(BIG)[:20]
    assert deframer.feed(false_start + encode_frame(RR)) == []
    assert frames(deframer.idle()) == [RR]


def test_silence_after_a_frame_says_nothing() -> None:
    deframer = Deframer()
    deframer.feed(encode_frame(RR))
    assert deframer.idle() == []


def test_reset_forgets_without_a_word() -> None:
    deframer = Deframer()
    deframer.feed(encode_frame(I)[:-4])
    deframer.reset()
    assert deframer.feed(encode_frame(RR)) == [RR]
    assert deframer.counts.discarded_octets == 0


def test_a_frame_beyond_the_limit_is_not_waited_for() -> None:
    deframer = Deframer(max_length=100)
    found = deframer.feed(encode_frame(BIG)[:30])
    assert reasons(found) == [DiscardReason.LENGTH]
    assert deframer.held_octets < 30


def test_no_octets() -> None:
    deframer = Deframer()
    assert deframer.feed(b"") == []
    deframer.feed(encode_frame(RR))
    assert deframer.feed(b"") == []
    assert deframer.feed(encode_frame(RR)[1:]) == [RR]


def test_a_megabyte_of_rubbish_is_bounded_and_counted() -> None:
    source = random.Random(62056)
    rubbish = source.randbytes(1 << 20)
    deframer = Deframer()
    found: list[Frame | Discarded] = []
    at = 0
    while at < len(rubbish):
        size = source.choice((1, 3, 50, 700))
        found += deframer.feed(rubbish[at : at + size])
        assert deframer.held_octets <= 2049
        at += size
    found += deframer.idle()
    assert frames(found) == []
    discarded = sum(len(item.octets) for item in found if isinstance(item, Discarded))
    assert discarded == deframer.counts.discarded_octets
    # All but flags that were taken for the space between frames.
    assert len(rubbish) - rubbish.count(FLAG) <= discarded <= len(rubbish)
    assert sum(deframer.counts.discarded.values()) == len(found)
    assert deframer.feed(encode_frame(RR)) == [RR]


def test_rubbish_full_of_good_headers_takes_no_more_than_linear_time() -> None:
    head = encode_frame(Frame(ONE, ONE, information(0, 0, True), bytes(2038)))[:8]
    deframer = Deframer()
    begin = time.thread_time()
    for _ in range(20):
        deframer.feed(head * 1000)
        deframer.idle()
    assert time.thread_time() - begin < 5
    assert deframer.counts.frames == 0


@given(st.lists(st.sampled_from(FRAMES) | st.binary(max_size=30), max_size=12), st.integers(1, 50))
def test_never_raises_and_always_recovers(parts: list[Frame | bytes], size: int) -> None:
    stream = b"".join(part if isinstance(part, bytes) else encode_frame(part) for part in parts)
    deframer = Deframer()
    whole = Deframer()
    found = feed_in_pieces(deframer, stream, size) + deframer.idle()
    assert frames(found) == frames(whole.feed(stream) + whole.idle())
    assert deframer.held_octets == 0
    assert frames(deframer.feed(FLAG + encode_frame(RR))) == [RR]


def test_speed_of_encoding_and_decoding() -> None:
    """A floor far under what an idle machine does (above 350,000 a second), so that a loop over octets is noticed."""
    frame = Frame(ONE, ONE, information(1, 2, True), bytes(range(64)))
    deframer = Deframer()
    best = 0.0
    for _ in range(5):
        begin = time.process_time()
        for _ in range(5000):
            deframer.feed(encode_frame(frame))
        best = max(best, 5000 / (time.process_time() - begin))
    assert best > 60_000
