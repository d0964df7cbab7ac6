"""LinkProfile: everything in which links to different boards differ, as data. A station asks the profile, never a name.

Two are given. ``STANDARD`` is a standing link in normal response mode as ISO/IEC 13239 describes it. ``MILLI`` is the
link of the Itron Milli sensor boards: a session per exchange, one frame per turn, silence after a time-out. Others are
made with ``dataclasses.replace``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwire.hdlc.parameters import LinkParameters

FRAME_OVERHEAD_OCTETS: Final = 19
"""Most that a frame adds to its information field, with addresses of 4 octets, and one octet to spare."""
_BITS_PER_OCTET: Final = 10
"""Start bit, eight data bits, stop bit."""


class SessionKind(StrEnum):
    """How long a link lasts."""

    STANDING = "standing"
    """Made once, polled, and made again when it breaks."""
    PER_EXCHANGE = "per-exchange"
    """SNRM, one request or one poll (or one of each), DISC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfile:
    """One way of running a link. Times in seconds, lengths in octets. Raises ValueError for values that cannot work."""

    name: str
    session: SessionKind = SessionKind.STANDING
    window: int = 7
    """Frames a station may send per turn, and offers to receive (1 to 7)."""
    max_info_octets: int = 255
    """Longest information field sent, and offered to be received (1 to 2038)."""
    max_sdu_octets: int = 8192
    """Longest SDU; above ``max_info_octets`` it travels in segments. A per-exchange session has no segmentation."""
    max_queued_sdus: int = 1024
    offer_parameters: bool = True
    """Whether SNRM carries the parameter group."""
    baud: int = 38400
    """Line rate, used only to allow for the time that own octets and a full window of the peer take."""
    answer_timeout_s: float = 0.5
    """Longest silence before an answer begins, and inside one, counted from when the last own octet has left. Before
    the first octet of an answer the line time of a full window is added."""
    quiet_time_s: float = 0.0
    """Silence kept after a time-out before anything is sent again; an answer that comes late is still taken."""
    settle_time_s: float = 0.05
    """Standing link: silence after the answer that ended a time-out; late answers to earlier questions fall into it."""
    retry_pause_s: float = 0.2
    """Silence kept after a link went down for another reason than release, before it is made again."""
    poll_period_s: float = 1.0
    """How often a peer that has nothing to say is asked; 0: only when the caller polls. Above the peer's inactivity
    time-out, a standing link is made again with each poll."""
    fast_poll_s: float = 0.01
    """Standing link: first pause after traffic has ended; doubled with each empty poll up to ``poll_period_s``."""
    max_attempts: int = 6
    """How often a question (SNRM, RR after a time-out) is put before the link is given up."""
    octet_timeout_s: float = 0.2
    """Silence inside a frame after which its beginning is thrown away (inter-octet time-out)."""
    inactivity_timeout_s: float = 120.0
    """A secondary that hears nothing for this long leaves the link (inactivity time-out); 0: never."""
    fetch_before_release: bool = False
    """Ask by RR in *every* session before DISC: for boards without a wake line, whose pending message DISC destroys."""

    def __post_init__(self) -> None:
        self.parameters()
        if self.max_attempts < 1 or self.max_queued_sdus < 1 or self.baud < 1 or self.max_sdu_octets < 1:
            raise ValueError("max_attempts, max_queued_sdus, max_sdu_octets and baud are at least 1")
        times = (self.quiet_time_s, self.settle_time_s, self.retry_pause_s, self.poll_period_s, self.fast_poll_s)
        if self.answer_timeout_s <= 0 or min(*times, self.octet_timeout_s, self.inactivity_timeout_s) < 0:
            raise ValueError("answer_timeout_s is above 0, and no time is negative")
        if self.session is SessionKind.PER_EXCHANGE and self.max_sdu_octets > self.max_info_octets:
            raise ValueError("a session per exchange carries one frame: max_sdu_octets is at most max_info_octets")

    def parameters(self) -> LinkParameters:
        """Return what a station with this profile offers."""
        return LinkParameters(self.max_info_octets, self.max_info_octets, self.window, self.window)

    def line_time_s(self, octets: int) -> float:
        """Return how long ``octets`` take on the line."""
        return octets * _BITS_PER_OCTET / self.baud

    def answer_line_time_s(self, frames: int) -> float:
        """Return how long an answer of ``frames`` frames of the greatest length takes on the line."""
        return self.line_time_s(frames * (self.max_info_octets + FRAME_OVERHEAD_OCTETS))


STANDARD: Final = LinkProfile(name="standard")

MILLI: Final = LinkProfile(
    name="milli",
    session=SessionKind.PER_EXCHANGE,
    window=1,
    max_info_octets=255,
    max_sdu_octets=255,
    offer_parameters=False,
    baud=38400,
    # The board looks at its line after 400 ms of silence, answers at 450 ms, and may be reading a sensor for 250 ms.
    answer_timeout_s=1.2,
    # Above the board's 400 ms, or it would take the new frame for the end of the old one and drop both.
    quiet_time_s=0.45,
    retry_pause_s=0.45,
    poll_period_s=5.0,
    max_attempts=4,
    octet_timeout_s=0.4,
    inactivity_timeout_s=0.0,
)
