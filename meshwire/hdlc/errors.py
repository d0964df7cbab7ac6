"""What can be wrong: the caller's mistakes (raised) and the line's (named by a reason, never raised to a caller).

HdlcError
├── AddressError      a value that no address of that size can hold
├── FrameError        octets that are not a frame, or a frame that cannot be sent; carries the DiscardReason
├── ParameterError    a parameter field that cannot be read, or limits outside the standard's ranges
├── SduError          an SDU that this link can never carry (empty, or longer than the profile allows)
└── SendQueueFull     the station already holds as many SDUs as the profile allows
"""

from __future__ import annotations

from enum import StrEnum


class DiscardReason(StrEnum):
    """Why octets, or a whole frame, were thrown away. The values are the labels of counters and never change."""

    NOISE = "noise"
    """Octets outside any pair of flags."""
    FORMAT = "format"
    """A flag is followed by something else than frame format type 3 (IEC 62056-46, 6.4.1: type sub-field 1010)."""
    LENGTH = "length"
    """The length sub-field cannot be that of a frame, or is above the limit set for this receiver."""
    ADDRESS = "address"
    """An address field that is not 1, 2 or 4 octets long (IEC 62056-46, 6.4.2)."""
    HCS = "hcs"
    FCS = "fcs"
    UNCLOSED = "unclosed"
    """Header good, but no flag where the length says that the frame ends: octets were lost or inserted."""
    TRUNCATED = "truncated"
    """The line fell silent in the middle of a frame."""
    OTHER_STATION = "other_station"
    """A good frame that is addressed to, or comes from, another station."""
    SEQUENCE = "sequence"
    """An I frame whose N(S) is not V(R): repeated, or after a gap; it comes again."""
    BUSY = "busy"
    """An I frame while this station had said RNR; it comes again."""
    PARAMETERS = "parameters"
    """The parameter field of a SNRM or UA cannot be read; the default limits are used."""
    UNEXPECTED = "unexpected"
    """A good frame that means nothing in the present state."""


class HdlcError(Exception):
    """Base of every error of this package."""


class AddressError(HdlcError):
    """An address value or size that the standard does not know."""


class FrameError(HdlcError):
    """Octets that are not a frame. Never leaves the package through a station or a deframer."""

    def __init__(self, reason: DiscardReason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason


class ParameterError(HdlcError):
    """A parameter field that cannot be read, or limits outside the standard's ranges."""


class SduError(HdlcError):
    """An SDU that the link can never carry.

    ``octets`` is its length, ``limit_octets`` the longest the profile allows.
    """

    def __init__(self, octets: int, limit_octets: int) -> None:
        super().__init__(f"an SDU of {octets} octets; this link carries 1 to {limit_octets}")
        self.octets = octets
        self.limit_octets = limit_octets


class SendQueueFull(HdlcError):
    """``limit`` SDUs are queued already; wait for the link to take some."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} SDUs are queued already")
        self.limit = limit
