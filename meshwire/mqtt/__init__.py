"""Sans-IO codec of MQTT 3.1, 3.1.1 and 5.0 for both ends: `encode` a record, `PacketStream` for octets received. No
clock, no socket, no session.
"""

from meshwire.mqtt.decoder import Side
from meshwire.mqtt.encoder import encode, publish_parts
from meshwire.mqtt.errors import MqttError, PacketError
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
from meshwire.mqtt.properties import NO_PROPERTIES, PacketType, Place, Properties
from meshwire.mqtt.reasons import ReasonCode
from meshwire.mqtt.stream import PacketStream

__all__ = [
    "Auth",
    "ConnAck",
    "Connect",
    "Disconnect",
    "MqttError",
    "NO_PROPERTIES",
    "Packet",
    "PacketError",
    "PacketStream",
    "PacketType",
    "PingReq",
    "PingResp",
    "Place",
    "Properties",
    "ProtocolVersion",
    "PubAck",
    "PubComp",
    "PubRec",
    "PubRel",
    "Publish",
    "ReasonCode",
    "Side",
    "SubAck",
    "Subscribe",
    "TopicSubscription",
    "UnsubAck",
    "Unsubscribe",
    "Will",
    "encode",
    "publish_parts",
]
