"""What is published for a stored notification: categories, topics and properties. Pure.

The message body is the board's payload, octet for octet. MQTT 5 subscribers also get the content type and the user
properties `device`, `path`, `observe`, `time` (Unix seconds, UTC) and `key` (idempotency).
"""

from __future__ import annotations

from typing import Final

from gateway.envelope import StoredNotification
from gateway.mqtt import Publication
from gateway.settings import BridgeSettings, CategoryRule
from meshwire.coap import options
from meshwire.notification import Category, device_type
from meshwire.topics import alert_topic, read_topic

__all__ = ["categories_for", "content_type", "publications"]

_TOPIC: Final = {Category.READ: read_topic, Category.ALERT: alert_topic}
_CONTENT_TYPES: Final = {
    options.TEXT: "text/plain;charset=utf-8",
    options.LINK_FORMAT: "application/link-format",
    options.OCTET_STREAM: "application/octet-stream",
    options.JSON: "application/json",
    options.CBOR: "application/cbor",
    options.SENML_JSON: "application/senml+json",
    112: "application/senml+cbor",
}


def categories_for(kind: str, settings: BridgeSettings) -> tuple[Category, ...]:
    """The branches that a device type goes to."""
    rule = settings.categories.get(kind, settings.default_category)
    return tuple(Category) if rule is CategoryRule.BOTH else (Category(rule.value),)


def content_type(content_format: int | None) -> str | None:
    """The media type of a CoAP content format (RFC 7252 section 12.3); None when it is unknown."""
    return None if content_format is None else _CONTENT_TYPES.get(content_format)


def publications(stored: StoredNotification, settings: BridgeSettings) -> list[Publication]:
    """One message for each branch that the notification goes to."""
    notification = stored.notification
    kind = device_type(notification)
    properties = (
        ("device", notification.device.value),
        ("path", notification.path),
        ("observe", str(notification.observe)),
        ("time", f"{notification.time_s:.3f}"),
        ("key", notification.key),
    )
    return [
        Publication(
            _TOPIC[category](stored.tenant, notification.device, kind),
            notification.payload,
            settings.default_message_qos.level,
            content_type=content_type(notification.content_format),
            properties=properties,
        )
        for category in categories_for(kind, settings)
    ]
