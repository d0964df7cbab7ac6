"""The fifteen MQTT control packets as records; one set for MQTT 3.1, 3.1.1 and 5.0.

What a version lacks has its default: a 3.1.1 packet has NO_PROPERTIES and reason code 0. Nobody changes a packet; all
but the two frequent ones are frozen, because filling in a frozen record costs as much as all the rest of reading one.
"""

from dataclasses import dataclass
from enum import IntEnum

from meshwire.mqtt.properties import NO_PROPERTIES, Properties

__all__ = [
    "Auth",
    "ConnAck",
    "Connect",
    "Disconnect",
    "Packet",
    "PingReq",
    "PingResp",
    "ProtocolVersion",
    "PubAck",
    "PubComp",
    "PubRec",
    "PubRel",
    "Publish",
    "SubAck",
    "Subscribe",
    "TopicSubscription",
    "UnsubAck",
    "Unsubscribe",
    "Will",
]


class ProtocolVersion(IntEnum):
    """Protocol level octet of CONNECT."""

    V3_1 = 3
    V3_1_1 = 4
    V5 = 5


@dataclass(frozen=True, slots=True)
class Will:
    """The message a server publishes when the connection ends without DISCONNECT (MQTT 5.0 section 3.1.2.5)."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Connect:
    """MQTT 5.0 section 3.1. `clean_start` is 3.1.1's Clean Session; `keep_alive` is in seconds, 0 = none."""

    client_id: str
    version: ProtocolVersion = ProtocolVersion.V3_1_1
    clean_start: bool = True
    keep_alive: int = 0
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    properties: Properties = NO_PROPERTIES
    is_bridge: bool = False
    """Another broker asks, as Mosquitto marks it in 3.x: the highest bit of the protocol level."""


@dataclass(frozen=True, slots=True)
class ConnAck:
    """MQTT 5.0 section 3.2. In 3.1.1 `reason_code` is the return code 0 to 5."""

    session_present: bool = False
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(slots=True)
class Publish:
    """MQTT 5.0 section 3.3. `packet_id` is 0 at QoS 0. `topic` is empty only when a topic alias stands for it."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(slots=True)
class PubAck:
    """QoS 1 acknowledgement (MQTT 5.0 section 3.4)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class PubRec:
    """QoS 2, part 1 (MQTT 5.0 section 3.5)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class PubRel:
    """QoS 2, part 2 (MQTT 5.0 section 3.6)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class PubComp:
    """QoS 2, part 3 (MQTT 5.0 section 3.7)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class TopicSubscription:
    """One filter of a SUBSCRIBE with its options (MQTT 5.0 section 3.8.3.1)."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """MQTT 5.0 section 3.8."""

    packet_id: int
    subscriptions: tuple[TopicSubscription, ...]
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class SubAck:
    """MQTT 5.0 section 3.9; one reason code a filter, in order."""

    packet_id: int
    reason_codes: tuple[int, ...]
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """MQTT 5.0 section 3.10."""

    packet_id: int
    topic_filters: tuple[str, ...]
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """MQTT 5.0 section 3.11; 3.1.1 has no reason codes here."""

    packet_id: int
    reason_codes: tuple[int, ...] = ()
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class PingReq:
    """MQTT 5.0 section 3.12."""


@dataclass(frozen=True, slots=True)
class PingResp:
    """MQTT 5.0 section 3.13."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """MQTT 5.0 section 3.14; only a client sends it in 3.1.1."""

    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Auth:
    """MQTT 5.0 section 3.15."""

    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


Packet = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
