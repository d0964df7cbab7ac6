"""What the NIC never sends to its board, as one table: the rule, the code that the requester gets, and the reason.

Pure. The reasons are observations of the vendor's firmware (dialect B.1–B.4, G "board never send"); a request that
would crash a board is refused here, by whatever way it came.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import MAX_TOKEN_OCTETS, Message, encode
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY
from nic_sim.board_profile import BoardProfile
from nic_sim.errors import RequestRefused

__all__ = ["FRAGILE_BOARD_RULES", "Rule", "check_request", "normalise"]

MAX_QUERY_OCTETS: Final = 127
MAX_OPTION_OCTETS: Final = 268


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a fragile board must not get."""

    forbids: Callable[[Message], bool]
    response_code: int
    reason: str


def _long_token(message: Message) -> bool:
    return len(message.token) > MAX_TOKEN_OCTETS


def _long_option(message: Message) -> bool:
    return any(len(value) > MAX_OPTION_OCTETS for _, value in message.options)


def _long_query(message: Message) -> bool:
    return any(len(value) > MAX_QUERY_OCTETS for value in message.option_values(URI_QUERY))


def _wide_observe(message: Message) -> bool:
    return any(len(value) > 1 for value in message.option_values(OBSERVE))


def _board_path(message: Message) -> tuple[bytes, ...]:
    return message.option_values(URI_PATH)


def _first_query(message: Message) -> bytes:
    """Only the first Uri-Query counts on the board (dialect B.2)."""
    return message.option(URI_QUERY) or b""


def _stats_without_query(message: Message) -> bool:
    return _board_path(message) == (b"sys", b"stats") and not _first_query(message).startswith(b"mod=")


def _echo_configuration(message: Message) -> bool:
    path = _board_path(message)
    return message.code == codes.GET and path[1:] == (b"echo",) and _first_query(message).startswith(b"cfg")


FRAGILE_BOARD_RULES: Final[tuple[Rule, ...]] = (
    Rule(_long_token, codes.BAD_REQUEST, "a token above 8 octets overruns the board's memory"),
    Rule(_long_option, codes.BAD_OPTION, "the board does not support an option of 269 octets or more"),
    Rule(_long_query, codes.BAD_REQUEST, "a query of 128 octets or more overruns the board's memory"),
    Rule(_wide_observe, codes.BAD_OPTION, "an Observe value of more than one octet may fault the board"),
    Rule(_stats_without_query, codes.BAD_REQUEST, "/sys/stats without a query mod=… reads a null pointer"),
    Rule(_echo_configuration, codes.BAD_REQUEST, "GET echo?cfg calls a null handler and crashes the board"),
)


def normalise(message: Message) -> Message:
    """The same request in the spelling that boards understand: no empty Uri-Query (a trailing `?` in a URI), and an
    Observe value in the fewest octets (RFC 7252 section 3.2)."""
    options = tuple(
        (number, value.lstrip(b"\0") if number == OBSERVE else value)
        for number, value in message.options
        if not (number == URI_QUERY and not value)
    )
    return Message(message.mtype, message.code, message.mid, message.token, options, message.payload)


def check_request(message: Message, profile: BoardProfile) -> None:
    """Raises RequestRefused when the board must not, or can't, get the message."""
    if profile.fragile:
        for rule in FRAGILE_BOARD_RULES:
            if rule.forbids(message):
                raise RequestRefused(rule.response_code, rule.reason)
    octets = len(encode(message))
    if octets > profile.max_message_octets:
        raise RequestRefused(
            codes.REQUEST_ENTITY_TOO_LARGE,
            f"a message of {octets} octets; the board takes {profile.max_message_octets}",
        )
