"""How the broker answers a request that was published to one of its `$CONTROL/…` topics: a JSON object to the response
topic, or to the request's own topic with `/response` behind it, with its correlation data.

A response topic that the asking client may not receive from itself is not used: nobody is to publish by asking.
"""

import json
from collections.abc import Mapping

from broker.message import Message
from broker.session import Session
from meshwire.mqtt import Properties

__all__ = ["reply"]


def reply(asked: Message, body: Mapping[str, object]) -> Message:
    """The answer to one request."""
    properties = Properties(content_type="application/json", correlation_data=asked.properties.correlation_data)
    wanted, asker = asked.properties.response_topic, asked.publisher
    is_heard = isinstance(asker, Session) and wanted is not None and asker.permissions.may_receive(wanted)
    topic = wanted if wanted is not None and is_heard else f"{asked.topic}/response"
    return Message(topic, json.dumps(body).encode(), min(asked.qos, 1), False, properties)
