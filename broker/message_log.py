"""A line for each PUBLISH that a client sends, at DEBUG: its `key` or `id` is the gateway's. Whoever calls asks
`meshwire.logs.tells_messages` first.
"""

import structlog

from broker.outlet import SessionKey
from meshwire.mqtt import Publish
from meshwire.topics import Branch, parse_topic

__all__ = ["received"]

_log = structlog.get_logger(__name__)


def received(session: SessionKey, packet: Publish, topic: str) -> None:
    """A client has sent a message; whether it may is told elsewhere.

    Args:
        session: whose.
        packet: as it came.
        topic: its topic, an alias resolved.
    """
    fields = {"tenant": session.tenant, "client_id": session.client_id, "topic": topic}
    place = parse_topic(topic)
    if place is not None:
        fields |= {"tenant": place.tenant.value, "mac": place.mac.value}
        if place.branch is Branch.COMMAND:
            fields["id"] = place.rest[-1]
    fields |= {name: value for name, value in packet.properties.user_properties if name == "key"}
    _log.debug("message received", qos=packet.qos, octets=len(packet.payload), **fields)
