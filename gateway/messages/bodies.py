"""Messages and consumers as JSON."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.messages.consumer import Held

__all__ = ["ConsumerAnswer", "MessageBody", "Messages", "NewConsumer", "PublishAnswer", "Settled", "Settling"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PublishAnswer(_Body):
    """What became of a message."""

    topic: str
    outcome: str
    """`taken`: as the address's type says; `sent`: QoS 0, nobody answers; `kept`: retained, nobody is there now."""


class MessageBody(_Body):
    """A message that was received."""

    id: int
    """Its number at the consumer."""
    topic: str
    qos: int
    retain: bool
    payload: str | None = None
    """Where it is text."""
    payloadHex: str | None = None
    """Where it is not."""
    contentType: str | None = None
    expiresIn: int | None = None
    """Seconds."""
    responseTopic: str | None = None
    correlation: str | None = None
    """Hexadecimal digits."""
    userProperties: list[tuple[str, str]] = []

    @classmethod
    def of(cls, held: Held) -> MessageBody:
        """The body of a message that a consumer holds."""
        message, properties = held.message, held.message.properties
        expiry, correlation = properties.message_expiry_interval, properties.correlation_data
        text = _text(message.payload)
        return cls(
            id=held.number,
            topic=message.topic,
            qos=message.qos,
            retain=message.retain,
            payload=text,
            payloadHex=message.payload.hex() if text is None else None,
            contentType=properties.content_type,
            expiresIn=None if expiry is None else max(0, expiry - int(time.monotonic() - held.arrived_s)),
            responseTopic=properties.response_topic,
            correlation=None if correlation is None else correlation.hex(),
            userProperties=list(properties.user_properties),
        )


def _text(payload: bytes) -> str | None:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each in "\n\r\t" for each in text) else None


class Messages(_Body):
    """Answer of a poll."""

    messages: list[MessageBody]
    dropped: int = 0
    """Messages of QoS 0 so far that the consumer had no room for."""


class NewConsumer(_Body):
    """Body of `POST /api/consumers`: `filter`, or `address`."""

    filter: str | None = Field(default=None, max_length=65_535)
    """Topic filter, such as `acme/read/#`; `$share/GROUP/` may stand in front."""
    address: str | None = Field(default=None, max_length=256)
    """Name of an address of the caller's tenant."""
    qos: Annotated[int, Field(ge=0, le=1)] = 1
    credit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Messages that it holds without their being acknowledged."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """With `keep`: the session at the broker that it takes up again."""
    keep: Annotated[int, Field(ge=0, le=30 * 86_400)] = 0
    """Seconds for which the broker keeps the session, and stores for it, when the consumer is gone."""


class ConsumerAnswer(_Body):
    """A consumer."""

    id: str
    filter: str
    credit: int
    idleS: float
    """It ends when nobody has fetched or acknowledged for so long, in seconds."""


class Settling(_Body):
    """Body of `POST …/acknowledge`; each list holds numbers of messages."""

    accepted: Annotated[list[int], Field(max_length=10_000)] = []
    refused: Annotated[list[int], Field(max_length=10_000)] = []
    """Another receiver of the address may have them."""
    unreadable: Annotated[list[int], Field(max_length=10_000)] = []
    """No receiver could use them: they are given up at once."""


class Settled(_Body):
    """How many of them the consumer held."""

    settled: int
