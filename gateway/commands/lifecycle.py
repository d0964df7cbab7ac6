"""The life of a command: one literal table (state, input) → next state, and the gate that looks it up. Pure.

What is not in the table can't happen and raises. A final state has no row. The laws that follow from it, and that the
tests walk through: nothing leaves a final state; `expired`, `cancelled` and `failed` by the gateway are reached only
from states in which no datagram has left; from `sent` on a command that may not be repeated never comes back.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

from gateway.commands.records import Change, Command, Event, State
from meshwire.coap import Message

__all__ = ["TRANSITIONS", "Input", "advance"]


class Input(Enum):
    """What can happen to a command."""

    QUEUE = auto()
    SEND = auto()
    ACKNOWLEDGE = auto()
    ANSWER = auto()
    EXPIRE = auto()
    """Its time is over, and nothing has left."""
    CANCEL = auto()
    RETRY = auto()
    """It was surely not executed (or may be repeated), and will be sent again."""
    REFUSE = auto()
    """It was surely not executed, and is given up."""
    LOSE = auto()
    """Sent, and nobody knows whether it was executed."""


TRANSITIONS: Final = {
    (State.ACCEPTED, Input.QUEUE): State.QUEUED,
    (State.ACCEPTED, Input.REFUSE): State.FAILED,
    (State.QUEUED, Input.SEND): State.SENT,
    (State.QUEUED, Input.EXPIRE): State.EXPIRED,
    (State.QUEUED, Input.CANCEL): State.CANCELLED,
    (State.QUEUED, Input.REFUSE): State.FAILED,
    (State.SENT, Input.ACKNOWLEDGE): State.DELIVERED,
    (State.SENT, Input.ANSWER): State.ANSWERED,
    (State.SENT, Input.EXPIRE): State.EXPIRED,
    (State.SENT, Input.RETRY): State.QUEUED,
    (State.SENT, Input.REFUSE): State.FAILED,
    (State.SENT, Input.LOSE): State.UNKNOWN,
    (State.DELIVERED, Input.ANSWER): State.ANSWERED,
    (State.DELIVERED, Input.RETRY): State.QUEUED,
    (State.DELIVERED, Input.REFUSE): State.FAILED,
    (State.DELIVERED, Input.LOSE): State.UNKNOWN,
}


def advance(
    command: Command,
    happening: Input,
    now_s: float,
    *,
    hop: str | None = None,
    reason: str | None = None,
    position: int | None = None,
    answer: Message | None = None,
) -> Change:
    """The command after a happening, and the event that tells of it.

    Raises:
        ValueError: the table has no such cell.
    """
    following = TRANSITIONS.get((command.state, happening))
    if following is None:
        raise ValueError(f"a command that is {command.state} can't {happening.name.lower()}")
    number = command.events + 1
    after = replace(command, state=following, events=number, attempts=command.attempts + (happening is Input.SEND))
    event = Event(following, now_s, number, hop, reason, position, answer)
    return Change(after, event)
