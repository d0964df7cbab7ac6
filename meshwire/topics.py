"""MQTT topics and filters, and the one scheme from which a site's topics are built, subscribed to and read back.

Matching and covering obey MQTT 5.0 section 4.7 (the same text as 3.1.1 section 4.7). *Matching* asks whether a
topic name falls under a filter; *covering* asks whether every topic that a filter selects also falls under
another one, which is the question to ask at SUBSCRIBE. Who may use which filter is decided in `broker/policy.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwire.identity import INTERNAL_TENANT, DeviceId, IdentityError, TenantId

__all__ = [
    "ADDRESS_CONTROL_REPLY_TOPIC",
    "ADDRESS_CONTROL_TOPIC",
    "BROKER_CONTROL_REPLY_TOPIC",
    "BROKER_CONTROL_TOPIC",
    "BROKER_FIGURES",
    "GATEWAY_PRESENCE_TOPIC",
    "Branch",
    "ParsedTopic",
    "TopicError",
    "TopicFilter",
    "address_topic",
    "alert_topic",
    "command_request_topic",
    "command_response_topic",
    "decoded_topic",
    "event_topic",
    "parse_topic",
    "presence_topic",
    "read_topic",
    "reply_topic",
    "topic_level",
    "validate_filter",
    "validate_topic",
]

MAX_OCTETS: Final = 65_535
"""Longest topic name or filter in UTF-8 octets (MQTT 5.0 section 1.5.4)."""
MAX_LEVELS: Final = 200
"""Deepest topic we take; the limit is ours, so that matching stays bounded (Mosquitto has the same)."""


class TopicError(ValueError):
    """A text is no valid topic name or filter; the message names the rule."""


def _validate_text(text: str, kind: str) -> None:
    if not text:
        raise TopicError(f"{kind} is empty [MQTT-4.7.3-1]")
    if "\0" in text:
        raise TopicError(f"{kind} holds U+0000 [MQTT-4.7.3-2]")
    try:
        octets = len(text.encode())
    except UnicodeEncodeError:
        raise TopicError(f"{kind} holds a surrogate [MQTT-1.5.4-1]") from None
    if octets > MAX_OCTETS:
        raise TopicError(f"{kind} is longer than {MAX_OCTETS} octets [MQTT-4.7.3-3]")
    if text.count("/") >= MAX_LEVELS:
        raise TopicError(f"{kind} has more than {MAX_LEVELS} levels")


def validate_topic(topic: str) -> None:
    """Check a topic name; raises TopicError."""
    _validate_text(topic, "topic name")
    if "+" in topic or "#" in topic:
        raise TopicError("topic name holds a wildcard [MQTT-4.7.0-1]")


def validate_filter(text: str) -> None:
    """Check a topic filter without `$share/…/`; raises TopicError."""
    _validate_text(text, "topic filter")
    levels = text.split("/")
    for position, level in enumerate(levels):
        if "#" in level and (level != "#" or position != len(levels) - 1):
            raise TopicError("'#' must be the last level and stand alone [MQTT-4.7.1-1]")
        if "+" in level and level != "+":
            raise TopicError("'+' must stand alone in its level [MQTT-4.7.1-2]")


@dataclass(frozen=True, slots=True)
class TopicFilter:
    """A valid topic filter, split into levels."""

    text: str
    levels: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> TopicFilter:
        """Check and split `text`; raises TopicError."""
        validate_filter(text)
        return cls(text, tuple(text.split("/")))

    def matches(self, topic: str) -> bool:
        """Whether the topic name falls under this filter. A wildcard in front never matches `$…` [MQTT-4.7.2-1]."""
        if topic.startswith("$") and self.levels[0] in ("+", "#"):
            return False
        return self._selects(topic.split("/"))

    def covers(self, other: TopicFilter) -> bool:
        """Whether every topic selected by `other` is selected by this filter, too."""
        if other.levels[0].startswith("$") and self.levels[0] in ("+", "#"):
            return False
        return self._selects(list(other.levels))

    def _selects(self, levels: list[str]) -> bool:
        """Walk both level by level; a wildcard in `levels` stands for itself and needs an equal or wider one here."""
        for position, mine in enumerate(self.levels):
            if mine == "#":
                return True
            if position >= len(levels):
                return False
            theirs = levels[position]
            if theirs == "#" or (mine not in ("+", theirs)):
                return False
        return len(levels) == len(self.levels)

    def __str__(self) -> str:
        return self.text


class Branch(StrEnum):
    """Second level of a site's topics."""

    READ = "read"
    ALERT = "alert"
    PRESENCE = "presence"
    EVENT = "event"
    COMMAND = "cmd"
    DECODED = "decoded"


_LEVEL: Final = re.compile(r"[^A-Za-z0-9_.:=-]")


def topic_level(text: str) -> str:
    """A text as one topic level: every character but A–Z a–z 0–9 _ . : = - becomes `_`, an empty text `_`."""
    return _LEVEL.sub("_", text)[:64] or "_"


def read_topic(tenant: TenantId, mac: DeviceId, device_type: str) -> str:
    """Topic of periodic readings."""
    return f"{tenant}/{Branch.READ}/{mac}/{topic_level(device_type)}"


def alert_topic(tenant: TenantId, mac: DeviceId, device_type: str) -> str:
    """Topic of alarms."""
    return f"{tenant}/{Branch.ALERT}/{mac}/{topic_level(device_type)}"


def decoded_topic(tenant: TenantId, mac: DeviceId, device_type: str) -> str:
    """Topic of decoded copies of periodic readings."""
    return f"{tenant}/{Branch.DECODED}/{mac}/{topic_level(device_type)}"


def presence_topic(tenant: TenantId, mac: DeviceId) -> str:
    """Retained topic that says `online` or `offline`."""
    return f"{tenant}/{Branch.PRESENCE}/{mac}"


def event_topic(tenant: TenantId, mac: DeviceId) -> str:
    """Topic of life-cycle events."""
    return f"{tenant}/{Branch.EVENT}/{mac}"


def command_request_topic(tenant: TenantId, mac: DeviceId, command_id: str) -> str:
    """Topic on which a client asks for a command."""
    return f"{tenant}/{Branch.COMMAND}/{mac}/req/{topic_level(command_id)}"


def command_response_topic(tenant: TenantId, mac: DeviceId, command_id: str) -> str:
    """Topic on which a command's answer and life-cycle events appear."""
    return f"{tenant}/{Branch.COMMAND}/{mac}/res/{topic_level(command_id)}"


GATEWAY_PRESENCE_TOPIC: Final = f"{INTERNAL_TENANT}/{Branch.PRESENCE}/gateway"
"""Retained topic that says whether the gateway itself is `online` or `offline`."""


def address_topic(tenant: str, name: str) -> str:
    """Topic of an address (queue, topic, anycast, multicast) that names no topics of its own."""
    return f"{tenant}/address/{name}"


def reply_topic(tenant: str, rest: str) -> str:
    """Topic that a requester names as response topic beside an address; `rest` is the requester's own."""
    return f"{tenant}/reply/{rest}"


ADDRESS_CONTROL_TOPIC: Final = "$CONTROL/address/v1"
"""Requests of administrators about addresses of the running broker."""
ADDRESS_CONTROL_REPLY_TOPIC: Final = f"{ADDRESS_CONTROL_TOPIC}/response"
"""Answers to those that name no response topic."""
BROKER_CONTROL_TOPIC: Final = "$CONTROL/broker/v1"
"""Requests of operators about the running broker itself."""
BROKER_CONTROL_REPLY_TOPIC: Final = f"{BROKER_CONTROL_TOPIC}/response"
BROKER_FIGURES: Final = "$SYS/broker"
"""The broker's figures for administrators are below it."""


@dataclass(frozen=True, slots=True)
class ParsedTopic:
    """A topic of the scheme, taken apart; `rest` is what follows the MAC: a type, or `req`/`res` and an id."""

    tenant: TenantId
    branch: Branch
    mac: DeviceId
    rest: tuple[str, ...]


_REST_LEVELS: Final = {
    Branch.READ: 1,
    Branch.ALERT: 1,
    Branch.PRESENCE: 0,
    Branch.EVENT: 0,
    Branch.COMMAND: 2,
    Branch.DECODED: 1,
}


def parse_topic(topic: str) -> ParsedTopic | None:
    """Take a topic of the scheme apart; None when it is not of the scheme."""
    levels = topic.split("/")
    if len(levels) < 3:
        return None
    try:
        parsed = ParsedTopic(TenantId(levels[0]), Branch(levels[1]), DeviceId(levels[2]), tuple(levels[3:]))
    except (IdentityError, ValueError):
        return None
    return parsed if len(parsed.rest) == _REST_LEVELS[parsed.branch] else None
