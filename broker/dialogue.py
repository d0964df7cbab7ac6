"""What each packet of a connected client asks of the engine, and the answer it gets.

Decides the acknowledgements and the order "policy first, then change"; raises PacketError for what the protocol
forbids. Does not read sockets, does not end connections: a DISCONNECT is reported through `on_disconnect`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from broker import message_log
from broker.addresses.outcome import Receipt
from broker.delivery import Answer
from broker.engine import Engine
from broker.message import Message
from broker.outlet import Outlet
from broker.session import Session
from broker.settings import Limits
from broker.statistics import Drop, Statistics
from meshwire.logs import tells_messages
from meshwire.mqtt import (
    NO_PROPERTIES,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    PacketStream,
    PingReq,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    encode,
)
from meshwire.mqtt.reasons import is_failure

__all__ = ["Dialogue"]

KNOWN_TOPICS_MAX: Final = 1_024
"""Decisions "may publish" remembered by one connection."""
LOGGED_TOPIC_MAX: Final = 256
"""Characters of a refused topic that go to the log."""
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBCOMP: Final = 0x70
"""First octets of the acknowledgements that are written without detour."""

_ACKNOWLEDGEMENTS: Final = {first: bytes((first, 2)) for first in (PUBACK, PUBREC, PUBCOMP)}
_PUBACK: Final = _ACKNOWLEDGEMENTS[PUBACK]

_V5: Final = ProtocolVersion.V5
_SUCCESS: Final = ReasonCode.SUCCESS
_ANSWER_PUBACK: Final = Answer.PUBACK

_log = structlog.get_logger()


class Dialogue:
    """One connected client.

    Args:
        engine: where messages and subscriptions go.
        session: the client's, attached to `outlet`.
        outlet: where answers go.
        limits: bounds.
        statistics: counters.
        on_disconnect: called with True when the will is to be published all the same.
        is_bridge: the client is another broker, whose own messages must not come back to it.
    """

    __slots__ = (
        "_aliases",
        "_engine",
        "_handlers",
        "_is_bridge",
        "_limits",
        "_on_disconnect",
        "_outlet",
        "_plan",
        "_session",
        "_speaks_v5",
        "_statistics",
        "has_published",
        "tenant",
    )

    def __init__(
        self,
        engine: Engine,
        session: Session,
        outlet: Outlet,
        limits: Limits,
        statistics: Statistics,
        on_disconnect: Callable[[bool], None],
        *,
        is_bridge: bool = False,
    ) -> None:
        self._engine = engine
        self._session = session
        self._outlet = outlet
        self._limits = limits
        self._statistics = statistics
        self._on_disconnect = on_disconnect
        self._is_bridge = is_bridge
        self._speaks_v5 = outlet.version is _V5
        self.tenant = session.tenant
        plan = session.tenant.plan
        has_bounds = plan.max_messages_per_s is not None or plan.max_payload_octets is not None
        self._plan = plan if has_bounds else None
        self._handlers = _TELLING_HANDLERS if tells_messages() else _HANDLERS
        self._aliases: dict[int, str] = {}
        self.has_published = False
        """Set by every PUBLISH, for whoever asks and takes it back."""

    def work(self, stream: PacketStream, now: float) -> None:
        """Works off every complete packet that the tenant's rate allows; the rest waits for the next call, which is due
        after `Engine.pause_s`. `now` is loop time in seconds. Raises PacketError.

        Whoever ends the connection meanwhile discards the stream.
        """
        taken, is_rated = 0, self.tenant.is_rated
        try:
            while (packet := stream.next_packet()) is not None:
                taken += 1
                handler = self._handlers.get(type(packet))
                if handler is None:
                    raise PacketError(ReasonCode.PROTOCOL_ERROR, "packet is not for a server")
                handler(self, packet, now)
                if is_rated and self.has_published and self.tenant.pause_s(now):
                    break  # one segment may hold thousands of messages, so the rate is asked after each of them
        finally:
            self._statistics.packets_received += taken

    def _send(self, packet: Packet) -> None:
        data = encode(packet, self._outlet.version)
        if len(data) > self._outlet.max_packet_octets:
            # [MQTT-3.1.2-24]; without an answer the client would wait for it
            raise PacketError(ReasonCode.PACKET_TOO_LARGE, "the client does not take so long an answer")
        self._outlet.write(data)

    # --- PUBLISH -----------------------------------------------------------------------------------------------------

    def _on_publish(self, packet: Publish, now: float) -> None:
        """QoS 0, 1 and 2 from the client (MQTT 5.0 section 4.3)."""
        qos, topic, properties = packet.qos, packet.topic, packet.properties
        session, expires_at = self._session, None
        self.has_published = True
        session.received += 1
        statistics = self._statistics
        statistics.messages_received[qos] += 1
        statistics.payload_octets_received[qos] += len(packet.payload)
        reason = ""
        if properties is not NO_PROPERTIES:
            if properties.topic_alias is not None:
                topic = self._resolve_alias(topic, properties.topic_alias)
                properties = replace(properties, topic_alias=None)
            if properties.message_expiry_interval is not None:
                expires_at = now + properties.message_expiry_interval
        if qos == 2 and self._is_repeated(packet.packet_id):
            self._acknowledge(PUBREC, packet.packet_id, _SUCCESS)  # [MQTT-4.3.3-10]: not published again
            return
        verdict = session.publishable.get(topic) or self._judge_publish(topic)
        if self._plan is not None and (reason := self._above_plan(packet)):
            verdict = ReasonCode.QUOTA_EXCEEDED
            self._engine.lost(session, topic, Drop.PAYLOAD_ABOVE_PLAN)
        elif verdict is not _GRANTED and verdict is not _ADDRESSED:
            self._engine.lost(session, topic, Drop.PUBLISH_REFUSED)
        else:
            engine = self._engine
            message = Message(topic, packet.payload, qos, packet.retain, properties, expires_at, session)
            engine.topics_seen.saw(topic, now)
            if verdict is _ADDRESSED:  # it answers, now or when it knows more
                receipt = Receipt(session, self._outlet, packet.packet_id, qos) if qos else None
                engine.offer(message, receipt, now)
                return
            if qos == 2:
                session.open_incoming(packet.packet_id)
            verdict = _SUCCESS if engine.publish(message, now) else ReasonCode.NO_MATCHING_SUBSCRIBERS
        if qos == 1 and verdict is _SUCCESS:
            self._outlet.write(_PUBACK + packet.packet_id.to_bytes(2, "big"))
        elif qos and not reason:
            self._acknowledge(PUBACK if qos == 1 else PUBREC, packet.packet_id, verdict)
        elif qos:
            self._refuse(packet, verdict, reason)

    def _tell_publish(self, packet: Publish, now: float) -> None:
        """The same with a line in the log."""
        alias = packet.properties.topic_alias
        topic = packet.topic or self._aliases.get(alias or 0, "")
        message_log.received(self._session.key, packet, topic[:LOGGED_TOPIC_MAX])
        self._on_publish(packet, now)

    def _above_plan(self, packet: Publish) -> str:
        """The tenant's plan: counts the message for its rate; says why it is refused, or an empty text."""
        tenant = self._session.tenant
        tenant.published()
        most = tenant.plan.max_payload_octets
        if most is None or len(packet.payload) <= most:
            return ""
        key = self._session.key
        _log.warning(
            "publish above plan", tenant=key.tenant, client_id=key.client_id, octets=len(packet.payload), most=most
        )
        return f"payload of {len(packet.payload)} octets, the tenant's plan allows {most}"

    def _refuse(self, packet: Publish, verdict: ReasonCode, reason: str) -> None:
        """The same as `_acknowledge` with words, for who can read them."""
        kind = PubAck if packet.qos == 1 else PubRec
        if self._speaks_v5 and self._session.may_explain:
            words = Properties(reason_string=reason)
            data = encode(kind(packet.packet_id, verdict, words), self._outlet.version)
            if len(data) <= self._outlet.max_packet_octets:  # [MQTT-3.4.2-2], [MQTT-3.5.2-2]
                self._outlet.write(data)
                return
        self._acknowledge(PUBACK if packet.qos == 1 else PUBREC, packet.packet_id, verdict)

    def _is_repeated(self, packet_id: int) -> bool:
        incoming = self._session.incoming
        if packet_id in incoming:
            return True
        if len(incoming) >= self._limits.receive_maximum:
            raise PacketError(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, "too many QoS 2 messages at once")
        return False

    def _resolve_alias(self, topic: str, alias: int) -> str:
        """MQTT 5.0 section 3.3.2.3.4."""
        if alias > self._limits.topic_alias_maximum:
            raise PacketError(ReasonCode.TOPIC_ALIAS_INVALID, "topic alias above the maximum")  # [MQTT-3.3.2-9]
        if topic:
            self._aliases[alias] = topic
            return topic
        known = self._aliases.get(alias)
        if known is None:
            raise PacketError(ReasonCode.PROTOCOL_ERROR, "topic alias without a topic")
        return known

    def _judge_publish(self, topic: str) -> ReasonCode:
        """The policy's answer, remembered; the first refusal of a topic is worth a line for the operator."""
        if topic.count("/") >= self._limits.max_topic_levels:
            verdict = ReasonCode.TOPIC_NAME_INVALID
        elif self._session.permissions.may_publish(topic):
            verdict = _ADDRESSED if self._engine.is_addressed(topic) else _GRANTED
        else:
            verdict = ReasonCode.NOT_AUTHORIZED
        if verdict is not _GRANTED and verdict is not _ADDRESSED:
            key, text = self._session.key, topic[:LOGGED_TOPIC_MAX]
            _log.warning("publish refused", tenant=key.tenant, client_id=key.client_id, topic=text, code=verdict)
        known = self._session.publishable
        if len(known) >= KNOWN_TOPICS_MAX:
            known.clear()
        known[topic] = verdict
        return verdict

    def _acknowledge(self, first: int, packet_id: int, reason: ReasonCode) -> None:
        """MQTT 3.x has no word for "refused": there the message is acknowledged and dropped (3.1.1 [MQTT-3.3.5-2]).

        Five octets at most, which every client takes: one that does not take our longer CONNACK is not connected.
        """
        if reason and self._speaks_v5:
            self._outlet.write(b"%c\x03%c%c%c" % (first, packet_id >> 8, packet_id & 0xFF, reason))
        else:
            self._outlet.write(_ACKNOWLEDGEMENTS[first] + packet_id.to_bytes(2, "big"))

    def _on_pubrel(self, packet: PubRel, _now: float) -> None:
        known = self._session.close_incoming(packet.packet_id)
        reason = _SUCCESS if known else ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        self._acknowledge(PUBCOMP, packet.packet_id, reason)

    def _on_puback(self, packet: PubAck, now: float) -> None:
        if packet.reason_code >= 0x80:  # spelled out: this is asked for every message
            self._session.refuse(packet.packet_id, packet.reason_code, now)
            return
        self._session.acknowledge(packet.packet_id, _ANSWER_PUBACK, now)

    def _on_pubrec(self, packet: PubRec, now: float) -> None:
        answer = Answer.PUBREC_FAILURE if is_failure(packet.reason_code) else Answer.PUBREC
        if not self._session.acknowledge(packet.packet_id, answer, now) and answer is Answer.PUBREC:
            self._send(PubRel(packet.packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))

    def _on_pubcomp(self, packet: PubComp, now: float) -> None:
        self._session.acknowledge(packet.packet_id, Answer.PUBCOMP, now)

    # --- SUBSCRIBE and the rest --------------------------------------------------------------------------------------

    def _on_subscribe(self, packet: Subscribe, now: float) -> None:
        identifiers = packet.properties.subscription_identifiers
        wanted = packet.subscriptions
        if self._is_bridge:
            wanted = tuple(replace(item, no_local=True, retain_as_published=True) for item in wanted)
        result = self._engine.subscriptions.subscribe(self._session, wanted, identifiers[0] if identifiers else 0)
        key = self._session.key
        for item, code in zip(wanted, result.codes, strict=True):
            if is_failure(code):
                text = item.topic_filter[:LOGGED_TOPIC_MAX]
                _log.warning("subscribe refused", tenant=key.tenant, client_id=key.client_id, filter=text, code=code)
        codes = result.codes
        if not self._speaks_v5:
            codes = tuple(0x80 if is_failure(code) else code for code in codes)
        self._send(SubAck(packet.packet_id, codes))
        self._engine.send_retained(self._session, result.retained_for, now)

    def _on_unsubscribe(self, packet: Unsubscribe, _now: float) -> None:
        codes = self._engine.subscriptions.unsubscribe(self._session, packet.topic_filters)
        self._send(UnsubAck(packet.packet_id, codes))

    def _on_pingreq(self, _packet: PingReq, _now: float) -> None:
        self._outlet.write(b"\xd0\x00")

    def _on_disconnect_packet(self, packet: Disconnect, _now: float) -> None:
        """[MQTT-3.14.4-3]: a normal DISCONNECT discards the will. It may change the session's expiry (3.14.2.2.2)."""
        expiry = packet.properties.session_expiry_interval
        if expiry is not None:
            if expiry and not self._session.expiry_s:
                raise PacketError(ReasonCode.PROTOCOL_ERROR, "session expiry was zero")
            self._session.expiry_s = min(expiry, self._limits.max_session_expiry_s)
        self._on_disconnect(packet.reason_code != _SUCCESS)

    def _on_second_connect(self, _packet: Connect, _now: float) -> None:
        raise PacketError(ReasonCode.PROTOCOL_ERROR, "second CONNECT")  # [MQTT-3.1.0-2]

    def _on_auth(self, _packet: Auth, _now: float) -> None:
        raise PacketError(ReasonCode.PROTOCOL_ERROR, "AUTH without an authentication method")  # section 4.12


_GRANTED: Final = ReasonCode.GRANTED_QOS_2
"""Stands for "yes" among remembered decisions: SUCCESS is zero, which a look-up can't tell from nothing."""
_ADDRESSED: Final = ReasonCode.GRANTED_QOS_1
"""The same for a topic that belongs to an address."""

_HANDLERS: Final[dict[type, Callable[..., None]]] = {
    Publish: Dialogue._on_publish,
    PubAck: Dialogue._on_puback,
    PubRec: Dialogue._on_pubrec,
    PubRel: Dialogue._on_pubrel,
    PubComp: Dialogue._on_pubcomp,
    Subscribe: Dialogue._on_subscribe,
    Unsubscribe: Dialogue._on_unsubscribe,
    PingReq: Dialogue._on_pingreq,
    Disconnect: Dialogue._on_disconnect_packet,
    Connect: Dialogue._on_second_connect,
    Auth: Dialogue._on_auth,
}
"""Every packet a client may send; `PacketStream` of a server lets no others through."""
_TELLING_HANDLERS: Final[dict[type, Callable[..., None]]] = {**_HANDLERS, Publish: Dialogue._tell_publish}
