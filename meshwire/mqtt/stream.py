"""Octets of one connection into packets.

Does: finds packet boundaries, refuses a packet that is too long as soon as its header is there, decodes PUBLISH and
PUBACK without detour.
Does not: know sessions, authenticate, or hold more than one incomplete packet.
The caller owes: feed what the socket gave, iterate `packets()` until it ends or until it wants to read no further,
close on PacketError.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from meshwire.mqtt.decoder import Side, decode_body
from meshwire.mqtt.errors import PacketError, malformed
from meshwire.mqtt.fields import MAX_REMAINING_LENGTH
from meshwire.mqtt.packets import Connect, Packet, ProtocolVersion, PubAck, Publish
from meshwire.mqtt.reasons import ReasonCode

__all__ = ["PacketStream"]

_KNOWN_TOPICS: dict[bytes, str] = {}
"""Topic names already found valid; a pure memo shared by all streams, so that a repeated name is neither decoded nor
hashed again.
"""
_KNOWN_TOPICS_MAX: Final = 16_384
_KNOWN_TOPIC_MAX_OCTETS: Final = 256

_V5: Final = ProtocolVersion.V5
_two_octets: Final = Struct(">H").unpack_from


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

    @property
    def next_kind(self) -> int | None:
        """Type of the packet that is arriving (MQTT 5.0 table 2-1); None: nothing of it is here."""
        held = self._pending[:1] or self._buffer[self._position : self._position + 1]
        return held[0] >> 4 if held else None

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
        while (packet := self.next_packet()) is not None:
            yield packet

    def next_packet(self) -> Packet | None:
        """The next complete packet; None: feed more. A frequent packet with a short header takes no detour.

        Raises:
            PacketError: the packet is faulty.
        """
        buffer, position = self._buffer, self._position
        available = len(buffer) - position
        if available < 2:
            if available:
                self._set_aside(2)
            return None
        first, length = buffer[position], buffer[position + 1]
        start = position + 2
        if length < 0x80 and length + 2 <= self.max_packet_octets:
            end = start + length
        else:
            header = self._long_header(start, length & 0x7F)
            if header is None:
                return None
            start, end = header
        if len(buffer) < end:
            self._set_aside(end - position)
            return None
        self._position = end
        if first >> 4 == 3 and first & 6 != 6 and self.version is not _V5:
            return _publish_v3(first, buffer, start, end)
        if first == 0x40 and length == 2:
            (packet_id,) = _two_octets(buffer, start)
            if not packet_id:
                raise malformed("packet identifier is zero")
            return PubAck(packet_id)
        packet = decode_body(first, buffer[start:end], self.version, self.side)
        if isinstance(packet, Connect):
            self.version = packet.version
        return packet

    def _long_header(self, start: int, length: int) -> tuple[int, int] | None:
        """(begin of the body, end of the body) of a packet whose length takes several octets or is above the maximum;
        None while the header is incomplete.
        """
        buffer, position = self._buffer, self._position
        shift = 7
        while buffer[start - 1] >= 0x80:
            if shift > 21:
                raise malformed("remaining length is longer than four octets")
            if start >= len(buffer):
                self._set_aside(start - position + 1)
                return None
            octet = buffer[start]
            start += 1
            length |= (octet & 0x7F) << shift
            if not octet and self.version is _V5:  # 3.x does not forbid it, and clients pad
                raise malformed("remaining length is not in its shortest form")
            shift += 7
        if start - position + length > self.max_packet_octets:
            raise PacketError(ReasonCode.PACKET_TOO_LARGE, "packet is longer than allowed")
        return start, start + length

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
    (position,) = _two_octets(buffer, start)
    position += topic_start
    raw = buffer[topic_start:position]
    qos = first >> 1 & 3
    packet_id = 0
    topic = _KNOWN_TOPICS.get(raw)
    if topic is None or position > end:
        topic = _learn(first, buffer, start, end, raw)
    if qos:
        if position + 2 > end:
            raise malformed("field runs past the end of the packet")
        (packet_id,) = _two_octets(buffer, position)
        if not packet_id:
            raise malformed("packet identifier is zero")
        position += 2
    elif first & 8:
        raise malformed("DUP at QoS 0")
    return Publish(topic, buffer[position:end], qos, first & 1 == 1, first & 8 == 8, packet_id)


def _learn(first: int, buffer: bytes, start: int, end: int, raw: bytes) -> str:
    """The long way for a topic name not seen before; raises for an invalid one."""
    packet = decode_body(first, buffer[start:end], ProtocolVersion.V3_1_1, Side.SERVER)
    assert isinstance(packet, Publish)
    if len(raw) <= _KNOWN_TOPIC_MAX_OCTETS:
        if len(_KNOWN_TOPICS) >= _KNOWN_TOPICS_MAX:
            _KNOWN_TOPICS.clear()
        _KNOWN_TOPICS[raw] = packet.topic
    return packet.topic
