"""One application message on its way through the broker, with its PUBLISH encoded once for all subscribers that get it
alike.
"""

from dataclasses import replace
from typing import Final

from meshwire.mqtt import NO_PROPERTIES, Properties, ProtocolVersion, Will, publish_parts

__all__ = ["Message", "message_of_will"]

USER_PROPERTY_OCTETS: Final = 50
"""What a user property takes besides its texts, so that a packet full of empty ones is not taken for a short message.
"""

_V3 = ProtocolVersion.V3_1_1
_V5 = ProtocolVersion.V5


class Message:
    """What a publisher said.

    Args:
        topic: valid topic name.
        payload: octets, never changed.
        qos: at which it was published.
        retain: the publisher's RETAIN flag.
        properties: those that travel with the message (MQTT 5.0 [MQTT-3.3.2-4] and following); no alias, no
            subscription identifiers.
        expires_at: loop time in seconds after which it is not delivered any more; None: never.
        publisher: who published it, compared for No Local; None: the broker itself.
    """

    __slots__ = (
        "_key",
        "_others",
        "_parts",
        "_properties_octets",
        "expires_at",
        "number",
        "payload",
        "properties",
        "publisher",
        "qos",
        "references",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        expires_at: float | None = None,
        publisher: object = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires_at = expires_at
        self.publisher = publisher
        self.number = 0
        """Its key in the store, while `references` is not 0."""
        self.references = 0
        """Deliveries of durable sessions that hold it; the journal's own count."""
        self._key = -1
        self._parts: tuple[bytes, bytes] = b"", b""
        """The encoding that `_key` stands for: what most subscribers get."""
        self._others: dict[int | tuple[int, int, int, tuple[int, ...]], tuple[bytes, bytes]] | None = None

    @property
    def octets(self) -> int:
        """Size for the bounds of queues: topic, payload and properties."""
        octets = len(self.topic) + len(self.payload)
        if self.properties is NO_PROPERTIES:
            return octets
        try:
            return octets + self._properties_octets
        except AttributeError:  # asked for the first time; most messages are never asked, so they have nothing to set
            self._properties_octets: int = _octets_of(self.properties)
            return octets + self._properties_octets

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def parts(self, version: ProtocolVersion, qos: int, retain: bool) -> tuple[bytes, bytes]:
        """PUBLISH as (head, tail) for a message without expiry and subscription identifiers; the packet identifier goes
        between.
        """
        key = qos << 1 | retain
        if version is _V5:
            key |= 8
        else:
            version = _V3
        if key == self._key:
            return self._parts
        if self._key < 0:
            self._key = key
            self._parts = publish_parts(self.topic, self.payload, qos, retain, self.properties, version)
            return self._parts
        others = self._others = self._others or {}
        found = others.get(key)
        if found is None:
            found = others[key] = publish_parts(self.topic, self.payload, qos, retain, self.properties, version)
        return found

    def parts_for(
        self,
        version: ProtocolVersion,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        now: float,
        alias: int = 0,
        is_known: bool = False,
    ) -> tuple[bytes, bytes]:
        """The same with what differs between subscribers of MQTT 5: remaining life ([MQTT-3.3.2-6]), identifiers, and
        the topic's alias, which stands for the topic when it `is_known`.
        """
        if version != _V5 or (self.expires_at is None and not identifiers and not alias):
            return self.parts(version, qos, retain)
        life = -1 if self.expires_at is None else max(1, round(self.expires_at - now))
        key = (qos << 1 | retain, life, alias << 1 | is_known, identifiers)
        others = self._others = self._others or {}
        found = others.get(key)
        if found is None:
            properties = replace(
                self.properties,
                message_expiry_interval=None if life < 0 else life,
                subscription_identifiers=identifiers,
                topic_alias=alias or None,
            )
            found = publish_parts("" if is_known else self.topic, self.payload, qos, retain, properties, _V5)
            if len(others) > 16:
                others.clear()  # a queued message must not collect one encoding a second
            others[key] = found
        return found


def message_of_will(will: Will, publisher: object, now: float) -> Message:
    """A will as the message it becomes; its delay is over."""
    properties, life = will.properties, will.properties.message_expiry_interval
    if properties.will_delay_interval is not None:
        properties = replace(properties, will_delay_interval=None)
    expires_at = None if life is None else now + life
    return Message(will.topic, will.payload, will.qos, will.retain, properties, expires_at, publisher)


def _octets_of(properties: Properties) -> int:
    texts = (properties.content_type, properties.response_topic, properties.correlation_data)
    return sum(len(text) for text in texts if text) + sum(
        len(name) + len(value) + USER_PROPERTY_OCTETS for name, value in properties.user_properties
    )
