"""Counters of one broker: what went in and out, and what was turned away, by reason."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["Drop", "Ending", "Statistics"]


class Drop(StrEnum):
    """Why a message did not reach a client (or anybody)."""

    NO_SUBSCRIBER = "no-subscriber"
    PUBLISH_REFUSED = "publish-refused"
    RECEIVE_REFUSED = "receive-refused"
    QUEUE_FULL = "queue-full"
    TENANT_QUEUE_FULL = "tenant-queue-full"
    BROKER_FULL = "broker-full"
    PAYLOAD_ABOVE_PLAN = "payload-above-plan"
    QOS0_OFFLINE = "qos0-offline"
    QOS0_BACKLOG = "qos0-backlog"
    EXPIRED = "expired"
    TOO_LARGE_FOR_CLIENT = "too-large-for-client"
    SESSION_ENDED = "session-ended"
    RETAINED_FULL = "retained-full"
    REFUSED_BY_CLIENT = "refused-by-client"
    NO_RECEIVER = "no-receiver"
    ADDRESS_FULL = "address-full"
    ADDRESS_REMOVED = "address-removed"
    GIVEN_UP = "given-up"


_AT_BOUNDS: Final = (Drop.QUEUE_FULL, Drop.TENANT_QUEUE_FULL, Drop.BROKER_FULL, Drop.QOS0_BACKLOG)


class Ending(StrEnum):
    """Why a connection ended, where the network or the client did not simply end it."""

    PROTOCOL_ERROR = "protocol-error"
    CONNECT_TIMEOUT = "connect-timeout"
    KEEP_ALIVE = "keep-alive"
    TAKEN_OVER = "taken-over"
    LOGIN_REFUSED = "login-refused"
    LOGIN_EXPIRED = "login-expired"
    REVOKED = "revoked"
    ACCOUNT_NOT_SERVED = "account-not-served"
    KICKED = "kicked"
    SLOW_READER = "slow-reader"
    EVICTED = "evicted-unauthenticated"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal-error"


@dataclass(slots=True)
class Statistics:
    """Plain numbers; read them at any time, write them only from the event loop."""

    connections_accepted: int = 0
    connections_open: int = 0
    connects_received: int = 0
    """CONNECT packets, refused ones among them."""
    clients_connected: int = 0
    clients_maximum: int = 0
    """The most clients that were connected at once."""
    sessions_expired: int = 0
    packets_received: int = 0
    """Of every type."""
    packets_sent: int = 0
    octets_received: int = 0
    octets_sent: int = 0
    messages_received: list[int] = field(default_factory=lambda: [0, 0, 0])
    """PUBLISH packets taken, by QoS."""
    messages_sent: list[int] = field(default_factory=lambda: [0, 0, 0])
    """PUBLISH packets written, by QoS."""
    pauses: int = 0
    """How often a publisher was not read for a while: above its tenant's rate, or faster than the store."""
    payload_octets_received: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Of those PUBLISH packets, by QoS."""
    payload_octets_sent: list[int] = field(default_factory=lambda: [0, 0, 0])
    commits: int = 0
    """Transactions of the store."""
    drops: Counter[Drop] = field(default_factory=Counter)
    endings: Counter[Ending] = field(default_factory=Counter)
    protocol_errors: Counter[str] = field(default_factory=Counter)
    """By MQTT 5 reason code name."""
    logins_refused: Counter[str] = field(default_factory=Counter)
    """By cause."""
    roles_without_effect: int = 0
    """Roles that a login named and that granted nothing: unknown, or kept for password users."""
    subscriptions_refused: int = 0

    @property
    def dropped_at_bounds(self) -> int:
        """Messages that a subscriber did not get because too much waits already."""
        return sum(self.drops[reason] for reason in _AT_BOUNDS)

    def client_joined(self) -> None:
        """One more client is connected."""
        self.clients_connected += 1
        self.clients_maximum = max(self.clients_maximum, self.clients_connected)
