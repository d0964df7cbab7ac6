"""The control field: one octet that says what kind of frame it is (IEC 62056-46, 6.4.3).

    I       N(R) N(R) N(R) P/F  N(S) N(S) N(S) 0
    S       N(R) N(R) N(R) P/F  S    S    0    1        RR 00, RNR 01, REJ 10
    U       M    M    M    P/F  M    M    1    1        SNRM, DISC, UA, DM, FRMR, UI, SABM

All 256 octets are decoded once, when the module is loaded; afterwards decoding is one look-up. REJ and SABM are known
by name so that a station can say what it refuses; every other undefined octet decodes to UNKNOWN and keeps its value,
because a FRMR must quote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MODULUS: Final = 8
"""Sequence numbers run from 0 to 7."""

POLL_FINAL: Final = 0x10
"""The P bit of a command, the F bit of a response."""


class FrameKind(StrEnum):
    """The frames of unnumbered (U), supervisory (S) and information (I) format."""

    I = "I"  # noqa: E741 - the standard's name
    RR = "RR"
    RNR = "RNR"
    REJ = "REJ"
    SNRM = "SNRM"
    DISC = "DISC"
    UA = "UA"
    DM = "DM"
    FRMR = "FRMR"
    UI = "UI"
    SABM = "SABM"
    UNKNOWN = "UNKNOWN"


_SUPERVISORY: Final = {FrameKind.RR: 0x01, FrameKind.RNR: 0x05, FrameKind.REJ: 0x09}
_UNNUMBERED: Final = {
    FrameKind.SNRM: 0x83,
    FrameKind.DISC: 0x43,
    FrameKind.UA: 0x63,
    FrameKind.DM: 0x0F,
    FrameKind.FRMR: 0x87,
    FrameKind.UI: 0x03,
    FrameKind.SABM: 0x2F,
}


@dataclass(frozen=True, slots=True)
class ControlField:
    """A control field taken apart.

    ``ns`` and ``nr`` are N(S) and N(R), 0 to 7, and 0 where the format has none; ``octet`` is what goes on the line and
    is worked out from the rest, except for UNKNOWN, which only ``decode_control`` makes.
    """

    kind: FrameKind
    ns: int = 0
    nr: int = 0
    poll_final: bool = False
    octet: int = -1

    def __post_init__(self) -> None:
        if self.octet < 0:
            object.__setattr__(self, "octet", _octet(self.kind, self.ns, self.nr, self.poll_final))

    def __str__(self) -> str:
        numbers = ""
        if self.kind is FrameKind.I:
            numbers = f" ns={self.ns} nr={self.nr}"
        elif self.kind in _SUPERVISORY:
            numbers = f" nr={self.nr}"
        elif self.kind is FrameKind.UNKNOWN:
            numbers = f" {self.octet:02x}"
        return f"{self.kind.value}{numbers}{' P/F' if self.poll_final else ''}"


def _octet(kind: FrameKind, ns: int, nr: int, poll_final: bool) -> int:
    if not (0 <= ns < MODULUS and 0 <= nr < MODULUS):
        raise ValueError(f"N(S) {ns} or N(R) {nr} is not within 0 to 7")
    bit = POLL_FINAL if poll_final else 0
    if kind is FrameKind.I:
        return nr << 5 | bit | ns << 1
    if ns:
        raise ValueError(f"a {kind.value} frame has no N(S)")
    if kind in _SUPERVISORY:
        return nr << 5 | bit | _SUPERVISORY[kind]
    if nr:
        raise ValueError(f"a {kind.value} frame has no N(R)")
    if kind not in _UNNUMBERED:
        raise ValueError("an unknown control field can only be decoded")
    return _UNNUMBERED[kind] | bit


def _build_table() -> tuple[ControlField, ...]:
    """Encode every control field there is, and fill what is left over with UNKNOWN."""
    fields = [ControlField(FrameKind.I, ns, nr, pf) for ns in range(8) for nr in range(8) for pf in (False, True)]
    fields += [ControlField(kind, 0, nr, pf) for kind in _SUPERVISORY for nr in range(8) for pf in (False, True)]
    fields += [ControlField(kind, poll_final=pf) for kind in _UNNUMBERED for pf in (False, True)]
    table = {field.octet: field for field in fields}
    return tuple(
        table.get(octet) or ControlField(FrameKind.UNKNOWN, poll_final=bool(octet & POLL_FINAL), octet=octet)
        for octet in range(256)
    )


CONTROL_FIELDS: Final = _build_table()
"""The control field of each octet, 0 to 255."""


def decode_control(octet: int) -> ControlField:
    """Return the control field that ``octet`` (0 to 255) stands for; UNKNOWN when the standard defines none."""
    return CONTROL_FIELDS[octet]


def information(ns: int, nr: int, poll_final: bool) -> ControlField:
    """Return the control field of an I frame without making a new object."""
    return CONTROL_FIELDS[nr << 5 | (POLL_FINAL if poll_final else 0) | ns << 1]


def supervisory(kind: FrameKind, nr: int, poll_final: bool) -> ControlField:
    """Return the control field of a RR, RNR or REJ frame without making a new object."""
    return CONTROL_FIELDS[nr << 5 | (POLL_FINAL if poll_final else 0) | _SUPERVISORY[kind]]


def unnumbered(kind: FrameKind, poll_final: bool = True) -> ControlField:
    """Return the control field of an unnumbered frame without making a new object."""
    return CONTROL_FIELDS[_UNNUMBERED[kind] | (POLL_FINAL if poll_final else 0)]
