"""What the gateway counts: events by name and, where an event has one, by reason.

Names are spelled here once, so that the status page, the logs and the tests speak of the same thing. Figures that
are states and not events (depth of the outbox, open sessions) are asked from their owners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import cast

__all__ = ["Event", "Statistics"]


class Event(StrEnum):
    """Everything that is counted."""

    DATAGRAM = "datagrams"
    """Received, by kind: sink, proxy."""
    MALFORMED = "malformed"
    """Datagrams that are no CoAP message, by reason of the codec; `internal`: our fault."""
    SEND_FAILED = "send_failed"
    """Datagrams that the system did not take, by errno name."""
    STORED = "stored"
    """Notifications taken into the outbox."""
    REGISTERED = "registered"
    """Address registrations of devices."""
    REFUSED = "refused"
    """Bubble-up requests and registrations refused, by reason."""
    DUPLICATE = "duplicates"
    """Repeated datagrams (`message-id`; of clients: `client`) and repeated notifications (`key`), answered again and
    not taken again."""
    PUBLISHED = "published"
    """Notifications that the broker has taken, each with all its messages."""
    DECODED = "decoded"
    """Decoded copies: `made`, or why there is none: `malformed`, `no-decoder`; the payload is published anyway."""
    LOST = "lost"
    """Notifications that were acknowledged to a NIC and never published, by reason."""
    BRIDGE = "bridge"
    """Life of the connection to the broker: connected, disconnected, failed."""
    WORKER = "workers"
    """Worker processes that have died and were started again."""
    SESSION = "sessions"
    """Opened, closed, expired, refused."""
    COMMAND = "commands"
    """Events of commands, by name; `refused` and `dropped` for orders that were not accepted."""
    PROXY = "proxy"
    """Answers given to clients, by response code."""
    HTTP = "http"
    """Answers of the HTTP API and the console, by status code."""
    HTTP_REFUSED = "http_refused"
    """HTTP requests refused by a bound: `address`, `account`, `login`, `body`, `streams`; `slow`: streams cut off."""


class Statistics:
    """Counters of one gateway. Reasons come from closed sets of the product, so the table stays small."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Event, str]] = Counter()

    def count(self, event: Event, reason: str = "", times: int = 1) -> None:
        """Count an event."""
        self._counts[event, reason] += times

    def total(self, event: Event, reason: str | None = None) -> int:
        """How often an event happened; with a reason: for that one."""
        if reason is not None:
            return self._counts[event, reason]
        return sum(times for (name, _), times in self._counts.items() if name is event)

    def by_reason(self, event: Event) -> Mapping[str, int]:
        """The event's counts by reason."""
        return {reason: times for (name, reason), times in self._counts.items() if name is event}

    def listed(self) -> list[tuple[str, str, int]]:
        """Every count as event, reason and times; `merged` takes it."""
        return [(event.value, reason, times) for (event, reason), times in self._counts.items()]

    def merged(self, *others: Iterable[Sequence[object]]) -> Statistics:
        """A copy with what other processes have counted (`listed`) added."""
        result = Statistics()
        result._counts = self._counts.copy()
        for other in others:
            for event, reason, times in other:
                result.count(Event(str(event)), str(reason), cast(int, times))
        return result

    def snapshot(self) -> dict[str, int | dict[str, int]]:
        """Everything, ready for JSON: a number for an event without reasons, else a mapping."""
        result: dict[str, int | dict[str, int]] = {}
        for event in Event:
            counts = dict(self.by_reason(event))
            result[event.value] = counts.get("", 0) if not counts.keys() - {""} else counts
        return result
