"""The judge's receiver: good frames, each fault by itself, and nothing lost of what came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.conform.seen_frame import Fault, read_frames
from meshwire.hdlc.control import FrameKind

UA = bytes.fromhex("7ea020030373f02e81801405 0200ff060200ff07040000000108040000000136197e")
RR = bytes.fromhex("7ea00703031196b67e")


def test_a_good_frame_has_no_faults() -> None:
    (frame,) = read_frames(UA)
    assert (frame.kind, frame.final, frame.faults, len(frame.info)) == (FrameKind.UA, True, (), 23)


def test_one_flag_may_stand_between_two_frames() -> None:
    assert [frame.kind for frame in read_frames(RR[:-1] + UA)] == [FrameKind.RR, FrameKind.UA]
    assert [frame.kind for frame in read_frames(RR + UA)] == [FrameKind.RR, FrameKind.UA]


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"\x00" + RR, Fault.NOISE),
        (RR[:6] + bytes((RR[6] ^ 1,)) + RR[7:], Fault.HCS),
        (UA[:-2] + bytes((UA[-2] ^ 1,)) + b"\x7e", Fault.FCS),
        (b"\x7e\x90" + RR[2:], Fault.TYPE),
        (RR[:2] + b"\x09" + RR[3:], Fault.LENGTH),
    ],
)
def test_a_fault_is_named_and_the_kind_is_read_all_the_same(octets: bytes, fault: Fault) -> None:
    frames = read_frames(octets)
    assert any(fault in frame.faults for frame in frames)
    assert frames[-1].kind in (FrameKind.RR, FrameKind.UA)


@given(st.binary(max_size=80))
def test_any_octets_are_read_without_an_error(octets: bytes) -> None:
    shown = b"".join(frame.octets for frame in read_frames(b"\x7e" + octets))
    assert len(shown.replace(b"\x7e", b"")) <= len(octets)
    assert set(octets) - {0x7E} <= set(shown)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_frame_behind_noise_without_flags_is_found(before: bytes, after: bytes) -> None:
    noise = before.replace(b"\x7e", b"")
    assert any(frame.octets == RR for frame in read_frames(noise + RR + after.replace(b"\x7e", b"")))
