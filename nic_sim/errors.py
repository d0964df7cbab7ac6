"""What can go wrong between a request and the board's answer, each with the CoAP code that the requester gets.

This file is the NIC's one place where a failure becomes a response code (a gateway failure: the NIC is a proxy for its
board). The diagnostic payload names the hop, so that a reader of `5.04` knows which of the three hops was silent.
"""

from __future__ import annotations

from typing import ClassVar, Final

from meshwire.coap import codes
from meshwire.errors import ExitCode, MeshwireError

__all__ = [
    "CATALOGUE",
    "BoardBusy",
    "BoardError",
    "LinkUnavailable",
    "ListenError",
    "NicError",
    "NoBoardNamed",
    "NoAnswer",
    "OutcomeUnknown",
    "RequestRefused",
    "UnreadableAnswer",
]


CATALOGUE: Final = {
    "MW-NIC-001": "The NIC can't do what was asked; the message says what and why.",
    "MW-NIC-002": "The NIC's UDP address can't be bound: the port is taken, or the address is not one of this machine.",
    "MW-NIC-003": "The NIC needs to know the serial port of its board: --serial, or `serial` in section [nic].",
    "MW-NIC-004": "The metrics page can't listen: the TCP port is taken, or the address is not one of this machine.",
    "MW-NIC-005": "The NIC's OSCORE key, or its record of used sequence numbers, can't be used; see `meshwire device "
    "provision`.",
    "MW-NIC-010": "A request to the board has no answer of the board; the diagnostic payload names the hop.",
    "MW-NIC-011": "The link to the board is down; the request was not executed (5.03, Max-Age: when to try again).",
    "MW-NIC-012": "Too many requests wait for the board already; the request was not executed (5.03).",
    "MW-NIC-013": "The board did not answer in time; the request does no harm if it was executed (5.04).",
    "MW-NIC-014": "The answer was lost: the board may have executed the request, so it is not repeated (5.04).",
    "MW-NIC-015": "The board answered something that is no CoAP response to the request (5.02).",
    "MW-NIC-016": "The NIC refused to pass the request on: it would harm the board or can't fit its frame (4.xx).",
    "MW-NIC-020": "The board has said nothing for silent_after_s seconds: no CoAP message, though perhaps frames. The "
    "warning says what was seen of its line; reset_after_s lets the NIC reset the board by itself.",
    "MW-NIC-021": "The board reboots again and again: the profile does not fit its firmware, or its power fails.",
    "MW-NIC-030": "The fleet ran and the gateway took no reading: it is not there, or it does not know the NICs.",
    "MW-NIC-031": "The IPv6 prefix for the fleet's NICs is not routed to this machine, so they can't use it.",
    "MW-NIC-040": "There is no such scenario, or its recording can't be written; `meshwire sim list` names them.",
    "MW-NIC-041": "The scenario's file does not fit: the message names place and reason; see docs/reference/sim.md.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class NicError(MeshwireError):
    """Base of all errors of this package."""

    default_code: ClassVar[str] = "MW-NIC-001"


class ListenError(NicError):
    """An address of the NIC can't be bound."""

    default_code: ClassVar[str] = "MW-NIC-002"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class NoBoardNamed(NicError):
    """Nobody says on which port the board is."""

    default_code: ClassVar[str] = "MW-NIC-003"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class BoardError(NicError):
    """A request to the board has no answer of the board.

    Args:
        what: what failed, one clause.
        max_age_s: when it is worth trying again, in whole seconds; None: not known.
    """

    default_code: ClassVar[str] = "MW-NIC-010"
    response_code: int = codes.BAD_GATEWAY

    def __init__(self, what: str, *, max_age_s: int | None = None, code: str | None = None) -> None:
        super().__init__(what, code=code)
        self.max_age_s = max_age_s


class LinkUnavailable(BoardError):
    """The board was not reached and has surely not executed the request: 5.03."""

    default_code: ClassVar[str] = "MW-NIC-011"
    response_code = codes.SERVICE_UNAVAILABLE


class BoardBusy(LinkUnavailable):
    """Too many requests wait for the board already: 5.03."""

    default_code: ClassVar[str] = "MW-NIC-012"


class NoAnswer(BoardError):
    """The board did not answer a request that does no harm when it was executed: 5.04."""

    default_code: ClassVar[str] = "MW-NIC-013"
    response_code = codes.GATEWAY_TIMEOUT


class OutcomeUnknown(BoardError):
    """The board may or may not have executed a request that must not be repeated: 5.04."""

    default_code: ClassVar[str] = "MW-NIC-014"
    response_code = codes.GATEWAY_TIMEOUT


class UnreadableAnswer(BoardError):
    """The board answered something that is no response: 5.02."""

    default_code: ClassVar[str] = "MW-NIC-015"
    response_code = codes.BAD_GATEWAY


class RequestRefused(BoardError):
    """The NIC does not pass the request on, because it would harm the board or can't fit: a 4.xx code."""

    default_code: ClassVar[str] = "MW-NIC-016"

    def __init__(self, response_code: int, what: str) -> None:
        super().__init__(what)
        self.response_code = response_code
