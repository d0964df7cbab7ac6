"""Octets of one connection into packets.

Does: finds packet boundaries, refuses a packet that is too long as soon as its header is there, decodes PUBLISH and
PUBACK without detour.
Does not: know sessions, authenticate, or hold more than one incomplete packet.
The caller owes: feed what the socket gave, iterate `packets()` until it ends or until it wants to read no further,
close on PacketError.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from meshwire.mqtt.decoder import Side, decode_body
from meshwire.mqtt.errors import PacketError, malformed
from meshwire.mqtt.fields import MAX_REMAINING_LENGTH
from meshwire.mqtt.packets import Connect, Packet, ProtocolVersion, PubAck, Publish
from meshwire.mqtt.properties import NO_PROPERTIES
from meshwire.mqtt.reasons import ReasonCode

__all__ = ["PacketStream"]

_KNOWN_TOPICS: dict[bytes, str] = {}
"""Topic names already found valid; a pure memo shared by all streams, so that a repeated name is neither decoded nor
hashed again.
"""
_KNOWN_TOPICS_MAX: Final = 16_384
_KNOWN_TOPIC_MAX_OCTETS: Final = 256

_V5: Final = ProtocolVersion.V5

_new = object.__new__
_set_topic, _set_payload, _set_qos, _set_retain, _set_dup, _set_packet_id, _set_properties = (
    getattr(Publish, field.name).__set__ for field in fields(Publish)
)
_set_acknowledged, _set_reason_code, _set_reason_properties = (
    getattr(PubAck, field.name).__set__ for field in fields(PubAck)
)
"""The two frequent packets are filled in slot by slot: `__init__` of a frozen record costs as much as all the rest of
reading one.
"""


class PacketStream:
    """The receiving half of a connection.

    Args:
        side: which end we are.
        version: protocol level; a server learns it from CONNECT.
        max_packet_octets: a packet longer than this in whole is refused with PACKET_TOO_LARGE before it is stored.
    """

    __slots__ = ("_buffer", "_missing", "_pending", "_position", "max_packet_octets", "side", "version")

    def __init__(
        self,
        side: Side,
        version: ProtocolVersion = ProtocolVersion.V3_1_1,
        max_packet_octets: int = MAX_REMAINING_LENGTH + 5,
    ) -> None:
        self.side = side
        self.version = version
        self.max_packet_octets = max_packet_octets
        self._buffer = b""
        self._position = 0
        self._pending = bytearray()  # an incomplete packet; grows in place, so many small segments cost no copies
        self._missing = 0

    @property
    def buffered_octets(self) -> int:
        """Octets held that belong to no packet given out so far."""
        return len(self._buffer) - self._position + len(self._pending)

    def feed(self, data: bytes) -> None:
        """Takes a segment of any length; iterate `packets()` afterwards."""
        if self._pending:
            self._pending += data
            if len(self._pending) < self._missing:
                return
            data = bytes(self._pending)
            self._pending = bytearray()
        if self._position < len(self._buffer):
            self._buffer = self._buffer[self._position :] + data
        else:
            self._buffer = data
        self._position = 0

    def discard(self) -> None:
        """Forgets what is held: the connection is over, and whoever still knows this stream keeps no segment alive."""
        self._buffer, self._position, self._pending = b"", 0, bytearray()

    def packets(self) -> Iterator[Packet]:
        """Every complete packet, in order; may be left early and called again, then goes on behind the last one given.

        Raises:
            PacketError: after all packets in front of the faulty one were given out.
        """
        while (header := self._header()) is not None:
            first, start, end = header
            buffer = self._buffer
            if len(buffer) < end:
                self._set_aside(end - self._position)
                return
            self._position = end
            if first >> 4 == 3 and first & 6 != 6 and self.version is not _V5:
                yield _publish_v3(first, buffer, start, end)
            elif first == 0x40 and end - start == 2:
                packet_id = buffer[start] << 8 | buffer[start + 1]
                if not packet_id:
                    raise malformed("packet identifier is zero")
                acknowledgement = _new(PubAck)
                _set_acknowledged(acknowledgement, packet_id)
                _set_reason_code(acknowledgement, 0)
                _set_reason_properties(acknowledgement, NO_PROPERTIES)
                yield acknowledgement
            else:
                packet = decode_body(first, buffer[start:end], self.version, self.side)
                if isinstance(packet, Connect):
                    self.version = packet.version
                yield packet

    def _header(self) -> tuple[int, int, int] | None:
        """(first octet, begin of the body, end of the body) of the next packet; None while the header is incomplete."""
        buffer, position = self._buffer, self._position
        available = len(buffer) - position
        if available < 2:
            if available:
                self._set_aside(2)
            return None
        length = buffer[position + 1]
        start = position + 2
        if length >= 0x80:
            length &= 0x7F
            shift = 7
            while True:
                if start >= len(buffer):
                    self._set_aside(available + 1)
                    return None
                octet = buffer[start]
                start += 1
                length |= (octet & 0x7F) << shift
                if octet < 0x80:
                    if not octet and self.version is _V5:  # 3.x does not forbid it, and clients pad
                        raise malformed("remaining length is not in its shortest form")
                    break
                shift += 7
                if shift > 21:
                    raise malformed("remaining length is longer than four octets")
        if start - position + length > self.max_packet_octets:
            raise PacketError(ReasonCode.PACKET_TOO_LARGE, "packet is longer than allowed")
        return buffer[position], start, start + length

    def _set_aside(self, needed: int) -> None:
        """Moves the incomplete packet to the growing buffer; `needed` octets must be there before looking again."""
        self._pending = bytearray(self._buffer[self._position :])
        self._missing = needed
        self._buffer = b""
        self._position = 0


def _publish_v3(first: int, buffer: bytes, start: int, end: int) -> Publish:
    """PUBLISH of MQTT 3.x without detour: same rules as `decoder`, same errors."""
    topic_start = start + 2
    if topic_start > end:
        raise malformed("field runs past the end of the packet")
    position = topic_start + (buffer[start] << 8 | buffer[start + 1])
    raw = buffer[topic_start:position]
    qos = first >> 1 & 3
    packet_id = 0
    topic = _KNOWN_TOPICS.get(raw)
    if topic is None or position > end:
        topic = _learn(first, buffer, start, end, raw)
    if qos:
        if position + 2 > end:
            raise malformed("field runs past the end of the packet")
        packet_id = buffer[position] << 8 | buffer[position + 1]
        if not packet_id:
            raise malformed("packet identifier is zero")
        position += 2
    elif first & 8:
        raise malformed("DUP at QoS 0")
    packet = _new(Publish)
    _set_topic(packet, topic)
    _set_payload(packet, buffer[position:end])
    _set_qos(packet, qos)
    _set_retain(packet, first & 1 == 1)
    _set_dup(packet, first & 8 == 8)
    _set_packet_id(packet, packet_id)
    _set_properties(packet, NO_PROPERTIES)
    return packet


def _learn(first: int, buffer: bytes, start: int, end: int, raw: bytes) -> str:
    """The long way for a topic name not seen before; raises for an invalid one."""
    packet = decode_body(first, buffer[start:end], ProtocolVersion.V3_1_1, Side.SERVER)
    assert isinstance(packet, Publish)
    if len(raw) <= _KNOWN_TOPIC_MAX_OCTETS:
        if len(_KNOWN_TOPICS) >= _KNOWN_TOPICS_MAX:
            _KNOWN_TOPICS.clear()
        _KNOWN_TOPICS[raw] = packet.topic
    return packet.topic
