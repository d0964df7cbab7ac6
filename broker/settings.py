"""Settings of the broker: section `[broker]` and `[[broker.listener]]` of the configuration."""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BrokerSettings", "FullQueue", "Limits", "ListenerSettings"]


class FullQueue(StrEnum):
    """What gives way when a client's queue is full."""

    DISCARD_NEW = "discard-new"
    DISCARD_OLDEST = "discard-oldest"


class ListenerSettings(BaseModel):
    """One address to listen on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=0, le=65_535)
    """0: any free port; the one taken is in `Broker.ports`."""


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
    max_pending_logins: int = Field(default=256, ge=1)
    """Password checks waiting for a thread; above it a CONNECT is answered "server busy"."""
    max_queued_messages: int = Field(default=50_000, ge=1)
    """Messages waiting for one client over all its topics, in flight not counted."""
    max_queued_octets: int = Field(default=67_108_864, ge=1_024)
    """The same bound by size: topic and payload octets."""
    when_queue_is_full: FullQueue = FullQueue.DISCARD_NEW
    max_inflight: int = Field(default=1_000, ge=1, le=65_535)
    """Unacknowledged QoS 1 and 2 messages to one client; MQTT 5 clients may ask for fewer (Receive Maximum)."""
    receive_maximum: int = Field(default=65_535, ge=1, le=65_535)
    """QoS 2 messages one client may have open towards us (MQTT 5)."""
    topic_alias_maximum: int = Field(default=64, ge=0, le=65_535)
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
    max_sessions: int = Field(default=100_000, ge=1)


class BrokerSettings(BaseModel):
    """Everything `meshwire broker` can be told. Paths that are absent stand for the site's own files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listener: tuple[ListenerSettings, ...] = (ListenerSettings(),)
    users_file: Path | None = None
    """Users with argon2id hashes (JSON, mode 0600); absent: `broker/users.json` in the state folder."""
    jwks_file: Path | None = None
    """Public keys that verify tokens (RFC 7517); absent: the site's own key set."""
    default_token_roles: tuple[str, ...] = ()
    """Roles of a token without an `mqttScope` claim."""
    tenant_default_token_roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The same for single tenants; takes the place of `default_token_roles`."""
    sys_interval_s: float = Field(default=10.0, ge=0)
    """Time between updates of the `$SYS` topics; 0: none."""
    limits: Limits = Limits()
