"""What a command is: who ordered what for which device, how far it is, and what happened to it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from meshwire.coap import CON, Message, codes, options
from meshwire.identity import DeviceId, TenantId

__all__ = [
    "FINAL_STATES",
    "SAFE_METHODS",
    "Change",
    "Command",
    "CommandKey",
    "Event",
    "Group",
    "Mode",
    "Order",
    "Origin",
    "ReplyTo",
    "State",
    "resource_of",
    "target_text",
]

SAFE_METHODS: Final = frozenset({codes.GET, codes.FETCH})
"""Methods that change nothing (RFC 7252 section 5.1, RFC 8132 section 2): executing one twice does no harm."""


class Mode(StrEnum):
    """What happens when the device can't be reached: rejected at once, or kept until it returns."""

    DIRECT = "direct"
    STORED = "stored"


class State(StrEnum):
    """How far a command is. Each state is also the name of the event that tells of it."""

    ACCEPTED = "accepted"
    """Taken, and on disk."""
    QUEUED = "queued"
    """Waits for its turn or for the device."""
    SENT = "sent"
    """Said on disk before the first datagram leaves."""
    DELIVERED = "delivered"
    """The device's NIC has acknowledged it."""
    ANSWERED = "answered"
    """The device has answered, be it with an error of its own."""
    EXPIRED = "expired"
    """Its time was over before it was sent; it never reached the device."""
    CANCELLED = "cancelled"
    """Taken back, or replaced by a younger one, before it was sent."""
    FAILED = "failed"
    """A hop on the way refused it; it was not executed."""
    UNKNOWN = "unknown"
    """It was sent and no answer came: it may or may not have been executed, and is not sent again."""


FINAL_STATES: Final = frozenset({State.ANSWERED, State.EXPIRED, State.CANCELLED, State.FAILED, State.UNKNOWN})


@dataclass(frozen=True, slots=True, order=True)
class CommandKey:
    """What names a command: its id is unique for one device of one tenant."""

    tenant: TenantId
    mac: DeviceId
    id: str

    def __str__(self) -> str:
        return f"{self.mac}/{self.id}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who ordered, by which way: the audit part of a record."""

    via: str
    """coap, mqtt or http."""
    principal: str
    tenant: TenantId
    """The party's own; an administrator's differs from the device's."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """MQTT 5 request/response (section 4.10): where the client wants to hear of it, beside the scheme's own topic."""

    topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks for, checked for form."""

    mode: Mode
    request: Message
    """Method, path, query, other options and payload; type, message ID and token count for nothing."""
    ttl_s: float | None = None
    """Mandatory for stored commands."""
    id: str | None = None
    """The client's own; None: one is made."""
    replace: bool = False
    """Whether it takes the place of older waiting commands for the same resource."""
    idempotent: bool = False
    """Whether the client says that executing it twice does no harm, so that it may be sent again."""
    reply_to: ReplyTo = field(default_factory=ReplyTo)


@dataclass(frozen=True, slots=True)
class Command:
    """One command for one device."""

    key: CommandKey
    mode: Mode
    request: Message
    created_s: float
    """Unix seconds."""
    expires_s: float
    """Unix seconds; from then on nothing of it leaves the gateway."""
    origin: Origin
    rank: float
    """Place among the commands of its device: the lowest is next."""
    state: State = State.ACCEPTED
    idempotent: bool = False
    group: str | None = None
    reply_to: ReplyTo = field(default_factory=ReplyTo)
    attempts: int = 0
    """How often it was sent."""
    events: int = 0
    """How many events have told of it."""

    @property
    def may_repeat(self) -> bool:
        """Whether it may be sent again though it may have been executed."""
        return self.idempotent or self.request.code in SAFE_METHODS

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class Event:
    """One step in a command's life."""

    kind: State
    at_s: float
    """Unix seconds."""
    number: int
    """1 for the command's first, and so on without a gap."""
    hop: str | None = None
    """Where it failed: gateway, nic, board, or what a diagnostic payload names."""
    reason: str | None = None
    position: int | None = None
    """For queued: how many commands of the device come first."""
    answer: Message | None = None
    """For answered: code, options and payload."""


@dataclass(frozen=True, slots=True)
class Change:
    """A command as it is now, and the event that made it so (None: only its place has changed)."""

    command: Command
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Several devices commanded at once."""

    id: str
    tenant: TenantId
    created_s: float
    origin: Origin
    selector: str
    """In words, such as `tag=valves`."""


def resource_of(request: Message) -> tuple[int, tuple[bytes, ...]]:
    """What *replace older* compares: method and path. The query does not count: these boards take values in it."""
    return request.code, request.option_values(options.URI_PATH)


def target_text(request: Message) -> str:
    """`snsr/arduino/temp?cfg=C`, for people and JSON."""
    query = "&".join(request.query())
    return "/".join(request.path()) + (f"?{query}" if query else "")


def bare(code: int, pairs: tuple[tuple[int, bytes], ...], payload: bytes) -> Message:
    """A request or answer without what belongs to the message layer."""
    return Message(CON, code, 0, b"", pairs, payload)
