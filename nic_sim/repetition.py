"""May a request whose answer did not come be sent again? One pure decision, by what is known and by method.

A board executes a repeated request again (dialect A.8 rule 2), so only what it has surely not got, and what does no
harm when it is done twice (RFC 7252 section 5.1: safe methods), is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from meshwire.coap.codes import FETCH, GET, REQUEST_ENTITY_TOO_LARGE, code_text
from meshwire.hdlc.events import DownReason
from nic_sim.errors import BoardError, LinkUnavailable, NoAnswer, OutcomeUnknown, RequestRefused, UnreadableAnswer

__all__ = ["Fate", "Outcome", "failure_of"]

MAX_UNSENT_REPEATS: Final = 2
MAX_UNCERTAIN_REPEATS: Final = 1
SAFE_METHODS: Final = frozenset({GET, FETCH})

REPEATED_AT_ONCE: Final = frozenset({DownReason.RELEASED, DownReason.PEER_RESET, DownReason.FRAME_REJECTED})
"""The board is there and has only forgotten the link. After the other reasons the station has done its own repeating
already, or the port is gone: waiting longer would only keep the requester waiting."""


class Fate(Enum):
    """What became of one sending that got no answer."""

    UNSENT = "unsent"
    """The board has surely not got it."""
    UNCERTAIN = "uncertain"
    """The board may or may not have got it."""
    SILENT = "silent"
    """The link is fine and no answer came in time."""
    UNREADABLE = "unreadable"
    """Something came back that is no response."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A sending without an answer.

    Args:
        fate: what is known.
        reason: why the link went down, where that is what happened.
        detail: what was seen, for people.
    """

    fate: Fate
    reason: DownReason | None = None
    detail: str = ""


def failure_of(outcome: Outcome, method: int, repeats: int, retry_after_s: int) -> BoardError | None:
    """The error that ends the request, or None: send it again.

    Args:
        outcome: of the latest sending.
        method: the request's code.
        repeats: how often it was sent again already.
        retry_after_s: when the link may be there again, for 5.03.
    """
    safe = method in SAFE_METHODS
    match outcome.fate:
        case Fate.UNSENT:
            if outcome.reason is DownReason.SDU_TOO_LONG:
                return RequestRefused(REQUEST_ENTITY_TOO_LARGE, "the message is longer than the board's link carries")
            if outcome.reason in REPEATED_AT_ONCE and repeats < MAX_UNSENT_REPEATS:
                return None
            return LinkUnavailable(f"no link to the board ({_words(outcome)})", max_age_s=retry_after_s)
        case Fate.UNREADABLE:
            return UnreadableAnswer(f"the board's answer to {code_text(method)} is unreadable ({_words(outcome)})")
        case Fate.UNCERTAIN | Fate.SILENT:
            if safe and repeats < MAX_UNCERTAIN_REPEATS:
                return None
            if safe:
                return NoAnswer(f"no answer from the board ({_words(outcome)})")
            return OutcomeUnknown(
                f"outcome unknown: the board may have executed {code_text(method)} ({_words(outcome)})"
            )


def _words(outcome: Outcome) -> str:
    return outcome.detail or (outcome.reason.value.replace("_", " ") if outcome.reason else outcome.fate.value)
