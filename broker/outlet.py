"""What a session knows of the world: its own name, and the connection it writes to."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from meshwire.identity import LoginKind
from meshwire.mqtt import ProtocolVersion

__all__ = ["ConnectionFacts", "Outlet", "SessionKey"]


class SessionKey(NamedTuple):
    """What makes a session one client's own: equal client ids of two tenants, or of a token and a password, are two
    sessions.
    """

    tenant: str
    kind: LoginKind
    client_id: str


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What an operator wants to know of a connection."""

    user: str
    """Who logged in: a password user, or the party that a token or certificate names."""
    address: str
    """IP address it comes from."""
    listener: str
    """mqtt, mqtts, ws or wss."""
    protection: str
    """plain, tls or mutual."""
    since_s: float
    """Unix time of its CONNECT."""


class Outlet(Protocol):
    """The connection as a session sees it."""

    version: ProtocolVersion
    max_packet_octets: int
    """What the client accepts (Maximum Packet Size)."""
    receive_maximum: int
    """QoS 1 and 2 messages the client takes at once."""
    is_full: bool
    """The transport wants a pause: QoS 1 and 2 messages wait in the queue."""
    backlog_octets: int
    """Written and not yet taken by the network."""

    def write(self, data: bytes) -> None:
        """Takes the octets of one packet, to send in this loop turn."""

    def taken_over(self) -> None:
        """Another connection has the session now; this one ends."""

    def revoked(self) -> None:
        """The client may not be connected any more."""

    def kicked(self) -> None:
        """An operator ends the connection; the client may come back."""
