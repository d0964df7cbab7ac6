"""Properties of MQTT 5.0 (section 2.2.2): one table says identifier, type, and the packets each may stand in.

Decides which properties are valid where, and their value ranges; leaves to the broker or client what they do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from meshwire.mqtt.errors import PacketError, protocol_error
from meshwire.mqtt.fields import Reader, check_topic_name, encode_binary, encode_string, encode_variable_integer
from meshwire.mqtt.reasons import ReasonCode

__all__ = ["NO_PROPERTIES", "PacketType", "Place", "Properties", "decode_properties", "encode_properties"]


class PacketType(IntEnum):
    """MQTT Control Packet types (MQTT 5.0 table 2-1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Place(IntEnum):
    """Where a property list stands; a Will has a list of its own (MQTT 5.0 section 3.1.3.2)."""

    CONNECT = PacketType.CONNECT
    CONNACK = PacketType.CONNACK
    PUBLISH = PacketType.PUBLISH
    PUBACK = PacketType.PUBACK
    PUBREC = PacketType.PUBREC
    PUBREL = PacketType.PUBREL
    PUBCOMP = PacketType.PUBCOMP
    SUBSCRIBE = PacketType.SUBSCRIBE
    SUBACK = PacketType.SUBACK
    UNSUBSCRIBE = PacketType.UNSUBSCRIBE
    UNSUBACK = PacketType.UNSUBACK
    DISCONNECT = PacketType.DISCONNECT
    AUTH = PacketType.AUTH
    WILL = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """All properties of MQTT 5.0; None (or an empty tuple) means absent. Names are the standard's, times are in
    seconds.
    """

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NO_PROPERTIES: Final = Properties()


class _Kind(Enum):
    BYTE = "byte"
    TWO = "two byte integer"
    FOUR = "four byte integer"
    VARIABLE = "variable byte integer"
    TEXT = "string"
    BINARY = "binary data"
    PAIR = "string pair"


@dataclass(frozen=True, slots=True)
class _Rule:
    """One row of MQTT 5.0 table 2-4, with the value range of the property's own section."""

    name: str
    kind: _Kind
    places: frozenset[Place]
    minimum: int = 0
    maximum: int = 0xFFFF_FFFF
    repeats: bool = False
    is_topic: bool = False


def _rule(name: str, kind: _Kind, *places: Place, low: int = 0, high: int = 0xFFFF_FFFF, topic: bool = False) -> _Rule:
    return _Rule(
        name, kind, frozenset(places), low, high, name in ("user_properties", "subscription_identifiers"), topic
    )


_P = Place
_ACKS: Final = (_P.PUBACK, _P.PUBREC, _P.PUBREL, _P.PUBCOMP, _P.SUBACK, _P.UNSUBACK)

_RULES: Final[dict[int, _Rule]] = {
    0x01: _rule("payload_format_indicator", _Kind.BYTE, _P.PUBLISH, _P.WILL, high=1),
    0x02: _rule("message_expiry_interval", _Kind.FOUR, _P.PUBLISH, _P.WILL),
    0x03: _rule("content_type", _Kind.TEXT, _P.PUBLISH, _P.WILL),
    0x08: _rule("response_topic", _Kind.TEXT, _P.PUBLISH, _P.WILL, topic=True),
    0x09: _rule("correlation_data", _Kind.BINARY, _P.PUBLISH, _P.WILL),
    0x0B: _rule("subscription_identifiers", _Kind.VARIABLE, _P.PUBLISH, _P.SUBSCRIBE, low=1),
    0x11: _rule("session_expiry_interval", _Kind.FOUR, _P.CONNECT, _P.CONNACK, _P.DISCONNECT),
    0x12: _rule("assigned_client_identifier", _Kind.TEXT, _P.CONNACK),
    0x13: _rule("server_keep_alive", _Kind.TWO, _P.CONNACK),
    0x15: _rule("authentication_method", _Kind.TEXT, _P.CONNECT, _P.CONNACK, _P.AUTH),
    0x16: _rule("authentication_data", _Kind.BINARY, _P.CONNECT, _P.CONNACK, _P.AUTH),
    0x17: _rule("request_problem_information", _Kind.BYTE, _P.CONNECT, high=1),
    0x18: _rule("will_delay_interval", _Kind.FOUR, _P.WILL),
    0x19: _rule("request_response_information", _Kind.BYTE, _P.CONNECT, high=1),
    0x1A: _rule("response_information", _Kind.TEXT, _P.CONNACK),
    0x1C: _rule("server_reference", _Kind.TEXT, _P.CONNACK, _P.DISCONNECT),
    0x1F: _rule("reason_string", _Kind.TEXT, _P.CONNACK, _P.DISCONNECT, _P.AUTH, *_ACKS),
    0x21: _rule("receive_maximum", _Kind.TWO, _P.CONNECT, _P.CONNACK, low=1),
    0x22: _rule("topic_alias_maximum", _Kind.TWO, _P.CONNECT, _P.CONNACK),
    0x23: _rule("topic_alias", _Kind.TWO, _P.PUBLISH),  # zero has a reason code of its own, see _checked
    0x24: _rule("maximum_qos", _Kind.BYTE, _P.CONNACK, high=1),
    0x25: _rule("retain_available", _Kind.BYTE, _P.CONNACK, high=1),
    0x26: _rule("user_properties", _Kind.PAIR, *Place),
    0x27: _rule("maximum_packet_size", _Kind.FOUR, _P.CONNECT, _P.CONNACK, low=1),
    0x28: _rule("wildcard_subscription_available", _Kind.BYTE, _P.CONNACK, high=1),
    0x29: _rule("subscription_identifier_available", _Kind.BYTE, _P.CONNACK, high=1),
    0x2A: _rule("shared_subscription_available", _Kind.BYTE, _P.CONNACK, high=1),
}

_Value = int | str | bytes | tuple[str, str]


def _read_pair(reader: Reader) -> tuple[str, str]:
    return reader.string(), reader.string()


_READ: Final[dict[_Kind, Callable[[Reader], _Value]]] = {
    _Kind.BYTE: Reader.byte,
    _Kind.TWO: Reader.two_byte_integer,
    _Kind.FOUR: Reader.four_byte_integer,
    _Kind.VARIABLE: Reader.variable_integer,
    _Kind.TEXT: Reader.string,
    _Kind.BINARY: Reader.binary,
    _Kind.PAIR: _read_pair,
}


def decode_properties(reader: Reader, place: Place) -> Properties:
    """Takes one property list off the reader (MQTT 5.0 section 2.2.2).

    Raises:
        PacketError: unknown or misplaced property, duplicate of one that may stand once, value out of its range.
    """
    length = reader.variable_integer()
    if length == 0:
        return NO_PROPERTIES
    section = reader.section(length)
    single: dict[str, _Value] = {}
    repeated: dict[str, list[_Value]] = {}
    while section.remaining:
        rule = _RULES.get(section.variable_integer())
        if rule is None:
            raise PacketError(ReasonCode.MALFORMED_PACKET, "unknown property")
        if place not in rule.places:
            raise protocol_error(f"{rule.name} may not stand in {place.name}")
        value = _checked(rule, _READ[rule.kind](section))
        if rule.repeats and not (place is Place.SUBSCRIBE and rule.kind is _Kind.VARIABLE):
            repeated.setdefault(rule.name, []).append(value)
        elif rule.name in single:
            raise protocol_error(f"{rule.name} stands more than once")
        else:
            single[rule.name] = value
    if place is Place.SUBSCRIBE and "subscription_identifiers" in single:
        repeated["subscription_identifiers"] = [single.pop("subscription_identifiers")]
    return Properties(**single, **{name: tuple(values) for name, values in repeated.items()})  # type: ignore[arg-type]


def _checked(rule: _Rule, value: _Value) -> _Value:
    if isinstance(value, int) and not rule.minimum <= value <= rule.maximum:
        raise protocol_error(f"{rule.name} out of range")
    if rule.name == "topic_alias" and value == 0:
        raise PacketError(ReasonCode.TOPIC_ALIAS_INVALID, "topic alias is zero")  # [MQTT-3.3.2-8]
    if rule.is_topic and isinstance(value, str):
        check_topic_name(value)  # [MQTT-3.3.2-14]
    return value


def encode_properties(properties: Properties, place: Place) -> bytes:
    """The property list with its length in front. Raises PacketError for what decode_properties would refuse."""
    if properties is NO_PROPERTIES:
        return b"\0"
    parts: list[bytes] = []
    for identifier, rule in _RULES.items():
        value = getattr(properties, rule.name)
        if value is None or value == ():
            continue
        if place not in rule.places:
            raise protocol_error(f"{rule.name} may not stand in {place.name}")
        values = value if rule.repeats else (value,)
        if place is Place.SUBSCRIBE and rule.kind is _Kind.VARIABLE and len(values) > 1:
            raise protocol_error(f"{rule.name} stands more than once")
        for item in values:
            parts.append(identifier.to_bytes(1, "big") + _write(rule, _checked(rule, item)))
    body = b"".join(parts)
    return encode_variable_integer(len(body)) + body


def _write(rule: _Rule, value: _Value) -> bytes:
    match rule.kind, value:
        case _Kind.BYTE, int():
            return value.to_bytes(1, "big")
        case _Kind.TWO, int() if value <= 0xFFFF:
            return value.to_bytes(2, "big")
        case _Kind.FOUR, int():
            return value.to_bytes(4, "big")
        case _Kind.VARIABLE, int():
            return encode_variable_integer(value)
        case _Kind.TEXT, str():
            return encode_string(value)
        case _Kind.BINARY, bytes():
            return encode_binary(value)
        case _Kind.PAIR, (str() as name, str() as text):
            return encode_string(name) + encode_string(text)
    raise protocol_error(f"{rule.name} out of range")
