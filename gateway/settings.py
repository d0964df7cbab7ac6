"""The gateway's settings: names, defaults, units and ranges of the sections `[gateway]` and below."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.addresses import Address, parse_endpoint
from gateway.aliases.records import (
    AliasSettings,
    KeystoreSettings,
    PackageSettings,
    TriggerSettings,
    TruststoreSettings,
)
from gateway.api_settings import ApiSettings
from gateway.broker_tls.settings import BridgeTlsSettings
from gateway.decoders import DecoderSettings
from meshwire.identity import Role

__all__ = [
    "BridgeSettings",
    "BrokerEngine",
    "CategoryRule",
    "CommandSettings",
    "DirectSettings",
    "Durability",
    "GatewaySettings",
    "MessageRule",
    "NicOscore",
    "OperationsSettings",
    "OscoreSettings",
    "OutboxSettings",
    "PresenceSettings",
    "ProxySettings",
    "Qos",
    "RegistrySettings",
    "SessionSettings",
    "TlsSettings",
]

Port = Annotated[int, Field(ge=0, le=65_535)]


class Qos(StrEnum):
    """MQTT quality of service by the names that deployments use."""

    AT_MOST_ONCE = "AT_MOST_ONCE"
    AT_LEAST_ONCE = "AT_LEAST_ONCE"
    EXACTLY_ONCE = "EXACTLY_ONCE"

    @property
    def level(self) -> int:
        """0, 1 or 2 (MQTT 5.0 section 4.3)."""
        return (Qos.AT_MOST_ONCE, Qos.AT_LEAST_ONCE, Qos.EXACTLY_ONCE).index(self)


class CategoryRule(StrEnum):
    """Which branch of the topic tree a device type goes to."""

    READ = "read"
    ALERT = "alert"
    BOTH = "both"


class Durability(StrEnum):
    """What a stored notification survives: power loss, the end of the process, nothing."""

    FSYNC = "fsync"
    OS = "os"
    MEMORY = "memory"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class RuleCategory(StrEnum):
    """Branch of the topic tree that a rule is about."""

    READ = "read"
    ALERT = "alert"
    DECODED = "decoded"


class MessageRule(_Section):
    """`[[gateway.bridge.rules]]`: QoS, retained last value and decoded copy for some notifications.

    A rule fits what has all that it names; for each setting the first rule that fits and has it decides.
    """

    type: str | None = None
    """Device type, the last level of the topic; none: any."""
    category: RuleCategory | None = None
    """read, alert or decoded; none: any."""
    tenant: str | None = None
    """Tenant; none: any."""
    qos: Qos | None = None
    """AT_MOST_ONCE, AT_LEAST_ONCE or EXACTLY_ONCE."""
    retain: bool | None = None
    """Whether the broker keeps the last message of the topic for later subscribers."""
    decoded: bool | None = None
    """Whether a copy as SenML JSON is published on {tenant}/decoded/{mac}/{type}; of readings, not of alarms."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.qos is None and self.retain is None and self.decoded is None:
            raise ValueError("a rule needs qos, retain or decoded")
        if self.decoded is not None and self.category is not None:
            raise ValueError("decoded goes by type and tenant; write it into a rule without category")
        return self


class BridgeSettings(_Section):
    """`[gateway.bridge]`: from the outbox to MQTT."""

    enabled: bool = True
    """Whether notifications are published; without it they are only stored."""
    host: str = "127.0.0.1"
    """Host name or address of the MQTT broker."""
    port: Port = 1883
    """TCP port of the MQTT broker."""
    username: str = "gateway"
    """User name towards the broker."""
    password_file: Path | None = None
    """File with the password; without it the site's secret `gateway-mqtt` is used."""
    default_message_qos: Qos = Qos.AT_LEAST_ONCE
    """AT_MOST_ONCE, AT_LEAST_ONCE or EXACTLY_ONCE."""
    default_category: CategoryRule = CategoryRule.READ
    """Branch for device types that `categories` does not name: read, alert or both."""
    categories: dict[str, CategoryRule] = Field(default_factory=dict)
    """Branch by device type, such as { lnic = "alert", ncmth1 = "both" }."""
    rules: list[MessageRule] = Field(default_factory=list)
    """QoS, retained last value and decoded copy by type, category or tenant."""
    decoders: list[DecoderSettings] = Field(default_factory=list)
    """How payloads are read for decoded copies; temp, ncmth1 and lnic are built in."""
    user_properties: bool = True
    """Whether MQTT 5 messages carry `device`, `path`, `observe`, `time` and `key`: some 190 octets each."""
    workers: int = Field(default=1, ge=1, le=25)
    """Processes that take in and publish notifications, each with an outbox; 1: the gateway's own process."""
    client_number: int = Field(default=1, ge=0)
    """Tells several gateways at one broker apart; part of the MQTT client id."""
    window: int = Field(default=20, ge=1, le=1000)
    """Messages under way to the broker at once; Mosquitto takes 20 by default."""
    acknowledge_timeout_s: float = Field(default=10.0, gt=0)
    """The connection is given up when the broker acknowledges nothing for so long, in seconds."""
    keepalive_s: int = Field(default=15, ge=5)
    """MQTT keep alive in seconds."""
    tls: BridgeTlsSettings = Field(default_factory=BridgeTlsSettings)

    @property
    def scheme(self) -> str:
        """mqtt or mqtts."""
        return "mqtts" if self.tls.enabled else "mqtt"


class BrokerEngine(StrEnum):
    """Who made the broker."""

    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"
    RABBITMQ = "rabbitmq"


class OperationsSettings(_Section):
    """`[gateway.operations]`: how the broker is asked about itself."""

    engine: BrokerEngine = BrokerEngine.EMBEDDED
    """embedded, mosquitto or rabbitmq."""
    username: str = ""
    """Who asks: a user with role OPERATOR, one of RabbitMQ with the tag administrator; empty: the bridge's own."""
    password_file: Path | None = None
    """File with its password."""
    url: str = "http://127.0.0.1:15672"
    """Of RabbitMQ's management plugin."""


class OutboxSettings(_Section):
    """`[gateway.outbox]`: the store between NICs and broker."""

    durability: Durability = Durability.FSYNC
    """fsync (survives power loss), os (survives the end of the process), memory."""
    max_octets: int = Field(default=256 << 20, ge=4096)
    """Most octets of notifications waiting; beyond it NICs are asked to come back later."""
    segment_octets: int = Field(default=4 << 20, ge=1024)
    """A file of the log is closed when it is this long, and removed when all it holds is published."""
    history_octets: int = Field(default=16 << 20, ge=0)
    """So much of what is published is kept on disk, so that `meshwire explain` can tell of it; 0: nothing."""
    retry_after_s: int = Field(default=10, ge=1)
    """Max-Age of the 5.03 that a NIC gets while the outbox is full, in seconds."""


class DirectSettings(_Section):
    """`[gateway.direct]`: readings that are not stored; without a receiver the NIC is told to keep them (5.03)."""

    tenants: list[str] = Field(default_factory=list)
    """Tenants whose readings are direct; those of all others, and all alarms, are stored in the outbox first."""
    timeout_s: float = Field(default=5.0, gt=0)
    """Longest wait for a receiver's acknowledgement, in seconds."""
    retry_after_s: int = Field(default=30, ge=1)
    """Max-Age of the 5.03, in seconds: when the NIC tries again."""
    max_waiting: int = Field(default=1_000, ge=1, le=60_000)
    """Readings at once whose acknowledgement has not come; beyond it NICs are told to keep theirs."""


class SessionSettings(_Section):
    """`[gateway.sessions]`: CoAP sessions of client applications."""

    lifetime_s: float = Field(default=4 * 3600.0, gt=0)
    """A session ends after so many seconds, or with its token."""
    max_per_account: int = Field(default=10, ge=1)
    """Open sessions of one account; a further one closes the oldest."""


class ProxySettings(_Section):
    """`[gateway.proxy]`: requests to devices."""

    timeout_s: float = Field(default=30.0, gt=0)
    """How long a device may take to answer, in seconds."""
    empty_ack_s: float = Field(default=1.5, gt=0)
    """A client gets an empty acknowledgement when the answer takes longer, in seconds."""
    write_roles: list[str] = Field(default_factory=lambda: [Role.COMMAND_CLIENT.value, Role.ADMIN.value])
    """Whoever has one of these roles may PUT, POST, PATCH and DELETE (others: 4.03); empty: everybody of the tenant."""
    cache_octets: int = Field(default=16 << 20, ge=0)
    """Memory for answers that devices allow to be kept (Max-Age, ETag); 0: none is."""
    max_body_octets: int = Field(default=256 << 10, ge=1024)
    """Longest body of a block-wise transfer."""
    max_bodies_octets: int = Field(default=16 << 20, ge=1024)
    """All bodies of block-wise transfers with clients together."""
    max_under_way: int = Field(default=16, ge=1)
    """Requests to one device that it has not acknowledged yet; further ones wait."""
    max_observers: int = Field(default=10_000, ge=0)
    """Observations of all clients at once; a further request to observe is answered once, without Observe."""


class TlsSettings(_Section):
    """`[gateway.tls]`: CoAP over TLS (coaps+tcp) for clients; served when there is a certificate."""

    certificate_file: Path | None = None
    """PEM file with the certificate chain."""
    key_file: Path | None = None
    """PEM file with its key; default: in the certificate's file."""
    listen: list[str] = Field(default_factory=lambda: ["127.0.0.1", "::1"])
    """IP addresses to listen on."""
    port: Port = 5684
    """TCP port, the same on every address; 0 lets the system choose."""


class NicOscore(StrEnum):
    """How NICs and gateway protect what they say to each other."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class OscoreSettings(_Section):
    """`[[gateway.oscore]]`: one client that speaks OSCORE, and whom it stands for."""

    name: str = Field(min_length=1)
    """How the client is called in logs."""
    folder: Path
    """Security context in aiocoap's format: secret.json, settings.json; sequence.json is written there."""
    tenant: str
    """Tenant of the client."""
    roles: list[str] = Field(default_factory=lambda: [Role.COMMAND_CLIENT.value])
    """What it may do."""


class PresenceSettings(_Section):
    """`[gateway.presence]`: online and offline by registration."""

    interval_s: float = Field(default=60.0, gt=0)
    """How often a device registers when it does not say so itself (`lt=`), in seconds."""
    missed: int = Field(default=3, ge=1)
    """A device is offline after so many registrations have not come."""


class RegistrySettings(_Section):
    """`[gateway.registry]`: where tenants, devices and accounts are stored."""

    url: str = ""
    """postgresql://USER@HOST:PORT/NAME, or sqlite:///FILE; empty: `gateway/registry.db` in the state folder."""
    password_file: Path | None = None
    """File with the password of the PostgreSQL user."""
    audit_days: int = Field(default=400, ge=1)
    """Lines of the audit log are kept for so long."""
    max_devices: int = Field(default=0, ge=0)
    """Most devices of a tenant that has no bound of its own (`meshwire tenant set --max-devices`); 0: any number."""


class CommandSettings(_Section):
    """`[gateway.commands]`: commands that can wait."""

    max_ttl_s: float = Field(default=30 * 86_400.0, gt=0)
    """Longest life that a command may be given, in seconds."""
    direct_ttl_s: float = Field(default=30.0, gt=0)
    """Life of a direct command that names none, in seconds."""
    keep_s: float = Field(default=7 * 86_400.0, ge=0)
    """How long a command that has ended is remembered, in seconds; so long its id means this command."""
    max_waiting: int = Field(default=100_000, ge=1)
    """Most commands that have not ended, of all devices."""
    max_waiting_per_device: int = Field(default=1000, ge=1)
    """Most commands that wait for one device."""
    max_payload_octets: int = Field(default=256 << 10, ge=1024)
    """Longest payload of a command; above 1024 it goes in blocks."""
    max_payloads_octets: int = Field(default=256 << 20, ge=1024)
    """All payloads above 1024 octets of the commands that are remembered; equal ones count once."""


class MessageSettings(_Section):
    """`[gateway.messages]`: MQTT messages over HTTP."""

    max_consumers: int = Field(default=1000, ge=0)
    """Consumers at once, polls and event streams included."""
    max_consumers_per_tenant: int = Field(default=100, ge=0)
    """The same, of one tenant."""
    idle_s: float = Field(default=60.0, gt=0)
    """A consumer ends when nobody has fetched or acknowledged for so long, in seconds."""


class GatewaySettings(_Section):
    """`[gateway]`."""

    listen: list[str] = Field(default_factory=lambda: ["127.0.0.1", "::1"])
    """IP addresses to listen on for CoAP over plain UDP; beyond loopback: see `allow_plain_beyond_loopback`."""
    allow_plain_beyond_loopback: bool = False
    """Whether plain UDP may be used beyond this machine, where tokens and readings can be read on the way."""
    port: Port = 5683
    """UDP port for CoAP, the same on every address; 0 lets the system choose."""
    http: str = "127.0.0.1:8080"
    """HOST:PORT of the HTTP API; port 0 lets the system choose, an empty text switches it off."""
    domains: list[str] = Field(default_factory=list)
    """Domains of device host names (SSN<mac>.<domain>); none: any domain is accepted."""
    receive_buffer_octets: int = Field(default=4 << 20, ge=65_536)
    """Receive buffer of the CoAP socket; the system's default holds 256 small datagrams."""
    instance: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$")
    """Messaging service instance that this gateway belongs to: devices of accounts that are not assigned to it are
    refused; empty: nobody is."""
    bridge: BridgeSettings = Field(default_factory=BridgeSettings)
    operations: OperationsSettings = Field(default_factory=OperationsSettings)
    outbox: OutboxSettings = Field(default_factory=OutboxSettings)
    direct: DirectSettings = Field(default_factory=DirectSettings)
    sessions: SessionSettings = Field(default_factory=SessionSettings)
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    presence: PresenceSettings = Field(default_factory=PresenceSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    oscore: list[OscoreSettings] = Field(default_factory=list)
    nic_oscore: NicOscore = NicOscore.OFF
    """OSCORE between NICs and the gateway, in both directions: off: keys of NICs are not used; optional: a device that
    has a key must use it, others speak in plain; required: nobody speaks in plain."""
    alias: list[AliasSettings] = Field(default_factory=list)
    """MQTT connection aliases, beside those made by command; see docs/reference/aliases.md."""
    trigger: list[TriggerSettings] = Field(default_factory=list)
    """Named subscriptions bound to an alias."""
    package: list[PackageSettings] = Field(default_factory=list)
    """Packages beside WmRoot, which is always on."""
    truststore: list[TruststoreSettings] = Field(default_factory=list)
    """Authorities that sign the certificates of brokers, under names."""
    keystore: list[KeystoreSettings] = Field(default_factory=list)
    """Client keys and certificates, under names."""
    api: ApiSettings = Field(default_factory=ApiSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    commands: CommandSettings = Field(default_factory=CommandSettings)
    messages: MessageSettings = Field(default_factory=MessageSettings)

    @field_validator("http")
    @classmethod
    def _http_is_an_endpoint(cls, value: str) -> str:
        if value:
            parse_endpoint(value)
        return value

    @field_validator("listen")
    @classmethod
    def _listens_somewhere(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("at least one address is needed")
        return value

    @model_validator(mode="after")
    def _stays_on_loopback(self) -> Self:
        if self.allow_plain_beyond_loopback:
            return self
        for host in self.listen:
            if not Address(host, 0).is_loopback:
                raise ValueError(
                    f"listen has {host}, which others can reach: plain UDP carries tokens and readings in the clear. "
                    "Listen on loopback and let clients come by TLS (gateway.tls) or OSCORE, or set "
                    "allow_plain_beyond_loopback = true where the network itself is protected"
                )
        return self
