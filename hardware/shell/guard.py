"""What is known to crash boards, and is therefore not sent unless somebody insists. Pure.

The rules are observations of the vendor's firmware ("board never send", dialect G and B.1 to B.4). A message that
cannot be read is held back too: nobody knows what a board makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hardware.shell.errors import Dangerous
from meshwire.coap import codes, options
from meshwire.coap.message import MAX_TOKEN_OCTETS, Message, MessageError, decode
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.frame import FLAG, Frame

__all__ = ["RULES", "Rule", "check_frame", "check_message", "check_sdu"]

_MAX_QUERY_OCTETS: Final = 127
_MAX_OPTION_OCTETS: Final = 268


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a board must not get."""

    forbids: Callable[[Message], bool]
    reason: str


def _long_query(message: Message) -> bool:
    return any(len(value) > _MAX_QUERY_OCTETS for value in message.option_values(options.URI_QUERY))


def _long_option(message: Message) -> bool:
    return any(len(value) > _MAX_OPTION_OCTETS for _, value in message.options)


def _wide_observe(message: Message) -> bool:
    return any(len(value) > 1 for value in message.option_values(options.OBSERVE))


def _stats_without_query(message: Message) -> bool:
    query = message.option(options.URI_QUERY) or b""  # only the first one counts on a board
    return message.path() == ("sys", "stats") and not query.startswith(b"mod=")


def _echo_configuration(message: Message) -> bool:
    query = message.option(options.URI_QUERY) or b""
    return message.code == codes.GET and message.path()[1:] == ("echo",) and query.startswith(b"cfg")


RULES: Final[tuple[Rule, ...]] = (
    Rule(lambda message: len(message.token) > MAX_TOKEN_OCTETS, "a token above 8 octets overruns the board's memory"),
    Rule(_long_query, "a query of 128 octets or more overruns the board's memory"),
    Rule(_long_option, "the board does not support an option of 269 octets or more"),
    Rule(_wide_observe, "an Observe value of more than one octet may fault the board"),
    Rule(_stats_without_query, "/sys/stats without a query mod=… reads a null pointer"),
    Rule(_echo_configuration, "GET echo?cfg calls a null handler and crashes the board"),
)


def check_message(message: Message) -> None:
    """Raises Dangerous when a rule forbids the message."""
    for rule in RULES:
        if rule.forbids(message):
            raise _held_back(rule.reason)


def check_sdu(sdu: bytes) -> None:
    """Raises Dangerous when a rule forbids the CoAP message in these octets, or nobody can read it."""
    try:
        message = decode(sdu)
    except MessageError as error:
        reason = RULES[0].reason if error.reason == "token-length" else f"it is no CoAP message ({error.reason})"
        raise _held_back(reason) from None
    check_message(message)


def check_frame(octets: bytes) -> None:
    """Raises Dangerous when the octets are a frame with information that `check_sdu` holds back.

    Octets that are no frame pass: a board drops them.
    """
    for item in Deframer().feed(octets if octets.endswith(FLAG) else octets + FLAG):
        if isinstance(item, Frame) and item.info and item.control.octet & 1 == 0:
            check_sdu(item.info)


def _held_back(reason: str) -> Dangerous:
    return Dangerous(
        "not sent: this is known to crash boards", evidence=reason, fix="--destructive sends it all the same"
    )
