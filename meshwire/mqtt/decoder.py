"""Bodies of MQTT control packets into records: one function a packet, one table of which side may send what.

Does not look for packet boundaries (that is `stream`) and does not know sessions: whether a packet may come *now* is
its owner's business.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from meshwire.mqtt.errors import PacketError, malformed, protocol_error
from meshwire.mqtt.fields import Reader, check_topic_filter, check_topic_name
from meshwire.mqtt.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from meshwire.mqtt.properties import NO_PROPERTIES, PacketType, Place, Properties, decode_properties
from meshwire.mqtt.reasons import RETURN_CODES_V3, ReasonCode

__all__ = ["Side", "decode_body"]


class Side(Enum):
    """Which end of the connection we are."""

    CLIENT = "client"
    SERVER = "server"


_V5: Final = ProtocolVersion.V5
_R: Final = ReasonCode

_ACK_REASONS: Final = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASE_REASONS: Final = frozenset({0x00, 0x92})

REASONS: Final[dict[PacketType, frozenset[int]]] = {
    PacketType.CONNACK: frozenset(
        {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    ),
    PacketType.PUBACK: _ACK_REASONS,
    PacketType.PUBREC: _ACK_REASONS,
    PacketType.PUBREL: _RELEASE_REASONS,
    PacketType.PUBCOMP: _RELEASE_REASONS,
    PacketType.SUBACK: frozenset({0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}),
    PacketType.UNSUBACK: frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}),
    PacketType.DISCONNECT: frozenset(
        {0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0xA3)} - {0x91, 0x92}
    ),
    PacketType.AUTH: frozenset({0x00, 0x18, 0x19}),
}
"""Reason codes each packet may carry (the tables in MQTT 5.0 sections 3.2 to 3.15)."""


def decode_body(first: int, body: bytes, version: ProtocolVersion, side: Side) -> Packet:
    """One packet from its first octet and everything behind the remaining length.

    Args:
        first: packet type and flags (MQTT 5.0 section 2.1).
        version: protocol level of the connection; for CONNECT it is read from the packet.
        side: which end *we* are; a packet only that end sends is a protocol error.

    Raises:
        PacketError: always, and nothing else, for octets that the standard forbids.
    """
    kind = first >> 4
    if kind == PacketType.PUBLISH:
        return _publish(first & 0x0F, Reader(body), version, side)
    decode = _DECODERS[side].get(kind)
    if decode is None or (kind == PacketType.AUTH and version is not _V5):
        raise protocol_error(f"packet type {kind} is not for us")
    _check_flags(kind, first & 0x0F, version)
    reader = Reader(body)
    packet = decode(reader, version)
    reader.expect_end()
    return packet


def _check_flags(kind: int, flags: int, version: ProtocolVersion) -> None:
    """[MQTT-2.1.3-1]; MQTT 3.1 section 2.1 allowed DUP on the three packets sent at QoS 1."""
    wanted = 2 if kind in (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE) else 0
    if flags != wanted and not (version is ProtocolVersion.V3_1 and wanted and flags == 0x0A):
        raise malformed("reserved flags of the fixed header are set")


def _reason(kind: PacketType, value: int) -> int:
    if value not in REASONS[kind]:
        raise protocol_error(f"reason code 0x{value:02X} is not one of {kind.name}")
    return value


# --- CONNECT --------------------------------------------------------------------------------------------------------


def _connect(reader: Reader, _version: ProtocolVersion) -> Connect:
    version, is_bridge = _protocol(reader)
    flags = reader.byte()
    if flags & 1 and version is not ProtocolVersion.V3_1:
        raise malformed("reserved connect flag is set")  # [MQTT-3.1.2-3]
    keep_alive = reader.two_byte_integer()
    properties = decode_properties(reader, Place.CONNECT) if version is _V5 else NO_PROPERTIES
    if properties.authentication_data is not None and properties.authentication_method is None:
        raise protocol_error("authentication data without a method")
    client_id = reader.string()
    will = _will(reader, flags, version)
    if flags & 0x40 and not flags & 0x80 and version is not _V5:
        raise malformed("password without user name")  # 3.1.1 [MQTT-3.1.2-22]
    username = reader.string() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return Connect(client_id, version, bool(flags & 2), keep_alive, will, username, password, properties, is_bridge)


def _protocol(reader: Reader) -> tuple[ProtocolVersion, bool]:
    """With the mark of a bridge."""
    name, level = reader.string(), reader.byte()
    if name == "MQIsdp" and level in (3, 0x83):
        return ProtocolVersion.V3_1, level == 0x83
    if name == "MQTT" and level in (4, 5, 0x84):
        return ProtocolVersion(level & 0x7F), level == 0x84
    if name in ("MQTT", "MQIsdp"):
        raise PacketError(_R.UNSUPPORTED_PROTOCOL_VERSION, f"protocol level {level} is not spoken here")
    raise PacketError(_R.UNSUPPORTED_PROTOCOL_VERSION, "not MQTT")


def _will(reader: Reader, flags: int, version: ProtocolVersion) -> Will | None:
    qos = flags >> 3 & 3
    if not flags & 4:
        if flags & 0x38:
            raise malformed("will QoS or retain without a will")  # [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        return None
    if qos == 3:
        raise malformed("will QoS 3")  # [MQTT-3.1.2-12]
    properties = decode_properties(reader, Place.WILL) if version is _V5 else NO_PROPERTIES
    topic = check_topic_name(reader.string())
    return Will(topic, reader.binary(), qos, bool(flags & 0x20), properties)


def _connack(reader: Reader, version: ProtocolVersion) -> ConnAck:
    flags = reader.byte()
    if flags & 0xFE:
        raise malformed("reserved acknowledge flags are set")  # [MQTT-3.2.2-1]
    code = reader.byte()
    if version is not _V5:
        if code not in RETURN_CODES_V3:
            raise malformed("return code is reserved")
        return ConnAck(bool(flags), code)
    _reason(PacketType.CONNACK, code)
    return ConnAck(bool(flags), code, decode_properties(reader, Place.CONNACK))


# --- PUBLISH and its acknowledgements -------------------------------------------------------------------------------


def _publish(flags: int, reader: Reader, version: ProtocolVersion, side: Side) -> Publish:
    qos, dup = flags >> 1 & 3, bool(flags & 8)
    if qos == 3:
        raise malformed("QoS 3")  # [MQTT-3.3.1-4]
    if dup and qos == 0:
        raise malformed("DUP at QoS 0")  # [MQTT-3.3.1-2]
    topic = reader.string()
    packet_id = reader.packet_id() if qos else 0
    properties = decode_properties(reader, Place.PUBLISH) if version is _V5 else NO_PROPERTIES
    if properties.subscription_identifiers and side is Side.SERVER:
        raise protocol_error("subscription identifier from a client")  # [MQTT-3.3.4-6]
    if topic or properties.topic_alias is None:
        if not topic and version is _V5:
            raise protocol_error("empty topic without an alias")  # section 3.3.2.1
        check_topic_name(topic)
    return Publish(topic, reader.rest(), qos, bool(flags & 1), dup, packet_id, properties)


_ACKNOWLEDGEMENTS: Final[dict[PacketType, type[PubAck] | type[PubRec] | type[PubRel] | type[PubComp]]] = {
    PacketType.PUBACK: PubAck,
    PacketType.PUBREC: PubRec,
    PacketType.PUBREL: PubRel,
    PacketType.PUBCOMP: PubComp,
}


def _acknowledgement(kind: PacketType) -> Callable[[Reader, ProtocolVersion], Packet]:
    """PUBACK, PUBREC, PUBREL and PUBCOMP have one layout (MQTT 5.0 section 3.4)."""
    record = _ACKNOWLEDGEMENTS[kind]
    place = Place(kind)

    def decode(reader: Reader, version: ProtocolVersion) -> Packet:
        packet_id = reader.packet_id()
        if version is not _V5 or not reader.remaining:
            return record(packet_id)
        code = _reason(kind, reader.byte())
        return record(packet_id, code, decode_properties(reader, place) if reader.remaining else NO_PROPERTIES)

    return decode


# --- SUBSCRIBE, UNSUBSCRIBE -----------------------------------------------------------------------------------------


def _subscribe(reader: Reader, version: ProtocolVersion) -> Subscribe:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, Place.SUBSCRIBE) if version is _V5 else NO_PROPERTIES
    subscriptions: list[TopicSubscription] = []
    while reader.remaining:
        subscriptions.append(_subscription(reader, version))
    if not subscriptions:
        raise protocol_error("SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_id, tuple(subscriptions), properties)


def _subscription(reader: Reader, version: ProtocolVersion) -> TopicSubscription:
    topic_filter = check_topic_filter(reader.string())
    options = reader.byte()
    qos, handling = options & 3, options >> 4 & 3
    if qos == 3 or options & (0xC0 if version is _V5 else 0xFC):
        raise malformed("reserved subscription options are set")  # [MQTT-3.8.3-5]
    if handling == 3:
        raise protocol_error("retain handling 3")
    if options & 4 and topic_filter.startswith("$share/"):
        raise protocol_error("no local on a shared subscription")  # [MQTT-3.8.3-4]
    return TopicSubscription(topic_filter, qos, bool(options & 4), bool(options & 8), handling)


def _suback(reader: Reader, version: ProtocolVersion) -> SubAck:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, Place.SUBACK) if version is _V5 else NO_PROPERTIES
    codes = tuple(reader.rest())
    if not codes:
        raise protocol_error("SUBACK without a reason code")
    for code in codes:
        if version is not _V5 and code not in (0, 1, 2, 0x80):
            raise malformed("return code is reserved")  # 3.1.1 [MQTT-3.9.3-2]
        _reason(PacketType.SUBACK, code)
    return SubAck(packet_id, codes, properties)


def _unsubscribe(reader: Reader, version: ProtocolVersion) -> Unsubscribe:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, Place.UNSUBSCRIBE) if version is _V5 else NO_PROPERTIES
    filters: list[str] = []
    while reader.remaining:
        filters.append(check_topic_filter(reader.string()))
    if not filters:
        raise protocol_error("UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id, tuple(filters), properties)


def _unsuback(reader: Reader, version: ProtocolVersion) -> UnsubAck:
    packet_id = reader.packet_id()
    if version is not _V5:
        return UnsubAck(packet_id)
    properties = decode_properties(reader, Place.UNSUBACK)
    codes = tuple(_reason(PacketType.UNSUBACK, code) for code in reader.rest())
    if not codes:
        raise protocol_error("UNSUBACK without a reason code")
    return UnsubAck(packet_id, codes, properties)


# --- the rest -------------------------------------------------------------------------------------------------------


def _pingreq(_reader: Reader, _version: ProtocolVersion) -> PingReq:
    return PingReq()


def _pingresp(_reader: Reader, _version: ProtocolVersion) -> PingResp:
    return PingResp()


def _reason_and_properties(reader: Reader, kind: PacketType) -> tuple[int, Properties]:
    """DISCONNECT and AUTH may leave out both fields, or the properties (sections 3.14.2.1 and 3.15.2.1)."""
    if not reader.remaining:
        return 0, NO_PROPERTIES
    code = _reason(kind, reader.byte())
    return code, decode_properties(reader, Place(kind)) if reader.remaining else NO_PROPERTIES


def _disconnect(reader: Reader, version: ProtocolVersion) -> Disconnect:
    if version is not _V5:
        return Disconnect()
    return Disconnect(*_reason_and_properties(reader, PacketType.DISCONNECT))


def _server_disconnect(reader: Reader, version: ProtocolVersion) -> Disconnect:
    if version is not _V5:
        raise protocol_error("DISCONNECT from a server")
    return _disconnect(reader, version)


def _auth(reader: Reader, _version: ProtocolVersion) -> Auth:
    return Auth(*_reason_and_properties(reader, PacketType.AUTH))


_Decoder = Callable[[Reader, ProtocolVersion], Packet]

_BOTH: Final[dict[int, _Decoder]] = {
    PacketType.PUBACK: _acknowledgement(PacketType.PUBACK),
    PacketType.PUBREC: _acknowledgement(PacketType.PUBREC),
    PacketType.PUBREL: _acknowledgement(PacketType.PUBREL),
    PacketType.PUBCOMP: _acknowledgement(PacketType.PUBCOMP),
    PacketType.DISCONNECT: _disconnect,
    PacketType.AUTH: _auth,
}

_DECODERS: Final[dict[Side, dict[int, _Decoder]]] = {
    Side.SERVER: {
        **_BOTH,
        PacketType.CONNECT: _connect,
        PacketType.SUBSCRIBE: _subscribe,
        PacketType.UNSUBSCRIBE: _unsubscribe,
        PacketType.PINGREQ: _pingreq,
    },
    Side.CLIENT: {
        **_BOTH,
        PacketType.CONNACK: _connack,
        PacketType.SUBACK: _suback,
        PacketType.UNSUBACK: _unsuback,
        PacketType.PINGRESP: _pingresp,
        PacketType.DISCONNECT: _server_disconnect,
    },
}
"""Packets that each end receives (MQTT 5.0 table 2-1, direction of flow)."""
