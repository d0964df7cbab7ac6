"""Records into MQTT control packets, for both ends and all versions.

Decides the layout; refuses (PacketError) what the peer's decoder would have to refuse. `publish_parts` gives a PUBLISH
in two pieces with room for the packet identifier between them, so that a server encodes one message once for all its
subscribers.
"""

from typing import Final, assert_never

from meshwire.mqtt.errors import malformed
from meshwire.mqtt.fields import (
    check_topic_filter,
    check_topic_name,
    encode_binary,
    encode_string,
    encode_variable_integer,
)
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
)
from meshwire.mqtt.properties import NO_PROPERTIES, PacketType, Place, Properties, encode_properties

__all__ = ["encode", "publish_parts"]

_V5 = ProtocolVersion.V5
_PROTOCOL_NAMES = {
    ProtocolVersion.V3_1: b"\x00\x06MQIsdp\x03",
    ProtocolVersion.V3_1_1: b"\x00\x04MQTT\x04",
    ProtocolVersion.V5: b"\x00\x04MQTT\x05",
}


def encode(packet: Packet, version: ProtocolVersion) -> bytes:
    """One whole packet.

    Args:
        packet: any record of `meshwire.mqtt.packets`.
        version: protocol level of the connection (a Connect carries its own).

    Raises:
        PacketError: the record cannot be said in this version, or breaks a rule of the standard.
    """
    match packet:
        case Publish():
            return _publish(packet, version)
        case PubAck():
            return _acknowledgement(PacketType.PUBACK, packet, version)
        case PubRec():
            return _acknowledgement(PacketType.PUBREC, packet, version)
        case PubRel():
            return _acknowledgement(PacketType.PUBREL, packet, version)
        case PubComp():
            return _acknowledgement(PacketType.PUBCOMP, packet, version)
        case Connect():
            return _framed(PacketType.CONNECT, _connect(packet))
        case ConnAck():
            flags = bytes((packet.session_present, packet.reason_code))
            return _framed(PacketType.CONNACK, flags + _list(packet.properties, Place.CONNACK, version))
        case Subscribe():
            return _framed(PacketType.SUBSCRIBE, _subscribe(packet, version))
        case SubAck():
            head = _packet_id(packet.packet_id) + _list(packet.properties, Place.SUBACK, version)
            return _framed(PacketType.SUBACK, head + bytes(packet.reason_codes))
        case Unsubscribe():
            return _framed(PacketType.UNSUBSCRIBE, _unsubscribe(packet, version))
        case UnsubAck():
            head = _packet_id(packet.packet_id) + _list(packet.properties, Place.UNSUBACK, version)
            return _framed(PacketType.UNSUBACK, head + bytes(packet.reason_codes if version is _V5 else ()))
        case PingReq():
            return b"\xc0\x00"
        case PingResp():
            return b"\xd0\x00"
        case Disconnect():
            return _framed(PacketType.DISCONNECT, _reason_and_list(packet, Place.DISCONNECT, version))
        case Auth():
            return _framed(PacketType.AUTH, _reason_and_list(packet, Place.AUTH, version))
    assert_never(packet)


def publish_parts(
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool,
    properties: Properties,
    version: ProtocolVersion,
) -> tuple[bytes, bytes]:
    """A PUBLISH as (head, tail); at QoS 1 and 2 the two octets of the packet identifier belong between them.

    DUP is off; to set it, set bit 3 of the first octet of the head. Topic and properties are taken as already checked.
    """
    name = _TOPIC_NAMES.get(topic) or _topic_name(topic)
    tail = encode_properties(properties, Place.PUBLISH) + payload if version is _V5 else payload
    length = len(name) + len(tail) + (2 if qos else 0)
    first = 0x30 | qos << 1 | retain
    if length < 0x80:
        return _OCTETS[first] + _OCTETS[length] + name, tail
    return bytes((first,)) + encode_variable_integer(length) + name, tail


_OCTETS: Final = tuple(bytes((value,)) for value in range(256))
_TOPIC_NAMES: dict[str, bytes] = {}
"""Topic names as they stand in a packet; a pure memo."""
_TOPIC_NAMES_MAX: Final = 16_384
_TOPIC_NAME_MAX_OCTETS: Final = 256


def _topic_name(topic: str) -> bytes:
    raw = topic.encode()
    name = len(raw).to_bytes(2, "big") + raw
    if len(raw) <= _TOPIC_NAME_MAX_OCTETS:
        if len(_TOPIC_NAMES) >= _TOPIC_NAMES_MAX:
            _TOPIC_NAMES.clear()
        _TOPIC_NAMES[topic] = name
    return name


def _framed(kind: PacketType, body: bytes) -> bytes:
    flags = 2 if kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE, PacketType.PUBREL) else 0
    return bytes((kind << 4 | flags,)) + encode_variable_integer(len(body)) + body


def _packet_id(value: int) -> bytes:
    if not 1 <= value <= 0xFFFF:
        raise malformed("packet identifier out of range")
    return value.to_bytes(2, "big")


def _list(properties: Properties, place: Place, version: ProtocolVersion) -> bytes:
    """The property list where the version has one; a 3.x connection has nowhere to put properties."""
    return encode_properties(properties, place) if version is _V5 else b""


def _connect(packet: Connect) -> bytes:
    version, will = packet.version, packet.will
    if packet.password is not None and packet.username is None and version is not _V5:
        raise malformed("password without user name")
    if packet.is_bridge and version is _V5:
        raise malformed("MQTT 5 has no mark of a bridge")
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    parts = [encode_string(packet.client_id)]
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        parts.append(_list(will.properties, Place.WILL, version))
        parts.append(encode_string(check_topic_name(will.topic)) + encode_binary(will.payload))
    if packet.username is not None:
        parts.append(encode_string(packet.username))
    if packet.password is not None:
        parts.append(encode_binary(packet.password))
    *name, level = _PROTOCOL_NAMES[version]
    head = bytes((*name, level | packet.is_bridge << 7, flags)) + packet.keep_alive.to_bytes(2, "big")
    return head + _list(packet.properties, Place.CONNECT, version) + b"".join(parts)


def _publish(packet: Publish, version: ProtocolVersion) -> bytes:
    if packet.topic or packet.properties.topic_alias is None or version is not _V5:
        check_topic_name(packet.topic)
    if packet.dup and not packet.qos:
        raise malformed("DUP at QoS 0")
    encode_string(packet.topic)
    head, tail = publish_parts(packet.topic, packet.payload, packet.qos, packet.retain, packet.properties, version)
    if packet.dup:
        head = bytes((head[0] | 8,)) + head[1:]
    return head + (_packet_id(packet.packet_id) if packet.qos else b"") + tail


def _acknowledgement(kind: PacketType, packet: PubAck | PubRec | PubRel | PubComp, version: ProtocolVersion) -> bytes:
    body = _packet_id(packet.packet_id)
    if version is _V5 and (packet.reason_code or packet.properties is not NO_PROPERTIES):
        body += bytes((packet.reason_code,)) + encode_properties(packet.properties, Place(kind))
    return _framed(kind, body)


def _reason_and_list(packet: Disconnect | Auth, place: Place, version: ProtocolVersion) -> bytes:
    if version is not _V5 or (not packet.reason_code and packet.properties is NO_PROPERTIES):
        return b""
    return bytes((packet.reason_code,)) + encode_properties(packet.properties, place)


def _subscribe(packet: Subscribe, version: ProtocolVersion) -> bytes:
    if not packet.subscriptions:
        raise malformed("SUBSCRIBE without a topic filter")
    filters = b"".join(_subscription(item, version) for item in packet.subscriptions)
    return _packet_id(packet.packet_id) + _list(packet.properties, Place.SUBSCRIBE, version) + filters


def _subscription(item: TopicSubscription, version: ProtocolVersion) -> bytes:
    options = item.qos
    if version is _V5:
        options |= item.no_local << 2 | item.retain_as_published << 3 | item.retain_handling << 4
    return encode_string(check_topic_filter(item.topic_filter)) + bytes((options,))


def _unsubscribe(packet: Unsubscribe, version: ProtocolVersion) -> bytes:
    if not packet.topic_filters:
        raise malformed("UNSUBSCRIBE without a topic filter")
    filters = b"".join(encode_string(check_topic_filter(text)) for text in packet.topic_filters)
    return _packet_id(packet.packet_id) + _list(packet.properties, Place.UNSUBSCRIBE, version) + filters
