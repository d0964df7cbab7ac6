"""What differs between the boards that a NIC may have: how they speak CoAP, and how their link is run.

Three rows and no code: everything else in this package asks a row, never a name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from meshwire.hdlc.profile import MILLI, STANDARD, LinkProfile, SessionKind

__all__ = ["BOARD_PROFILES", "BoardProfile", "ProfileName"]


class ProfileName(StrEnum):
    """Names that `--profile` takes."""

    STANDARD = "standard"
    MILLI = "milli"
    MILLI_1_4_8 = "milli-1.4.8"
    MILLI_1_4_5 = "milli-1.4.5"


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """One kind of board."""

    link: LinkProfile
    fragile: bool
    """Some requests crash it, so `board_rules` filters (dialect G, last row)."""
    acknowledges: bool
    """The NIC acknowledges its confirmable messages, and rejects unknown ones by RST. A Milli board answers an
    acknowledgement with an empty I frame (dialect A.8 rule 7) and does not heed RST (B.1), so it gets neither."""
    one_observer_per_path: bool
    """A second registration on a path replaces the first one's token (dialect B.5)."""
    board_wide_sequence: bool
    """All Observe numbers come from one counter of the board, so that one which goes back betrays a reset (B.5)."""
    max_message_octets: int
    """Longest CoAP message it takes (dialect A.6)."""
    answer_timeout_s: float
    """How long the NIC waits for an answer, the link's own repetitions included."""

    @property
    def session_per_exchange(self) -> bool:
        """The link goes down in good order after each exchange."""
        return self.link.session is SessionKind.PER_EXCHANGE

    def at(self, *, poll_s: float | None, baud: int) -> BoardProfile:
        """The same kind of board on a line of `baud`, asked every `poll_s` seconds (None: its own period)."""
        link = replace(self.link, baud=baud, poll_period_s=self.link.poll_period_s if poll_s is None else poll_s)
        return replace(self, link=link)


_MILLI: Final = BoardProfile(
    # The DISC that ends a request's session would destroy a notification that waits in the board's only slot (A.8),
    # so every session asks by RR first. That makes a request 0.45 s slower and loses no reading.
    link=replace(MILLI, fetch_before_release=True),
    fragile=True,
    acknowledges=False,
    one_observer_per_path=True,
    board_wide_sequence=True,
    max_message_octets=239,
    answer_timeout_s=20.0,
)
_STANDARD: Final = BoardProfile(
    link=STANDARD,
    fragile=False,
    acknowledges=True,
    one_observer_per_path=False,
    board_wide_sequence=False,
    max_message_octets=STANDARD.max_sdu_octets,
    answer_timeout_s=10.0,
)

BOARD_PROFILES: Final[dict[ProfileName, BoardProfile]] = {
    ProfileName.STANDARD: _STANDARD,
    ProfileName.MILLI: _MILLI,
    ProfileName.MILLI_1_4_8: _MILLI,
    ProfileName.MILLI_1_4_5: _MILLI,
}
