"""One message on its way to one client, and the literal table of its steps (MQTT 5.0 section 4.3)."""

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final, Protocol

from broker.message import Message

__all__ = ["STEPS", "Answer", "Delivery", "Lease", "Step"]


class Step(IntEnum):
    """Where a delivery stands. Steps and answers are whole numbers because these hash without a detour."""

    AWAIT_PUBACK = auto()
    AWAIT_PUBREC = auto()
    AWAIT_PUBCOMP = auto()
    DONE = auto()


class Answer(IntEnum):
    """What a client said about a delivery."""

    PUBACK = auto()
    PUBREC = auto()
    PUBREC_FAILURE = auto()
    PUBCOMP = auto()


STEPS: Final[dict[tuple[Step, Answer], Step]] = {
    (Step.AWAIT_PUBACK, Answer.PUBACK): Step.DONE,
    (Step.AWAIT_PUBREC, Answer.PUBREC): Step.AWAIT_PUBCOMP,
    (Step.AWAIT_PUBREC, Answer.PUBREC_FAILURE): Step.DONE,
    (Step.AWAIT_PUBCOMP, Answer.PUBREC): Step.AWAIT_PUBCOMP,  # our PUBREL is repeated
    (Step.AWAIT_PUBCOMP, Answer.PUBCOMP): Step.DONE,
}
"""What is not here is a protocol error of the client."""


class Lease(Protocol):
    """Who owns a message that a session only carries: an address. A session does not keep such a message for a client
    that is away, nor is the delivery stored.
    """

    def taken(self, now: float) -> None:
        """The client acknowledged it, or it was written at QoS 0."""

    def refused(self, reason: int, now: float) -> None:
        """The client acknowledged it with a failure (MQTT 5.0 section 3.4.2.1)."""

    def returned(self) -> None:
        """The client went away, or can't be given it."""


@dataclass(slots=True)
class Delivery:
    """One message for one client."""

    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    step: Step = Step.DONE
    packet_id: int = 0
    """0 while it waits."""
    number: int = 0
    """Its key in the store; 0: not stored. Numbers rise in the order of delivery."""
    lease: Lease | None = None
    """Of the address it comes from; None: the session owns it."""
