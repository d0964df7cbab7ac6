"""One Observation: its states, what can happen to it, what is known of it, and its line in the table. Pure values.

The transition table is here; who looks it up, and when, is `observations`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final

__all__ = [
    "TOKEN_OCTETS",
    "TRANSITIONS",
    "Delivery",
    "Input",
    "Key",
    "LossReason",
    "Observation",
    "ObservationRow",
    "State",
    "Verdict",
    "row_of",
]

TOKEN_OCTETS: Final = 4
"""An Observation keeps its token for life; a board takes at most 8 octets."""

Key = tuple[str, str | None]
"""Outward path without leading slash, and query."""


class Delivery(StrEnum):
    """Where the notifications of one Observation go."""

    MQTT = "mqtt"
    """To the gateway as bubble-up data, and to CoAP clients that asked by themselves."""
    COAP = "coap"
    """To CoAP clients only; the registration stands all the same, so that they are served at once."""
    BOTH = "both"
    """As `mqtt`, said explicitly."""

    @property
    def bubbles_up(self) -> bool:
        return self is not Delivery.COAP


class State(StrEnum):
    """Where an Observation stands."""

    WAITING = "waiting"
    """Not registered with the board; will be."""
    ACTIVE = "active"
    REFUSED = "refused"
    """The board answered with an error, or without Observe option; asked again now and then."""
    CANCELLED = "cancelled"
    """Ended by a person, or because nobody is interested any more."""


class Input(Enum):
    """What can happen to an Observation."""

    REGISTERED = 1
    REFUSED = 2
    FAILED = 3
    NOTIFIED = 4
    ENDED = 5
    LOST = 6
    EXPIRED = 7
    CANCEL = 8
    RENEW = 9


class LossReason(StrEnum):
    """Why a registration does not, or did not, hold."""

    NIC_START = "nic-start"
    REBOOT = "board-reboot"
    UNNOTICED_REBOOT = "board-reboot-unnoticed"
    LINK_LOST = "link-lost"
    EXPIRED = "max-age-expired"
    ERROR_NOTIFICATION = "error-notification"
    NO_OBSERVE_OPTION = "no-observe-option"
    ERROR_RESPONSE = "error-response"
    NO_ANSWER = "no-answer"
    CANCELLED = "cancelled"
    RENEWED = "renewed"


_W, _A, _R, _C = State.WAITING, State.ACTIVE, State.REFUSED, State.CANCELLED
_I = Input
TRANSITIONS: Final[dict[tuple[State, Input], State]] = {
    # A notification is taken in any state but does not make a registration: what comes while waiting is of the old one.
    (_W, _I.REGISTERED): _A, (_A, _I.REGISTERED): _A, (_R, _I.REGISTERED): _A, (_C, _I.REGISTERED): _C,
    (_W, _I.REFUSED): _R,    (_A, _I.REFUSED): _R,    (_R, _I.REFUSED): _R,    (_C, _I.REFUSED): _C,
    (_W, _I.FAILED): _W,     (_A, _I.FAILED): _W,     (_R, _I.FAILED): _W,     (_C, _I.FAILED): _C,
    (_W, _I.NOTIFIED): _W,   (_A, _I.NOTIFIED): _A,   (_R, _I.NOTIFIED): _R,   (_C, _I.NOTIFIED): _C,
    (_W, _I.ENDED): _W,      (_A, _I.ENDED): _W,      (_R, _I.ENDED): _R,      (_C, _I.ENDED): _C,
    (_W, _I.LOST): _W,       (_A, _I.LOST): _W,       (_R, _I.LOST): _W,       (_C, _I.LOST): _C,
    (_W, _I.EXPIRED): _W,    (_A, _I.EXPIRED): _W,    (_R, _I.EXPIRED): _W,    (_C, _I.EXPIRED): _C,
    (_W, _I.CANCEL): _C,     (_A, _I.CANCEL): _C,     (_R, _I.CANCEL): _C,     (_C, _I.CANCEL): _C,
    (_W, _I.RENEW): _W,      (_A, _I.RENEW): _W,      (_R, _I.RENEW): _W,      (_C, _I.RENEW): _W,
}  # fmt: skip


class Verdict(Enum):
    """What a notification is."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    STALE = "stale"
    ENDED = "ended"
    """The board ended the registration with it."""
    UNKNOWN = "unknown"
    """Its token belongs to nothing here."""


@dataclass(slots=True)
class Observation:
    """One observed resource. Times are seconds of the caller's clock."""

    path: str
    """As the network sees it, without leading slash: `snsr/arduino/temp`."""
    query: str | None
    token: bytes
    delivery: Delivery = Delivery.MQTT
    configured: bool = True
    """False: exists only while a CoAP client is interested."""
    epoch: int = 0
    """Counts registrations; part of each notification's key."""
    sequence: int | None = None
    """Observe number of the newest representation; what is not newer is not handed on."""
    sequence_at_s: float = 0.0
    heard_at_s: float = 0.0
    """When the board last spoke of this resource: a notification or the answer to a registration."""
    state: State = State.WAITING
    since_s: float = 0.0
    due_s: float = 0.0
    """When to register (waiting), or to register again (active, refused)."""
    failures: int = 0
    notified_since_registration: bool = True
    floor_s: float = 0.0
    """Shortest time to wait for a notification, learned from the board."""
    unregister_due: bool = False
    clients: int = 0
    notifications: int = 0
    registrations: int = 0
    duplicates: int = 0
    stale: int = 0
    losses: Counter[LossReason] = field(default_factory=Counter)
    last_loss: LossReason | None = None
    last_loss_at_s: float = 0.0
    last_detail: str = ""

    @property
    def key(self) -> Key:
        return (self.path, self.query)

    @property
    def text(self) -> str:
        """Path and query as people write them."""
        return self.path if self.query is None else f"{self.path}?{self.query}"


@dataclass(frozen=True, slots=True)
class ObservationRow:
    """One line of the observation table (OB07)."""

    path: str
    query: str | None
    state: State
    delivery: Delivery
    configured: bool
    clients: int
    age_s: float
    """Seconds in this state."""
    epoch: int
    last_sequence: int | None
    last_notification_age_s: float | None
    notifications: int
    registrations: int
    duplicates: int
    stale: int
    next_refresh_s: float | None
    """Seconds until it is registered again if nothing is heard; None: never."""
    last_loss: LossReason | None
    last_loss_age_s: float | None
    last_detail: str
    losses: dict[LossReason, int]


def row_of(item: Observation, now: float) -> ObservationRow:
    """The line of the table for one Observation."""
    return ObservationRow(
        path=item.path,
        query=item.query,
        state=item.state,
        delivery=item.delivery,
        configured=item.configured,
        clients=item.clients,
        age_s=round(now - item.since_s, 3),
        epoch=item.epoch,
        last_sequence=item.sequence,
        last_notification_age_s=None if item.sequence is None else round(now - item.sequence_at_s, 3),
        notifications=item.notifications,
        registrations=item.registrations,
        duplicates=item.duplicates,
        stale=item.stale,
        next_refresh_s=None if item.state is State.CANCELLED else round(max(0.0, item.due_s - now), 3),
        last_loss=item.last_loss,
        last_loss_age_s=None if item.last_loss is None else round(now - item.last_loss_at_s, 3),
        last_detail=item.last_detail,
        losses=dict(item.losses),
    )
