"""Settings of the broker: section `[broker]` and `[[broker.listener]]` of the configuration."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.client_certificates import CertificateRule
from broker.issuers import IssuerSettings
from broker.tenants import Plan
from meshwire.identity import LoginKind

__all__ = [
    "BrokerSettings",
    "Durability",
    "FullQueue",
    "InstanceSettings",
    "Limits",
    "ListenerKind",
    "ListenerSettings",
]


TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A tenant id as a key; one that no tenant can have would never be asked for."""


class FullQueue(StrEnum):
    """What gives way when a client's queue is full."""

    DISCARD_NEW = "discard-new"
    DISCARD_OLDEST = "discard-oldest"


class Durability(StrEnum):
    """When an acknowledgement leaves the broker."""

    FSYNC = "fsync"
    """After the change is on the disk: it survives a power failure."""
    OS = "os"
    """After the change is handed to the operating system: it survives the end of the broker, also by `kill -9`."""
    MEMORY = "memory"
    """At once; nothing survives the broker."""


class ListenerKind(StrEnum):
    """What is spoken on a listener's port."""

    MQTT = "mqtt"
    MQTTS = "mqtts"
    WS = "ws"
    WSS = "wss"


_PORTS: Final = {ListenerKind.MQTT: 1883, ListenerKind.MQTTS: 8883, ListenerKind.WS: 8083, ListenerKind.WSS: 8084}


class ListenerSettings(BaseModel):
    """One address to listen on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ListenerKind = ListenerKind.MQTT
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65_535)
    """Absent: 1883 (mqtt), 8883 (mqtts), 8083 (ws), 8084 (wss). 0: any free port; it is in `Broker.ports`."""
    authentication: tuple[LoginKind, ...] = (LoginKind.PASSWORD, LoginKind.TOKEN)
    """Ways to log in here: password, token, certificate."""
    certificate_file: Path | None = None
    """PEM, with intermediate certificates; for mqtts and wss. Read again when it changes."""
    key_file: Path | None = None
    """PEM; absent: it is in `certificate_file`."""
    client_ca_file: Path | None = None
    """PEM: who may sign client certificates."""
    enable_client_cert_validation: bool = False
    """Every client has to show a certificate signed by `client_ca_file`, whatever way it logs in (mutual TLS)."""
    certificate: CertificateRule = CertificateRule()
    """Who a client certificate stands for."""

    @property
    def is_tls(self) -> bool:
        return self.kind in (ListenerKind.MQTTS, ListenerKind.WSS)

    @property
    def is_websocket(self) -> bool:
        return self.kind in (ListenerKind.WS, ListenerKind.WSS)

    @property
    def effective_port(self) -> int:
        return _PORTS[self.kind] if self.port is None else self.port

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.authentication:
            raise ValueError("authentication must name at least one way to log in")
        if self.is_tls and self.certificate_file is None:
            raise ValueError(f"a listener of kind {self.kind} needs certificate_file")
        if not self.is_tls and (self.certificate_file or self.key_file or self.client_ca_file):
            raise ValueError(f"a listener of kind {self.kind} has no use for TLS files; say mqtts or wss")
        if self.enable_client_cert_validation and self.client_ca_file is None:
            raise ValueError("enable_client_cert_validation needs a listener of kind mqtts or wss with client_ca_file")
        if LoginKind.CERTIFICATE in self.authentication and self.client_ca_file is None:
            raise ValueError("login by certificate needs a listener of kind mqtts or wss with client_ca_file")
        return self


class Limits(BaseModel):
    """Bounds that keep one client from harming the others. Octets, seconds, counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_packet_octets: int = Field(default=1_048_576, ge=1_024, le=268_435_460)
    """Longest packet of an authenticated client, in whole; longer ones are refused at their header."""
    max_connect_octets: int = Field(default=262_144, ge=128)
    """Longest CONNECT: room for a client id of 65,535 octets, a long token and a will."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """From accepting a connection to its complete CONNECT."""
    unauthenticated_per_address: int = Field(default=1_000, ge=1)
    unauthenticated_total: int = Field(default=5_000, ge=1)
    """Connections without a complete CONNECT; above it the oldest ones are closed."""
    unauthenticated_octets: int = Field(default=67_108_864, ge=1_024)
    """What all of them may hold of CONNECTs that are not complete; above it the one that holds most is closed."""
    max_pending_logins: int = Field(default=256, ge=1)
    """Password checks waiting for a thread; above it a CONNECT is answered "server busy"."""
    max_queued_messages: int = Field(default=50_000, ge=1)
    """Messages waiting for one client over all its topics, in flight not counted."""
    max_queued_octets: int = Field(default=67_108_864, ge=1_024)
    """The same bound by size: octets of topic, payload and MQTT 5 properties; a user property counts 50 more."""
    when_queue_is_full: FullQueue = FullQueue.DISCARD_NEW
    max_inflight: int = Field(default=1_000, ge=1, le=65_535)
    """Unacknowledged QoS 1 and 2 messages to one client; MQTT 5 clients may ask for fewer (Receive Maximum)."""
    receive_maximum: int = Field(default=65_535, ge=1, le=65_535)
    """QoS 2 messages one client may have open towards us (MQTT 5)."""
    topic_alias_maximum: int = Field(default=64, ge=0, le=65_535)
    outgoing_topic_aliases: int = Field(default=64, ge=0, le=65_535)
    """Topics of one connection that are sent as an alias, where an MQTT 5 client takes that; 0: none."""
    qos0_backlog_octets: int = Field(default=1_048_576, ge=1)
    """Unsent octets to one client above which QoS 0 messages for it are dropped."""
    max_backlog_octets: int = Field(default=16_777_216, ge=1)
    """Unsent octets to one client above which it is disconnected."""
    slow_reader_timeout_s: float = Field(default=60.0, gt=0)
    """A client that takes nothing for so long while octets wait for it is disconnected."""
    max_session_expiry_s: int = Field(default=604_800, ge=0, le=0xFFFF_FFFF)
    """Longest life of a session without a connection (7 days); for 3.1.1 clients without Clean Session it *is* the
    life.
    """
    max_keep_alive_s: int = Field(default=0, ge=0, le=65_535)
    """Longest keep-alive granted (MQTT 5: Server Keep Alive); 0: whatever the client asks."""
    max_subscriptions: int = Field(default=10_000, ge=1)
    """Subscriptions of one session."""
    max_topic_levels: int = Field(default=200, ge=1, le=200)
    max_retained_messages: int = Field(default=100_000, ge=0)
    max_retained_octets: int = Field(default=268_435_456, ge=0)
    max_total_queued_octets: int = Field(default=1_073_741_824, ge=0)
    """All queues of all clients together, counted as for `max_queued_octets`."""
    max_uncommitted_octets: int = Field(default=33_554_432, ge=1)
    """Message octets that wait for the store; above it publishers are not read until it has caught up."""
    max_sessions: int = Field(default=100_000, ge=1)


class InstanceSettings(BaseModel):
    """`[broker.instance]`: the messaging service instance that this broker is, or is a node of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$")
    """With a name the broker announces itself, and serves only accounts that are assigned to it; empty: everybody."""
    node: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    """Tells the nodes of one instance apart; empty: host name and first port."""
    accounts_file: Path | None = None
    """Where it is said which accounts are served; absent: `messaging/accounts.json` in the state folder."""


class BrokerSettings(BaseModel):
    """Everything `meshwire broker` can be told. Paths that are absent stand for the site's own files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listener: tuple[ListenerSettings, ...] = (ListenerSettings(),)
    durability: Durability = Durability.FSYNC
    """fsync (an acknowledgement survives power loss), os (the end of the broker, also kill -9), memory (nothing)."""
    store_file: Path | None = None
    """Where sessions, queues and retained messages are kept; absent: `broker/store.sqlite` in the state folder."""
    users_file: Path | None = None
    """Users with argon2id hashes (JSON, mode 0600); absent: `broker/users.json` in the state folder."""
    roles_file: Path | None = None
    """Roles beside the built-in ones (JSON); absent: `broker/roles.json` in the state folder."""
    addresses_file: Path | None = None
    """Queues, topics, anycast and multicast addresses (JSON); absent: `broker/addresses.json` in the state folder."""
    jwks_file: Path | None = None
    """Public keys that verify tokens (RFC 7517); absent: the site's own key set."""
    issuer: tuple[IssuerSettings, ...] = ()
    """External identity providers."""
    default_token_roles: tuple[str, ...] = ()
    """Roles of a token without an `mqttScope` claim."""
    tenant_default_token_roles: dict[TenantName, tuple[str, ...]] = Field(default_factory=dict)
    """The same for single tenants; takes the place of `default_token_roles`."""
    default_plan: Plan = Plan()
    """Bounds of a tenant that is not named in `plan`."""
    plan: dict[TenantName, Plan] = Field(default_factory=dict)
    """Bounds of single tenants, `[broker.plan.TENANT]`."""
    hook: dict[str, dict[str, object]] = Field(default_factory=dict)
    """Hooks to load, `[broker.hook.NAME]`: NAME is an entry point of group `meshwire.broker.hooks`, the keys are the
    arguments of its factory.
    """
    instance: InstanceSettings = InstanceSettings()
    """Name within the messaging service."""
    sys_interval_s: float = Field(default=10.0, ge=0)
    """Time between updates of the `$SYS` topics; 0: none."""
    limits: Limits = Limits()
