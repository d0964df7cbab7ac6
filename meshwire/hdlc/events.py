"""All that a station ever tells. Events come in the order in which things happened.

A handle is the number that ``send`` returned for an SDU. A handle named in a LinkDown is no longer with the station;
every other one was delivered or is still queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.parameters import LinkParameters


class DownReason(StrEnum):
    """Why a link went down, or did not come up."""

    RELEASED = "released"
    """Orderly, by DISC. A link with a session per exchange ends each session so; what is queued stays queued."""
    NO_ANSWER = "no_answer"
    """The peer did not answer, as often as the profile asks."""
    REFUSED = "refused"
    """The peer answered DM to SNRM."""
    PEER_RESET = "peer_reset"
    """The peer says (DM), or shows (SNRM), that it has forgotten this link."""
    FRAME_REJECTED = "frame_rejected"
    """The peer sent FRMR, or broke the rules so that this station had to reject its frame."""
    SDU_TOO_LONG = "sdu_too_long"
    """The SDU named in ``unsent`` is longer than the peer takes, and this kind of link has no segmentation."""
    PIPE_LOST = "pipe_lost"
    """The caller lost the line."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The peer is in normal response mode."""

    parameters: LinkParameters
    """What both sides keep to, from this station's point of view."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link, or the attempt to make one, is over."""

    reason: DownReason
    unsent: tuple[int, ...] = ()
    """Handles of SDUs that the peer has surely not got whole."""
    uncertain: tuple[int, ...] = ()
    """Handles of SDUs that the peer may or may not have got."""


@dataclass(frozen=True, slots=True)
class DataReceived:
    """One whole SDU of the peer, once and in order while the link stands."""

    sdu: bytes


@dataclass(frozen=True, slots=True)
class FrameDiscarded:
    """Octets from the line that led to nothing; of a well-formed frame, ``octets`` is the information field."""

    reason: DiscardReason
    octets: bytes


Event = LinkUp | LinkDown | DataReceived | FrameDiscarded
