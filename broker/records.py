"""Rows of the store, and the records they stand for; both directions side by side.

Decides how a session, a subscription, a message and a delivery are written down. Times are Unix seconds there and loop
seconds here; `offset` is the difference.
"""

import json
from typing import TYPE_CHECKING, Final

from broker.delivery import Delivery, Step
from broker.message import Message
from broker.outlet import SessionKey
from broker.router import Subscription
from broker.session import Session
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import NO_PROPERTIES, Place, Properties, Will
from meshwire.mqtt.fields import Reader
from meshwire.mqtt.properties import decode_properties, encode_properties

if TYPE_CHECKING:
    from broker.addresses.competing import Entry

__all__ = [
    "Row",
    "delivery_of",
    "delivery_row",
    "fill_session",
    "message_of",
    "message_row",
    "queued_of",
    "queued_row",
    "retained_of",
    "retained_row",
    "session_key_of",
    "session_row",
    "subscription_of",
    "subscription_row",
]

Value = int | float | str | bytes | None
Row = tuple[Value, ...]

_STEPS: Final = {step.value: step for step in Step}


# --- sessions -------------------------------------------------------------------------------------------------------


def session_row(session: Session, offset: float) -> Row:
    key, will = session.key, session.will
    return (
        session.number,
        key.tenant,
        key.kind.value,
        key.client_id,
        _principal_text(session.principal),
        session.outlet is not None,
        session.expiry_s,
        _plus(session.expires_at, offset),
        _plus(session.will_due_at, offset),
        None if will is None else will.topic,
        None if will is None else will.payload,
        None if will is None else will.qos << 1 | will.retain,
        None if will is None else _properties_octets(will.properties, Place.WILL),
    )


def session_key_of(row: Row) -> SessionKey:
    return SessionKey(_text(row[1]), LoginKind(_text(row[2])), _text(row[3]))


def fill_session(session: Session, row: Row, offset: float) -> bool:
    """Sets what `session_row` wrote; True when a client was connected."""
    session.number = _whole(row[0])
    session.principal = _principal_of(_text(row[4]))
    session.expiry_s = _whole(row[6])
    session.expires_at = _minus(row[7], offset)
    session.will_due_at = _minus(row[8], offset)
    if row[9] is not None:
        flags = _whole(row[11])
        properties = _properties_of(row[12], Place.WILL)
        session.will = Will(_text(row[9]), _octets(row[10]), flags >> 1, bool(flags & 1), properties)
    return bool(row[5])


def _principal_text(principal: Principal | None) -> str:
    assert principal is not None, "a session is opened by somebody"
    return json.dumps(
        {
            "name": principal.name,
            "tenant": principal.tenant.value,
            "roles": sorted(principal.roles),
            "kind": principal.kind.value,
            "expires_at": principal.expires_at,
            "scopes": sorted(principal.scopes),
        }
    )


def _principal_of(text: str) -> Principal:
    value = json.loads(text)
    return Principal(
        value["name"],
        TenantId(value["tenant"]),
        frozenset(value["roles"]),
        LoginKind(value["kind"]),
        value["expires_at"],
        frozenset(value["scopes"]),
    )


def subscription_row(number: int, held: Subscription) -> Row:
    flags = held.qos | held.no_local << 2 | held.retain_as_published << 3
    return (number, held.topic_filter, flags, held.identifier)


def subscription_of(row: Row) -> Subscription:
    flags = _whole(row[2])
    return Subscription(_text(row[1]), flags & 3, bool(flags & 4), bool(flags & 8), _whole(row[3]))


# --- messages -------------------------------------------------------------------------------------------------------


def message_row(message: Message, offset: float) -> Row:
    properties = message.properties
    return (
        message.number,
        message.topic,
        message.payload,
        message.qos << 1 | message.retain,
        None if properties is NO_PROPERTIES else encode_properties(properties, Place.PUBLISH),
        _plus(message.expires_at, offset),
    )


def message_of(row: Row, offset: float) -> Message:
    message = retained_of(row[1:], offset)
    message.number = _whole(row[0])
    return message


def retained_row(message: Message, offset: float) -> Row:
    return message_row(message, offset)[1:]


def retained_of(row: Row, offset: float) -> Message:
    flags = _whole(row[2])
    properties, expires_at = _properties_of(row[3], Place.PUBLISH), _minus(row[4], offset)
    return Message(_text(row[0]), _octets(row[1]), flags >> 1, bool(flags & 1), properties, expires_at)


def delivery_row(number: int, item: Delivery) -> Row:
    identifiers = item.identifiers
    return (
        item.number,
        number,
        item.message.number,
        item.qos | item.retain << 2,
        ",".join(map(str, identifiers)) if identifiers else None,
        item.packet_id,
        item.step.value,
    )


def delivery_of(row: Row, message: Message) -> Delivery:
    flags = _whole(row[3])
    identifiers = tuple(map(int, _text(row[4]).split(","))) if row[4] else ()
    step = _STEPS[_whole(row[6])]
    return Delivery(message, flags & 3, bool(flags & 4), identifiers, step, _whole(row[5]), _whole(row[0]))


def queued_row(tenant: str, address: str, entry: "Entry") -> Row:
    return (entry.number, tenant, address, entry.message.number, entry.attempts)


def queued_of(row: Row, message: Message) -> tuple[str, str, int, int, Message]:
    """(tenant, address, number, attempts, message)"""
    return _text(row[1]), _text(row[2]), _whole(row[0]), _whole(row[4]), message


# --- values ---------------------------------------------------------------------------------------------------------


def _properties_octets(properties: Properties, place: Place) -> bytes | None:
    return None if properties is NO_PROPERTIES else encode_properties(properties, place)


def _properties_of(value: Value, place: Place) -> Properties:
    return NO_PROPERTIES if value is None else decode_properties(Reader(_octets(value)), place)


def _plus(time_s: float | None, offset: float) -> float | None:
    return None if time_s is None else time_s + offset


def _minus(value: Value, offset: float) -> float | None:
    return None if value is None else float(value) - offset


def _whole(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} where a whole number was stored")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text was stored")
    return value


def _octets(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where octets were stored")
    return value
