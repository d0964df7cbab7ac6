"""What is published for a stored notification: categories, topics, QoS and properties. Pure but for the counters.

The message body is the board's payload, octet for octet. MQTT 5 subscribers also get the content type and, unless the
settings say no, the user properties `device`, `path`, `observe`, `time` (Unix seconds, UTC) and `key` (idempotency).
Where a rule asks for it, a reading is published once more, decoded, on a branch of its own; a payload that can't be
decoded has no such copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.decoders import Undecodable, decode, decoders_for
from gateway.envelope import StoredNotification, unpack
from gateway.mqtt import Publication
from gateway.rules import Rulebook
from gateway.segments import Record
from gateway.senml import SENML_CONTENT_TYPE, senml_json
from gateway.settings import BridgeSettings, CategoryRule
from gateway.statistics import Event, Statistics
from gateway.uplink import Origin, Route, Uplink
from meshwire.coap import options
from meshwire.identity import TenantId
from meshwire.mqtt import Properties, ProtocolVersion, publish_parts
from meshwire.mqtt.fields import encode_string, encode_variable_integer
from meshwire.notification import Category, Notification, device_type
from meshwire.topics import Branch, alert_topic, decoded_topic, read_topic

__all__ = ["PacketMaker", "Publisher", "categories_for", "content_type", "publication_parts", "user_properties"]

_TOPIC: Final = {Category.READ: read_topic, Category.ALERT: alert_topic}
_CONTENT_TYPES: Final = {
    options.TEXT: "text/plain;charset=utf-8",
    options.LINK_FORMAT: "application/link-format",
    options.OCTET_STREAM: "application/octet-stream",
    options.JSON: "application/json",
    options.CBOR: "application/cbor",
    options.SENML_JSON: SENML_CONTENT_TYPE,
    112: "application/senml+cbor",
}


def categories_for(kind: str, settings: BridgeSettings) -> tuple[Category, ...]:
    """The branches that a device type goes to."""
    rule = settings.categories.get(kind, settings.default_category)
    return tuple(Category) if rule is CategoryRule.BOTH else (Category(rule.value),)


def content_type(content_format: int | None) -> str | None:
    """The media type of a CoAP content format (RFC 7252 section 12.3); None when it is unknown."""
    return None if content_format is None else _CONTENT_TYPES.get(content_format)


def user_properties(notification: Notification) -> tuple[tuple[str, str], ...]:
    """What MQTT 5 subscribers get beside the payload."""
    return (
        ("device", notification.device.value),
        ("path", notification.path),
        ("observe", str(notification.observe)),
        ("time", f"{notification.time_s:.3f}"),
        ("key", notification.key),
    )


class Publisher:
    """Makes publications by the settings.

    Args:
        settings: categories, rules and decoders.
        statistics: decoded copies are counted here.
    """

    def __init__(self, settings: BridgeSettings, statistics: Statistics) -> None:
        self.settings = settings
        self.rules = Rulebook(settings)
        self._decoders = decoders_for(settings.decoders)
        self._statistics = statistics

    def publications(self, stored: StoredNotification) -> list[Publication]:
        """One message for each branch that the notification goes to."""
        notification = stored.notification
        kind = device_type(notification)
        categories = categories_for(kind, self.settings)
        messages = [
            self._publication(
                stored,
                kind,
                category.value,
                _TOPIC[category](stored.tenant, notification.device, kind),
                notification.payload,
                content_type(notification.content_format),
            )
            for category in categories
        ]
        if Category.READ in categories and self.decodes(stored.tenant.value, kind):
            messages += self.decoded(stored, kind)
        return messages

    def decodes(self, tenant: str, kind: str) -> bool:
        """Whether readings of a type are published decoded, too."""
        return self.rules.decodes(tenant, kind)

    def decoded(self, stored: StoredNotification, kind: str) -> list[Publication]:
        """The decoded copy; none where the payload can't be read."""
        decoder = self._decoders.get(kind)
        if decoder is None:
            self._statistics.count(Event.DECODED, "no-decoder")
            return []
        notification = stored.notification
        try:
            payload = senml_json(notification, decode(decoder, notification.payload))
        except Undecodable:
            self._statistics.count(Event.DECODED, "malformed")
            return []
        self._statistics.count(Event.DECODED, "made")
        topic = decoded_topic(stored.tenant, notification.device, kind)
        return [self._publication(stored, kind, Branch.DECODED.value, topic, payload, SENML_CONTENT_TYPE)]

    def _publication(
        self, stored: StoredNotification, kind: str, branch: str, topic: str, payload: bytes, described: str | None
    ) -> Publication:
        tenant = stored.tenant.value
        properties = user_properties(stored.notification) if self.settings.user_properties else ()
        level, retain = self.rules.qos(tenant, branch, kind), self.rules.retains(tenant, branch, kind)
        return Publication(topic, payload, level, retain, described, properties)


class PacketMaker:
    """PUBLISH packets for records of the outbox, each as the parts before and behind its packet identifier.

    A record that comes straight from the sink brings along what was read there; what is the same for all notifications
    of one resource is then encoded once. The packets are the same octets either way.
    """

    def __init__(self, settings: BridgeSettings, statistics: Statistics | None = None) -> None:
        self._settings = settings
        self._publisher = Publisher(settings, statistics or Statistics())

    def packets(self, record: Record, version: ProtocolVersion) -> list[tuple[bytes, bytes]]:
        """The packets of one record.

        Raises:
            EnvelopeError: the record is of no known form.
            PacketError: it holds what MQTT can't say.
        """
        companion = record.companion
        if isinstance(companion, Origin):
            kind = _usual_type(companion.uplink.payload)
            if kind is not None:
                return self._usual(record, companion.uplink, companion.tenant, kind, version)
        return [
            publication_parts(publication, version)
            for publication in self._publisher.publications(unpack(record.payload))
        ]

    def run(self, records: Sequence[Record], identifiers: bytes, version: ProtocolVersion) -> list[bytes]:
        """The packets of the records in front, as long as each becomes one, of QoS 1, and comes straight from the sink.

        See `gateway.bridge.Packets`.
        """
        packets: list[bytes] = []
        append, join, at = packets.append, b"".join, 0
        for record in records:
            companion = record[4]
            if not isinstance(companion, Origin):
                break
            uplink, tenant = companion
            route, observe, epoch, time, payload, _ = uplink
            shape = route.shape
            if (
                not isinstance(shape, _Shape)
                or not payload.startswith(shape.prefix)
                or (shape.lengths != (len(payload), len(observe)) or shape.epoch != epoch)
                or (shape.tenant != tenant or shape.version is not version)
                or not payload[3:].isascii()
            ):
                shape = route.shape = self._shape(uplink, tenant, version)
                if shape is None:
                    break
            packet_id = identifiers[at : at + 2]
            if shape.key:
                append(join((shape.head, packet_id, shape.begin, observe, _TIME, time, shape.key, observe, payload)))
            else:
                append(join((shape.head, packet_id, shape.begin, payload)))
            at += 2
        return packets

    def _shape(self, uplink: Uplink, tenant: str, version: ProtocolVersion) -> _Shape | None:
        """What is the same for all notifications like this one; None when they do not become one message of QoS 1."""
        _, observe, epoch, _, payload, _ = uplink
        kind = _usual_type(payload)
        form = None if kind is None else self._form(uplink.route, tenant, kind)
        if kind is None or form is None or form.is_decoded or len(form.heads) > 1 or form.heads[0][0] & 6 != 2:
            return None
        begin, key = _around(form, uplink) if version is ProtocolVersion.V5 else (b"", b"")
        length = len(begin)
        if key:
            length += 2 * len(observe) + len(_TIME) + len(uplink.time) + len(key)
        value = 4 + len(kind)
        prefix = payload[: value + (2 if payload[value] == _LONGER_TEXT else 1)]
        head = _head(form.heads[0], length + len(payload))
        return _Shape(prefix, (len(payload), len(observe)), epoch, tenant, version, head, begin, key)

    def _usual(
        self, record: Record, uplink: Uplink, tenant: str, kind: bytes, version: ProtocolVersion
    ) -> list[tuple[bytes, bytes]]:
        form = self._form(uplink.route, tenant, kind)
        tail = uplink.payload
        if version is ProtocolVersion.V5:
            begin, key = _around(form, uplink)
            varying = (uplink.observe, _TIME, uplink.time, key, uplink.observe) if key else ()
            tail = b"".join((begin, *varying, tail))
        packets = [(_head(head, len(tail)), tail) for head in form.heads]
        if form.is_decoded:
            decoded = self._publisher.decoded(unpack(record.payload), kind.decode())
            packets += [publication_parts(publication, version) for publication in decoded]
        return packets

    def _form(self, route: Route, tenant: str, kind: bytes) -> _Form:
        form = route.memo.get((tenant, kind))
        if not isinstance(form, _Form):
            form = self._make_form(route, tenant, kind)
            if len(route.memo) >= _MAX_FORMS:
                route.memo.clear()
            route.memo[tenant, kind] = form
        return form

    def _make_form(self, route: Route, tenant: str, kind: bytes) -> _Form:
        name = kind.decode()
        rules, categories = self._publisher.rules, categories_for(name, self._settings)
        heads = []
        for category in categories:
            topic = encode_string(_TOPIC[category](TenantId(tenant), route.device, name))
            level, retain = rules.qos(tenant, category.value, name), rules.retains(tenant, category.value, name)
            heads.append((0x30 | level << 1 | retain, len(topic) + (2 if level else 0), topic))
        is_decoded = Category.READ in categories and self._publisher.decodes(tenant, name)
        described = content_type(route.content_format)
        properties = b"" if described is None else b"\3" + encode_string(described)
        if not self._settings.user_properties:
            return _Form(heads, is_decoded, properties, True)
        for text, value in (("device", route.device.value), ("path", route.path)):
            properties += b"&" + encode_string(text) + encode_string(value)
        return _Form(heads, is_decoded, properties + b"&" + encode_string("observe"), False)


_MAX_FORMS: Final = 64
_TIME: Final = b"&\0\4time\0\x0e"
"""User property `time` with room for its 14 digits."""
_LONGER_TEXT: Final = 0x78
"""CBOR head of a text whose length stands in the next octet (RFC 8949 section 3)."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What the packets of one resource, tenant and device type have in common."""

    heads: list[tuple[int, int, bytes]]
    """For each branch: first octet, length of topic and packet identifier, topic."""
    is_decoded: bool
    properties: bytes
    """Without their length: up to the value of `observe`, or all there are."""
    is_brief: bool
    """Whether there are no user properties."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the packets have in common of notifications of one resource whose numbers and payload are as long."""

    prefix: bytes
    """Of the payload, up to its text."""
    lengths: tuple[int, int]
    """Of payload and Observe number."""
    epoch: bytes
    tenant: str
    version: ProtocolVersion
    head: bytes
    """PUBLISH up to the packet identifier."""
    begin: bytes
    """From there to the Observe number, or to the payload when there are no user properties."""
    key: bytes
    """From the time to the Observe number at the end of the key; empty when there are no user properties."""


def _around(form: _Form, uplink: Uplink) -> tuple[bytes, bytes]:
    """Properties up to the Observe number, and those between the time and the Observe number at the end of the key.

    Without user properties: all there are, and nothing.
    """
    if form.is_brief:
        return encode_variable_integer(len(form.properties)) + form.properties, b""
    observe, key = uplink.observe, uplink.key
    begin = b"%b\0%c" % (form.properties, len(observe))
    behind = b"&\0\3key%c%c%b" % (len(key) >> 8, len(key) & 0xFF, key[: len(key) - len(observe)])
    length = len(begin) + 2 * len(observe) + len(_TIME) + len(uplink.time) + len(behind)
    return encode_variable_integer(length) + begin, behind


def _head(head: tuple[int, int, bytes], tail_octets: int) -> bytes:
    """PUBLISH up to the packet identifier."""
    first, more, topic = head
    return b"%c%b%b" % (first, encode_variable_integer(tail_octets + more), topic)


def _usual_type(payload: bytes) -> bytes | None:
    """The device type of a record of exactly two short entries, `{0: type, 1: value}`; None: look closer."""
    if payload[:2] != b"\xa2\0" or len(payload) < 6:
        return None
    end = payload[2] - 0x60 + 3
    if not 3 < end <= 26 or payload[end : end + 1] != b"\1":
        return None
    head, length = payload[end + 1 : end + 2], len(payload) - end - 2
    if head == bytes((_LONGER_TEXT,)):
        if payload[end + 2 : end + 3] != bytes((length - 1 & 0xFF,)) or not 24 < length < 257:
            return None
    elif length > 23 or head != bytes((0x60 | length,)):
        return None
    return payload[3:end] if payload[3:].isascii() or _is_text(payload, end) else None


def _is_text(payload: bytes, end: int) -> bool:
    """Both texts are UTF-8: only then is the record one."""
    try:
        payload[3:end].decode()
        payload[end + (3 if payload[end + 1] == 0x78 else 2) :].decode()
    except UnicodeDecodeError:
        return False
    return True


def publication_parts(publication: Publication, version: ProtocolVersion) -> tuple[bytes, bytes]:
    """PUBLISH before and behind the packet identifier."""
    properties = Properties(content_type=publication.content_type, user_properties=publication.properties)
    return publish_parts(
        publication.topic, publication.payload, publication.qos, publication.retain, properties, version
    )
