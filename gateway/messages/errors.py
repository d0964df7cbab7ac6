"""Why a message can't be published or consumed over HTTP, and the stable codes for people."""

from __future__ import annotations

from typing import ClassVar, Final

from gateway.errors import GatewayError
from meshwire.mqtt import ReasonCode

__all__ = [
    "CATALOGUE",
    "BrokerAway",
    "BrokerRefused",
    "ConsumerEnded",
    "MessageError",
    "NoSuchConsumer",
    "NoVerdict",
    "NobodyThere",
    "NotAllowed",
    "TooMany",
    "reason_name",
    "refusal",
]

CATALOGUE: Final = {
    "MW-MSH-001": "The message, topic or filter can't be what it is; the message names the part.",
    "MW-MSH-002": "The gateway has no broker, or the broker does not answer or has ended the connection.",
    "MW-MSH-003": "The broker refuses the caller: its account, its roles, or its right to this topic or filter.",
    "MW-MSH-004": "Nobody was there who took the message: no receiver of the address, no subscriber of the topic.",
    "MW-MSH-005": "A bound is reached: busy receivers, a full queue, the tenant's plan, or too many consumers.",
    "MW-MSH-006": "No verdict came in time; the message may have been taken or not.",
    "MW-MSH-007": "There is no such consumer for this token: it was deleted, left idle, or is another token's.",
    "MW-MSH-008": "The consumer's connection to the broker has ended; what it had not acknowledged went back.",
    "MW-MSH-009": "The broker refused for another reason, which the message quotes.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class MessageError(GatewayError):
    """Base of this package's errors: something of the request does not fit."""

    default_code: ClassVar[str] = "MW-MSH-001"
    http_status = 422


class BrokerAway(MessageError):
    """There is nobody to ask."""

    default_code = "MW-MSH-002"
    http_status = 503


class NotAllowed(MessageError):
    """The broker says that the caller may not."""

    default_code = "MW-MSH-003"
    http_status = 403


class NobodyThere(MessageError):
    """No receiver took it."""

    default_code = "MW-MSH-004"
    http_status = 503


class TooMany(MessageError):
    """A bound is reached."""

    default_code = "MW-MSH-005"
    http_status = 429


class NoVerdict(MessageError):
    """Time is over."""

    default_code = "MW-MSH-006"
    http_status = 504


class NoSuchConsumer(MessageError):
    """Unknown, or somebody else's."""

    default_code = "MW-MSH-007"
    http_status = 404


class ConsumerEnded(MessageError):
    """It was there, and can't go on."""

    default_code = "MW-MSH-008"
    http_status = 410


class BrokerRefused(MessageError):
    """Any other refusal."""

    default_code = "MW-MSH-009"
    http_status = 502


_UNFIT: Final = frozenset(
    {
        ReasonCode.TOPIC_FILTER_INVALID,
        ReasonCode.TOPIC_NAME_INVALID,
        ReasonCode.PACKET_TOO_LARGE,
        ReasonCode.PAYLOAD_FORMAT_INVALID,
        ReasonCode.RETAIN_NOT_SUPPORTED,
        ReasonCode.QOS_NOT_SUPPORTED,
        ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    }
)
_DENIED: Final = frozenset(
    {
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.BAD_USER_NAME_OR_PASSWORD,
        ReasonCode.BANNED,
        ReasonCode.ADMINISTRATIVE_ACTION,
    }
)
_BOUNDS: Final = frozenset(
    {
        ReasonCode.QUOTA_EXCEEDED,
        ReasonCode.SERVER_BUSY,
        ReasonCode.CONNECTION_RATE_EXCEEDED,
        ReasonCode.MESSAGE_RATE_TOO_HIGH,
    }
)
_AWAY: Final = frozenset(
    {ReasonCode.SERVER_UNAVAILABLE, ReasonCode.SERVER_SHUTTING_DOWN, ReasonCode.USE_ANOTHER_SERVER}
)


def reason_name(code: int) -> str:
    """A reason code in words."""
    try:
        return ReasonCode(code).name.lower().replace("_", " ")
    except ValueError:
        return "unknown reason"


def refusal(code: int, words: str | None) -> MessageError:
    """What a reason code of MQTT 5 means to the caller.

    Args:
        code: of CONNACK, PUBACK or SUBACK; not success.
        words: the broker's reason string.
    """
    evidence = f"0x{code:02x} {words or reason_name(code)}"
    if code == ReasonCode.NO_MATCHING_SUBSCRIBERS:
        return NobodyThere("nobody took the message", evidence=evidence, fix="try again when a receiver is there")
    if code in _DENIED:
        return NotAllowed("the broker does not allow it", evidence=evidence, fix="use a token whose roles cover it")
    if code in _BOUNDS:
        return TooMany("a bound is reached", evidence=evidence, fix="try again later")
    if code in _AWAY:
        return BrokerAway("the broker serves nobody now", evidence=evidence, fix="try again later")
    if code in _UNFIT:
        return MessageError("the broker can't take it", evidence=evidence, fix="mend the request")
    return BrokerRefused("the broker refuses", evidence=evidence)
