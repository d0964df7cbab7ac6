"""Channels of the AsyncAPI document: each topic of the scheme, by its builder, with what travels on it and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwire.identity import INTERNAL_TENANT, DeviceId, Role, TenantId
from meshwire.topics import (
    ADDRESS_CONTROL_REPLY_TOPIC,
    ADDRESS_CONTROL_TOPIC,
    BROKER_CONTROL_REPLY_TOPIC,
    BROKER_CONTROL_TOPIC,
    BROKER_FIGURES,
    GATEWAY_PRESENCE_TOPIC,
    address_topic,
    alert_topic,
    command_request_topic,
    command_response_topic,
    decoded_topic,
    event_topic,
    presence_topic,
    read_topic,
    reply_topic,
)

__all__ = ["CHANNELS", "PARAMETERS", "Channel", "Way"]

PARAMETERS: Final = {
    "tenant": f"Tenant id, 1 to 64 of A-Z a-z 0-9 _ -; `{INTERNAL_TENANT}` is the platform's own.",
    "mac": "The NIC's EUI-64, 16 lower-case hexadecimal digits.",
    "type": "Device type.",
    "command": "The sender's own name of the command, 1 to 64 of A-Z a-z 0-9 _ . : = -.",
    "address": "Name of an address; one may have levels of its own.",
    "reply": "The requester's own; it may have several levels.",
    "figure": "Name of a figure; it may have several levels.",
}


class Way(StrEnum):
    """The site's side of a channel, as AsyncAPI says it."""

    SEND = "send"
    """The site publishes, clients subscribe."""
    RECEIVE = "receive"
    """Clients publish, the site takes it."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel."""

    address: str
    """The topic, with its parameters in braces."""
    description: str
    messages: tuple[str, ...]
    """Names in `MESSAGES`."""
    roles: dict[Way, tuple[Role, ...]]
    """Who is at the other end."""
    qos: int | None = 1
    """Of what the site publishes; None: as configured, or as the sender chose."""
    retain: bool | None = False
    """None: as configured, or as the sender chose."""


_TENANT: Final = TenantId("tenant")
_MAC: Final = DeviceId("0123456789abcdef")
_SAMPLES: Final = {_TENANT.value: "{tenant}", _MAC.value: "{mac}"} | {
    name: f"{{{name}}}" for name in ("type", "command", "address", "reply")
}


def _template(topic: str) -> str:
    """A topic that a builder made of sample values, with parameters in their place; `cmd`, `req` … stay."""
    first, *rest = topic.split("/")
    return "/".join([_SAMPLES[first], rest[0], *(_SAMPLES.get(level, level) for level in rest[1:])])


_READERS: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_READ_CONSUMER_ALL)
_ALARMED: Final = (Role.BUBBLE_UP_ALERT_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER_ALL)
_OPERATORS: Final = (Role.OPERATOR, Role.ADMIN)
_BOARD: Final = ("deviceRecord", "boardPayload")

CHANNELS: Final[dict[str, Channel]] = {
    "readings": Channel(
        _template(read_topic(_TENANT, _MAC, "type")),
        "Periodic readings, as the boards sent them.",
        _BOARD,
        {Way.SEND: _READERS},
        qos=None,
        retain=None,
    ),
    "alarms": Channel(
        _template(alert_topic(_TENANT, _MAC, "type")),
        "Alarms, as the boards sent them.",
        _BOARD,
        {Way.SEND: _ALARMED},
        qos=None,
        retain=None,
    ),
    "decodedReadings": Channel(
        _template(decoded_topic(_TENANT, _MAC, "type")),
        "Readings once more, decoded, where a rule of the gateway says so.",
        ("senml",),
        {Way.SEND: _READERS},
        qos=None,
        retain=None,
    ),
    "presence": Channel(
        _template(presence_topic(_TENANT, _MAC)),
        "Whether a device is there.",
        ("presence",),
        {Way.SEND: (Role.PRESENCE_CONSUMER,)},
        retain=True,
    ),
    "gatewayPresence": Channel(
        GATEWAY_PRESENCE_TOPIC,
        "Whether the gateway is there; `offline` is its will, too.",
        ("presence",),
        {Way.SEND: (Role.PRESENCE_CONSUMER,)},
        retain=True,
    ),
    "deviceEvents": Channel(
        _template(event_topic(_TENANT, _MAC)),
        "Each change of a device's presence.",
        ("presenceChange",),
        {Way.SEND: (Role.PRESENCE_CONSUMER,)},
    ),
    "commandOrders": Channel(
        _template(command_request_topic(_TENANT, _MAC, "command")),
        "Orders for a device. MQTT 5: the message expiry is the command's time to live, too; a response topic gets the"
        " events as well.",
        ("commandOrder",),
        {Way.RECEIVE: (Role.COMMAND_CLIENT,)},
    ),
    "commandEvents": Channel(
        _template(command_response_topic(_TENANT, _MAC, "command")),
        "What happens to a command, whichever way it was ordered.",
        ("commandEvent",),
        {Way.SEND: (Role.COMMAND_CLIENT,)},
    ),
    "addresses": Channel(
        _template(address_topic("tenant", "address")),
        "Queues, topics, anycast and multicast addresses; between clients, through the broker.",
        ("anything",),
        {Way.RECEIVE: (Role.ADDRESS_SENDER,), Way.SEND: (Role.ADDRESS_RECEIVER,)},
        qos=None,
        retain=None,
    ),
    "replies": Channel(
        _template(reply_topic("tenant", "reply")),
        "Answers of receivers, on the response topic that the sender named; between clients, through the broker.",
        ("anything",),
        {Way.RECEIVE: (Role.ADDRESS_RECEIVER,), Way.SEND: (Role.ADDRESS_SENDER,)},
        qos=None,
        retain=None,
    ),
    "addressRequests": Channel(
        ADDRESS_CONTROL_TOPIC,
        "Requests about addresses while the broker runs (docs/reference/addresses.md).",
        ("controlRequest",),
        {Way.RECEIVE: _OPERATORS},
        qos=None,
    ),
    "addressAnswers": Channel(
        ADDRESS_CONTROL_REPLY_TOPIC,
        "Answers to requests that name no response topic.",
        ("controlAnswer",),
        {Way.SEND: _OPERATORS},
        qos=None,
    ),
    "brokerRequests": Channel(
        BROKER_CONTROL_TOPIC,
        "Requests about connections, topics, plans, roles and listeners (docs/reference/broker.md).",
        ("controlRequest",),
        {Way.RECEIVE: _OPERATORS},
        qos=None,
    ),
    "brokerAnswers": Channel(
        BROKER_CONTROL_REPLY_TOPIC,
        "Answers to requests that name no response topic.",
        ("controlAnswer",),
        {Way.SEND: _OPERATORS},
        qos=None,
    ),
    "figures": Channel(
        f"{BROKER_FIGURES}/{{figure}}",
        "The broker's figures.",
        ("figure",),
        {Way.SEND: _OPERATORS},
        qos=0,
        retain=None,
    ),
}
