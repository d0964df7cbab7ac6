"""CONNECT: what it is judged by, in order, and what the answer says. Changes nothing. The login itself is asked of the
doorman by `Connection`, between `judge_connect` and `judge_login`.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from broker.accounts import Protection
from broker.aliases import OutgoingAliases
from broker.credentials import Refusal, RefusedLogin
from broker.engine import NEVER_EXPIRES
from broker.outlet import SessionKey
from broker.policy import Permissions
from broker.settings import Limits
from broker.surroundings import Surroundings
from broker.tenants import Plan, Tenant
from meshwire.identity import Principal
from meshwire.mqtt import NO_PROPERTIES, ConnAck, Connect, Properties, ProtocolVersion, ReasonCode, encode
from meshwire.mqtt.reasons import connect_return_code

__all__ = [
    "GrantedConnect",
    "RefusedConnect",
    "judge_connect",
    "judge_login",
    "keep_alive_s",
    "outgoing_aliases",
    "refusal_packet",
    "session_expiry_s",
    "welcome",
]

_V5: Final = ProtocolVersion.V5


@dataclass(frozen=True, slots=True)
class RefusedConnect:
    """Why a CONNECT is refused: the code the client gets and the cause the log and the counters get."""

    reason: ReasonCode
    cause: str
    words: str = ""
    """For the client, where MQTT 5 has room for them."""
    detail: str = ""
    """For the log; empty: the words."""


@dataclass(frozen=True, slots=True)
class GrantedConnect:
    """Who may connect, as what and to which session."""

    principal: Principal
    permissions: Permissions
    key: SessionKey


_LOGIN_REASONS: Final[dict[Refusal, ReasonCode]] = {
    Refusal.NO_CREDENTIALS: ReasonCode.NOT_AUTHORIZED,
    Refusal.UNKNOWN_USER: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    Refusal.WRONG_PASSWORD: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    Refusal.INVALID_TOKEN: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    Refusal.TOO_BUSY: ReasonCode.SERVER_BUSY,
    Refusal.KIND_NOT_ALLOWED: ReasonCode.NOT_AUTHORIZED,
    Refusal.UNFIT_CERTIFICATE: ReasonCode.NOT_AUTHORIZED,
}


def judge_connect(packet: Connect) -> RefusedConnect | None:
    """What can be said before the login."""
    if packet.properties.authentication_method is not None:
        return RefusedConnect(ReasonCode.BAD_AUTHENTICATION_METHOD, "enhanced-authentication")  # MQTT 5.0 section 4.12
    no_id = not packet.client_id
    if no_id and (packet.version is ProtocolVersion.V3_1 or (packet.version is not _V5 and not packet.clean_start)):
        return RefusedConnect(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "no-client-id")  # 3.1.1 [MQTT-3.1.3-8]
    return None


def judge_login(
    packet: Connect, login: Principal | RefusedLogin, protection: Protection, around: Surroundings
) -> GrantedConnect | RefusedConnect:
    """What there is to say after the login. An unknown user looks like a wrong password (MQTT 5.0 section 3.2.2.2)."""
    if isinstance(login, RefusedLogin):
        return RefusedConnect(_LOGIN_REASONS[login.cause], login.cause.value, detail=login.detail)
    words = around.accounts.refusal(login, protection)
    if words is not None:
        return RefusedConnect(ReasonCode.NOT_AUTHORIZED, "account-not-served", words)
    permissions, key = around.permissions_of(login), session_key(packet, login)
    limits, tenant = around.settings.limits, around.engine.tenants.of(login.tenant.value)
    refused = _judge_will(packet, permissions, limits, tenant.plan) or _judge_answer(packet, key, limits)
    if refused is None and not around.engine.is_connected(key):
        refused = _judge_plan(tenant)
    return refused or GrantedConnect(login, permissions, key)


def _judge_will(packet: Connect, permissions: Permissions, limits: Limits, plan: Plan) -> RefusedConnect | None:
    """A will is a message like any other: it must be allowed, and small enough, before the connection is taken."""
    will = packet.will
    if will is None:
        return None
    if will.topic.count("/") >= limits.max_topic_levels:
        return RefusedConnect(ReasonCode.TOPIC_NAME_INVALID, "will-topic-too-deep")
    if not permissions.may_publish(will.topic):
        return RefusedConnect(ReasonCode.NOT_AUTHORIZED, "will-not-allowed")
    most = plan.max_payload_octets
    if most is not None and len(will.payload) > most:
        words = f"will of {len(will.payload)} octets, the tenant's plan allows {most}"
        return RefusedConnect(ReasonCode.QUOTA_EXCEEDED, "will-above-plan", words)
    return None


def _judge_plan(tenant: Tenant) -> RefusedConnect | None:
    """Whether the tenant may have one more connection."""
    if tenant.has_room:
        return None
    words = f"the tenant's plan allows {tenant.plan.max_connections} connections"
    return RefusedConnect(ReasonCode.QUOTA_EXCEEDED, "connections-above-plan", words)


def _judge_answer(packet: Connect, key: SessionKey, limits: Limits) -> RefusedConnect | None:
    """Whether the client takes a CONNACK as long as ours would be ([MQTT-3.1.2-24])."""
    most = packet.properties.maximum_packet_size
    if most is None:
        return None
    expiry_s = min(session_expiry_s(packet), limits.max_session_expiry_s)
    if len(encode(welcome(packet, key, expiry_s, False, limits), packet.version)) <= most:
        return None
    return RefusedConnect(ReasonCode.PACKET_TOO_LARGE, "maximum-packet-size-too-small")


def refusal_packet(refused: RefusedConnect, version: ProtocolVersion) -> ConnAck:
    """CONNACK with the code of the version; session present is 0 ([MQTT-3.2.2-6])."""
    if version is not _V5:
        return ConnAck(False, connect_return_code(refused.reason))
    return ConnAck(False, refused.reason, Properties(reason_string=refused.words) if refused.words else NO_PROPERTIES)


def session_key(packet: Connect, principal: Principal) -> SessionKey:
    """The session of this client id within its tenant and kind of login; a missing client id gets a random one."""
    client_id = packet.client_id or f"auto-{secrets.token_hex(12)}"
    return SessionKey(principal.tenant.value, principal.kind, client_id)


def session_expiry_s(packet: Connect) -> int:
    """How long the client wants its session to outlive the connection; 3.1.1 knows only "not at all" and "for ever"."""
    if packet.version is _V5:
        return packet.properties.session_expiry_interval or 0
    return 0 if packet.clean_start else NEVER_EXPIRES


def keep_alive_s(packet: Connect, limits: Limits) -> int:
    """The keep-alive that holds; 0: none."""
    most = limits.max_keep_alive_s
    if packet.version is not _V5 or not most:
        return packet.keep_alive
    return min(packet.keep_alive, most) if packet.keep_alive else most


def outgoing_aliases(packet: Connect, limits: Limits) -> OutgoingAliases | None:
    """Topic aliases the client takes from us; None: it takes none."""
    most = min(packet.properties.topic_alias_maximum or 0, limits.outgoing_topic_aliases)
    return OutgoingAliases(most) if most else None


def welcome(packet: Connect, key: SessionKey, expiry_s: int, present: bool, limits: Limits) -> ConnAck:
    """The CONNACK of a taken connection; MQTT 5 clients are told each limit they would not assume."""
    if packet.version is ProtocolVersion.V3_1:
        return ConnAck()  # 3.1 has no session present flag
    if packet.version is not _V5:
        return ConnAck(present)
    keep_alive = keep_alive_s(packet, limits)
    wanted_expiry = packet.properties.session_expiry_interval or 0
    properties = Properties(
        session_expiry_interval=expiry_s if expiry_s != wanted_expiry else None,
        receive_maximum=limits.receive_maximum if limits.receive_maximum != 65_535 else None,
        maximum_packet_size=limits.max_packet_octets,
        assigned_client_identifier=None if packet.client_id else key.client_id,
        topic_alias_maximum=limits.topic_alias_maximum or None,
        server_keep_alive=keep_alive if keep_alive != packet.keep_alive else None,
    )
    return ConnAck(present, ReasonCode.SUCCESS, properties if properties != Properties() else NO_PROPERTIES)
