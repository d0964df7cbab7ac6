"""SDUs cut into segments and put together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc.errors import SduError
from meshwire.hdlc.segmentation import Reassembler, Segment, split_sdu


@pytest.mark.parametrize(
    ("octets", "limit", "sizes"),
    [(1, 128, [1]), (128, 128, [128]), (129, 128, [128, 1]), (256, 128, [128, 128]), (5, 1, [1] * 5)],
)
def test_cut(octets: int, limit: int, sizes: list[int]) -> None:
    segments = split_sdu(9, bytes(octets), limit)
    assert [len(segment.info) for segment in segments] == sizes
    assert [segment.last for segment in segments] == [False] * (len(sizes) - 1) + [True]
    assert {segment.handle for segment in segments} == {9}


@given(st.binary(min_size=1, max_size=500), st.integers(1, 200))
def test_round_trip(sdu: bytes, limit: int) -> None:
    reassembler = Reassembler(500)
    *others, last = split_sdu(1, sdu, limit)
    assert [reassembler.add(segment.info, True) for segment in others] == [None] * len(others)
    assert reassembler.add(last.info, False) == sdu
    assert reassembler.held_octets == 0


def test_an_sdu_in_one_segment_passes_through() -> None:
    assert split_sdu(1, b"abc", 3) == (Segment(1, b"abc", True),)
    assert Reassembler(3).add(b"abc", False) == b"abc"


def test_memory_is_bounded() -> None:
    reassembler = Reassembler(10)
    assert reassembler.add(b"12345678", True) is None
    with pytest.raises(SduError) as caught:
        reassembler.add(b"901", True)
    assert (caught.value.octets, caught.value.limit_octets) == (11, 10)
    assert reassembler.held_octets == 0


def test_a_half_sdu_is_forgotten_with_its_link() -> None:
    reassembler = Reassembler(10)
    reassembler.add(b"half", True)
    reassembler.clear()
    assert reassembler.add(b"whole", False) == b"whole"
