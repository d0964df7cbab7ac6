"""An MQTT client session that only subscribes: SUBSCRIBE, deliveries of QoS 0, 1 and 2, acknowledgement once a message
is dealt with. No socket, no clock.

Does: read what the broker says, tell each message once per delivery, acknowledge what the caller has settled. Does not:
run actions, connect, keep time. The caller owes: `begin` after each CONNACK, every octet of the broker to `receive`,
everything of `data_to_send` to the broker, `settle` for each message when its action is done.

A message is acknowledged (PUBACK, PUBREC) only when it is settled: a broker that keeps the session sends what was not
settled again, after a lost connection and after a restart. At QoS 2 an identifier that is settled and not released is
not told again (MQTT 5.0 section 4.3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from meshwire.mqtt import (
    Disconnect,
    MqttError,
    Packet,
    PacketStream,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    encode,
)

__all__ = ["Delivery", "SubscriberSession"]

_FAILURE: Final = 0x80
_SUBSCRIBE_ID: Final = 1
_NOT_FOUND: Final = 0x92


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that waits to be dealt with."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    packet_id: int
    properties: Properties
    turn: int
    """Which connection it came on; it can be acknowledged on this one only."""


class SubscriberSession:
    """See the module's text.

    Args:
        subscriptions: filters and QoS.
    """

    def __init__(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        self._subscriptions = tuple(subscriptions)
        self._version = ProtocolVersion.V5
        self._stream = PacketStream(Side.CLIENT)
        self._out: list[bytes] = []
        self._turn = 0
        self._waiting: set[int] = set()
        """Packet identifiers told and not settled, on this connection."""
        self._unreleased: set[int] = set()
        """QoS 2: settled, PUBREL has not come."""
        self.is_subscribed = False
        self.ended: str | None = None
        """Why the connection has no future; set by a goodbye, nonsense or a refused subscription."""

    def begin(self, version: ProtocolVersion, *, session_present: bool) -> None:
        """A connection stands: subscribe. On a kept session this renews what is there and adds what is new."""
        self._version = version
        self._stream = PacketStream(Side.CLIENT, version)
        self._turn += 1
        self._out.clear()
        self._waiting.clear()
        if not session_present:
            self._unreleased.clear()
        self.is_subscribed, self.ended = False, None
        wanted = tuple(TopicSubscription(text, qos) for text, qos in self._subscriptions)
        self._out.append(encode(Subscribe(_SUBSCRIBE_ID, wanted), version))

    def data_to_send(self) -> bytes:
        """Everything to be written now, as one piece."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def receive(self, octets: bytes) -> list[Delivery]:
        """Read what the broker says; look at `ended` afterwards."""
        deliveries: list[Delivery] = []
        try:
            self._stream.feed(octets)
            for packet in self._stream.packets():
                delivery = self._packet(packet)
                if delivery is not None:
                    deliveries.append(delivery)
        except MqttError as error:
            self.ended = f"the broker breaks the protocol: {error}"
        return deliveries

    def settle(self, delivery: Delivery) -> None:
        """Its action is done, or given up: acknowledge it, unless its connection is gone."""
        packet_id = delivery.packet_id
        if delivery.turn != self._turn or packet_id not in self._waiting:
            return
        self._waiting.discard(packet_id)
        if delivery.qos == 1:
            self._out.append(encode(PubAck(packet_id), self._version))
        else:
            self._unreleased.add(packet_id)
            self._out.append(encode(PubRec(packet_id), self._version))

    def _packet(self, packet: Packet) -> Delivery | None:
        match packet:
            case Publish(qos=0):
                return self._delivery(packet)
            case Publish(packet_id=packet_id):
                if packet_id in self._waiting:
                    return None
                if packet.qos == 2 and packet_id in self._unreleased:
                    self._out.append(encode(PubRec(packet_id), self._version))
                    return None
                self._waiting.add(packet_id)
                return self._delivery(packet)
            case PubRel(packet_id):
                known = packet_id in self._unreleased
                self._unreleased.discard(packet_id)
                five = self._version is ProtocolVersion.V5
                self._out.append(encode(PubComp(packet_id, 0 if known or not five else _NOT_FOUND), self._version))
            case SubAck(reason_codes=codes):
                self._subscribed(codes)
            case Disconnect(code):
                self.ended = f"the broker has disconnected us, reason code {code:#04x}"
            case PingResp() | UnsubAck():
                pass
            case _:
                self.ended = f"the broker sent {type(packet).__name__}, which nobody asked for"
        return None

    def _subscribed(self, codes: Sequence[int]) -> None:
        refused = [
            f"{text} ({code:#04x})"
            for (text, _), code in zip(self._subscriptions, codes, strict=False)
            if code >= _FAILURE
        ]
        if refused:
            self.ended = f"the broker refuses the subscription to {', '.join(refused)}"
        else:
            self.is_subscribed = True

    def _delivery(self, packet: Publish) -> Delivery:
        return Delivery(
            packet.topic, packet.payload, packet.qos, packet.retain, packet.packet_id, packet.properties, self._turn
        )
