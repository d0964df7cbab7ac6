"""Control fields: the table of dialect A.4, all 256 octets, and what cannot be encoded."""

from __future__ import annotations

import pytest

from meshwire.hdlc.control import (
    CONTROL_FIELDS,
    ControlField,
    FrameKind,
    decode_control,
    information,
    supervisory,
    unnumbered,
)

UNNUMBERED = [
    (FrameKind.SNRM, 0x83, 0x93),
    (FrameKind.DISC, 0x43, 0x53),
    (FrameKind.UA, 0x63, 0x73),
    (FrameKind.DM, 0x0F, 0x1F),
    (FrameKind.FRMR, 0x87, 0x97),
    (FrameKind.UI, 0x03, 0x13),
    (FrameKind.SABM, 0x2F, 0x3F),
]


@pytest.mark.parametrize(("kind", "plain", "with_bit"), UNNUMBERED)
def test_unnumbered(kind: FrameKind, plain: int, with_bit: int) -> None:
    assert ControlField(kind).octet == plain
    assert ControlField(kind, poll_final=True).octet == with_bit
    assert decode_control(plain) == ControlField(kind)
    assert decode_control(with_bit) == ControlField(kind, poll_final=True) == unnumbered(kind)


@pytest.mark.parametrize("poll_final", [False, True])
@pytest.mark.parametrize("nr", range(8))
def test_supervisory(nr: int, poll_final: bool) -> None:
    for kind, low in ((FrameKind.RR, 0x01), (FrameKind.RNR, 0x05), (FrameKind.REJ, 0x09)):
        octet = nr << 5 | low | (0x10 if poll_final else 0)
        assert decode_control(octet) == ControlField(kind, nr=nr, poll_final=poll_final)
        assert supervisory(kind, nr, poll_final).octet == octet


@pytest.mark.parametrize("poll_final", [False, True])
@pytest.mark.parametrize("nr", range(8))
@pytest.mark.parametrize("ns", range(8))
def test_information(ns: int, nr: int, poll_final: bool) -> None:
    octet = nr << 5 | ns << 1 | (0x10 if poll_final else 0)
    assert decode_control(octet) == ControlField(FrameKind.I, ns, nr, poll_final)
    assert information(ns, nr, poll_final).octet == octet


def test_every_octet_decodes_and_encodes_to_itself() -> None:
    assert [field.octet for field in CONTROL_FIELDS] == list(range(256))
    known = [field for field in CONTROL_FIELDS if field.kind is not FrameKind.UNKNOWN]
    assert len(known) == 128 + 3 * 16 + 7 * 2
    for field in known:
        assert ControlField(field.kind, field.ns, field.nr, field.poll_final).octet == field.octet


def test_an_undefined_octet_keeps_its_value_and_its_bit() -> None:
    unknown = decode_control(0xFF)
    assert (unknown.kind, unknown.octet, unknown.poll_final) == (FrameKind.UNKNOWN, 0xFF, True)


@pytest.mark.parametrize(
    ("kind", "ns", "nr"),
    [
        (FrameKind.I, 8, 0),
        (FrameKind.I, 0, 8),
        (FrameKind.I, -1, 0),
        (FrameKind.RR, 1, 0),
        (FrameKind.UA, 0, 1),
        (FrameKind.UNKNOWN, 0, 0),
    ],
)
def test_what_no_octet_can_say_is_refused(kind: FrameKind, ns: int, nr: int) -> None:
    with pytest.raises(ValueError, match=r"N\(|unknown"):
        ControlField(kind, ns, nr)


def test_text_for_logs() -> None:
    assert str(information(1, 2, True)) == "I ns=1 nr=2 P/F"
    assert str(supervisory(FrameKind.RNR, 3, False)) == "RNR nr=3"
    assert str(unnumbered(FrameKind.SNRM)) == "SNRM P/F"
    assert str(decode_control(0xFF)) == "UNKNOWN ff P/F"
