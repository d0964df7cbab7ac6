"""What brokers tell of themselves, as records; read from JSON at the edge."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AddressRow", "Browsed", "Client", "Listener", "PlanUse", "RoleRow", "TopicRow"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Client(_Record):
    """A connected client. None: the engine does not tell."""

    tenant: str | None
    client: str
    login: str
    """password, token or certificate; for RabbitMQ the name of the connection."""
    user: str
    address: str
    version: str
    """Of MQTT: 3.1, 3.1.1 or 5."""
    listener: str
    """mqtt, mqtts, ws or wss."""
    protection: str
    """plain, tls or mutual."""
    since: float
    """Unix time of its CONNECT."""
    received: int | None = None
    """PUBLISH packets of the client, on this connection."""
    sent: int | None = None
    """PUBLISH packets to it."""
    queued: int | None = None
    inflight: int | None = None
    subscriptions: list[str] = Field(default_factory=list)
    subscription_count: int | None = None

    @property
    def key(self) -> str:
        """Tells rows apart."""
        return f"{self.tenant} {self.login} {self.client}"


class TopicRow(_Record):
    """A topic in use."""

    topic: str
    messages: int
    """Since it was first seen; 0: nothing but a retained message is known of it."""
    last: float | None
    """Unix time of the newest message."""
    retained: bool


class AddressRow(_Record):
    """An address, its bounds, and what it holds and has counted."""

    tenant: str
    name: str
    type: str
    topic_filter: str
    filter: str | None = None
    min_ttl_s: int | None = None
    max_ttl_s: int | None = None
    max_messages: int = 50_000
    max_octets: int = 67_108_864
    max_waiting: int = 1_000
    max_deliveries: int = 10
    dead_letter: str | None = None
    expired_to: str | None = None
    senders: int = 0
    receivers: int | None = None
    received: int = 0
    delivered: int = 0
    refused: int = 0
    stored: int = 0
    bytes: int = 0
    handed_out: int = Field(default=0, alias="handed out")
    redelivered: int = 0
    expired: int = 0
    given_up: int = Field(default=0, alias="given up")

    @property
    def key(self) -> str:
        """Tells rows apart."""
        return f"{self.tenant} {self.name}"

    @property
    def is_competing(self) -> bool:
        """It holds messages that can be looked at."""
        return self.type in ("queue", "anycast")


class Browsed(_Record):
    """A message at an address, looked at and left there."""

    sequence: int
    topic: str
    payload: bytes
    qos: int
    attempts: int
    handed_out: bool
    expires_in_s: float | None = None
    content_type: str | None = None
    user_properties: list[tuple[str, str]] = Field(default_factory=list)


class PlanUse(_Record):
    """What a tenant may use, and uses; a bound that is None is none."""

    plan: dict[str, Any]
    connections: int
    queued_messages: int
    queued_octets: int
    addresses: int


class RoleRow(_Record):
    """A role; `{tenantId}` in its filters stands for the tenant. None: the engine does not tell."""

    name: str
    subscribe: list[str] | None = None
    publish: list[str] | None = None
    password_only: bool = False


class Listener(_Record):
    """Where a broker listens."""

    kind: str
    host: str
    port: int
