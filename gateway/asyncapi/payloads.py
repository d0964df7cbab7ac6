"""Messages of the AsyncAPI document: content type, schema of the payload, and the properties that come with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic import BaseModel

from gateway.commands.event_body import CommandEventBody
from gateway.commands.orders import OrderBody
from gateway.presence import OFFLINE, ONLINE, PresenceChange
from gateway.publication import user_properties
from gateway.senml import SENML_CONTENT_TYPE, SenmlRecord
from meshwire.identity import DeviceId
from meshwire.notification import TYPE_KEY, VALUE_KEY, Notification

__all__ = ["MESSAGES", "MessageKind"]

Schema = dict[str, Any]
JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"
OCTETS_SCHEMA: Final[Schema] = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class MessageKind:
    """One kind of message."""

    title: str
    summary: str
    content_type: str
    payload: Schema
    headers: Schema | None = None
    """MQTT 5 user properties; MQTT 3.1.1 does not carry them."""
    description: str = field(default="", kw_only=True)

    def as_document(self) -> Schema:
        """For `components/messages`."""
        document: Schema = {
            "title": self.title,
            "summary": self.summary,
            "contentType": self.content_type,
            "payload": self.payload,
        }
        if self.description:
            document["description"] = self.description
        if self.headers is not None:
            document["headers"] = self.headers
        return document


def _schema(model: type[BaseModel]) -> Schema:
    """JSON Schema of a model, in one piece: a reference into its definitions would lead nowhere in our document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        match value:
            case {"$ref": str(reference)}:
                return inlined(definitions[reference.rsplit("/", 1)[-1]])
            case dict():
                return {key: inlined(item) for key, item in value.items()}
            case list():
                return [inlined(item) for item in value]
        return value

    return cast(Schema, inlined(schema))


def _notification_headers() -> Schema:
    sample = Notification(DeviceId("0" * 16), "", 0, 0, None, b"", 0.0)
    names = [name for name, _ in user_properties(sample)]
    return {"type": "object", "required": names, "properties": {name: {"type": "string"} for name in names}}


_HEADERS: Final = _notification_headers()
_RECORD: Final[Schema] = {
    "type": "object",
    "required": [str(TYPE_KEY), str(VALUE_KEY)],
    "properties": {
        str(TYPE_KEY): {"type": "string", "description": "device type"},
        str(VALUE_KEY): {"type": "string", "description": "what is reported: text, or octets"},
    },
}

MESSAGES: Final[dict[str, MessageKind]] = {
    "deviceRecord": MessageKind(
        "Device record",
        "A board's notification in the usual form.",
        "application/cbor",
        _RECORD,
        _HEADERS,
        description="A CBOR map, octet for octet as the board sent it. Its keys are integers, in the schema text.",
    ),
    "boardPayload": MessageKind(
        "Payload of a board",
        "A board's notification in any other form.",
        OCTETS,
        OCTETS_SCHEMA,
        _HEADERS,
        description="Octet for octet; the MQTT 5 content type follows from the CoAP Content-Format, if known.",
    ),
    "senml": MessageKind(
        "Decoded reading",
        "A reading as SenML JSON (RFC 8428).",
        SENML_CONTENT_TYPE,
        {"type": "array", "minItems": 1, "items": _schema(SenmlRecord)},
        _HEADERS,
    ),
    "presence": MessageKind(
        "Presence",
        "Whether the device, or the gateway, is there; retained.",
        TEXT,
        {"type": "string", "enum": [ONLINE.decode(), OFFLINE.decode(), ""]},
        description="Empty: the device was removed, or moved to another tenant.",
    ),
    "presenceChange": MessageKind("Life-cycle event", "A device came or went.", JSON, _schema(PresenceChange)),
    "commandOrder": MessageKind("Order", "A command for a device.", JSON, _schema(OrderBody)),
    "commandEvent": MessageKind(
        "Event of a command", "What happened to a command; `final` is true once.", JSON, _schema(CommandEventBody)
    ),
    "anything": MessageKind("Any message", "What sender and receiver have agreed on.", OCTETS, OCTETS_SCHEMA),
    "controlRequest": MessageKind(
        "Request of an operator",
        "A command and its arguments.",
        JSON,
        {"type": "object", "required": ["command"], "properties": {"command": {"type": "string"}}},
    ),
    "controlAnswer": MessageKind("Answer to an operator", "The answer, or `error`.", JSON, {"type": "object"}),
    "figure": MessageKind("Figure", "A counter or state of the broker, retained.", TEXT, {"type": "string"}),
}
