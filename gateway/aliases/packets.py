"""Which notifications an alias publishes, and as what: its rules applied to records of the outbox. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from gateway.aliases.records import PublishRule
from gateway.aliases.templates import fill
from gateway.envelope import StoredNotification, unpack
from gateway.publication import categories_for, content_type, user_properties
from gateway.segments import Record
from gateway.settings import BridgeSettings
from meshwire.mqtt import Properties, ProtocolVersion, publish_parts
from meshwire.notification import Category, device_type
from meshwire.topics import topic_level

__all__ = ["AliasPackets"]


class AliasPackets:
    """See the module's text.

    Args:
        rules: the first one that fits decides.
        settings: the bridge's, which say to which category a device type belongs.
    """

    def __init__(self, rules: Sequence[PublishRule], settings: BridgeSettings) -> None:
        self._rules = tuple(rules)
        self._settings = settings

    @property
    def has_rules(self) -> bool:
        """Whether anything is published at all."""
        return bool(self._rules)

    @property
    def takes_all(self) -> bool:
        """Whether there is no need to look into a notification."""
        return any((rule.tenant, rule.category, rule.type) == ("*", "*", "*") for rule in self._rules)

    def wants(self, stored: StoredNotification) -> bool:
        """Whether the alias publishes this notification."""
        return next(self._chosen(stored), None) is not None

    def packets(self, record: Record, version: ProtocolVersion) -> list[tuple[bytes, bytes]]:
        """See `gateway.bridge.Packets`; raises EnvelopeError or MqttError."""
        stored = unpack(record.payload)
        notification = stored.notification
        described = content_type(notification.content_format)
        properties = Properties(content_type=described, user_properties=user_properties(notification))
        return [
            publish_parts(
                self._topic(rule, category, stored), notification.payload, rule.qos, rule.retained, properties, version
            )
            for category, rule in self._chosen(stored)
        ]

    def run(self, records: Sequence[Record], identifiers: bytes, version: ProtocolVersion) -> list[bytes]:
        """See `gateway.bridge.Packets`; every record is looked at."""
        return []

    def _chosen(self, stored: StoredNotification) -> Iterator[tuple[Category, PublishRule]]:
        kind, tenant = device_type(stored.notification), stored.tenant.value
        for category in categories_for(kind, self._settings):
            for rule in self._rules:
                if (
                    rule.tenant in ("*", tenant)
                    and rule.category in ("*", category.value)
                    and fnmatchcase(kind, rule.type)
                ):
                    yield category, rule
                    break

    def _topic(self, rule: PublishRule, category: Category, stored: StoredNotification) -> str:
        notification = stored.notification
        path = "/".join(topic_level(part) for part in notification.path.strip("/").split("/"))
        values = {
            "tenant": stored.tenant.value,
            "category": category.value,
            "mac": notification.device.value,
            "type": topic_level(device_type(notification)),
            "path": path,
        }
        return fill(rule.topic, values)
