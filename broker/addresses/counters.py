"""What one address counts, since the start of the broker."""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Plain numbers; read them at any time."""

    received: int = 0
    """Messages of senders."""
    delivered: int = 0
    """Acknowledged by a receiver, or written at QoS 0; of a topic: handed to a subscription."""
    redelivered: int = 0
    """Handed out again: the receiver went away or refused."""
    refused: int = 0
    """Acknowledged with a failure by a receiver."""
    expired: int = 0
    given_up: int = 0
    """Above the limit of deliveries, or rejected: moved to the dead-letter address, or dropped."""
    turned_away: Counter[str] = field(default_factory=Counter)
    """Not accepted from a sender, by outcome."""
