"""One feed of live events for all who follow: numbered, kept for a while, bounded.

Followers read from one ring at their own pace, so a hundred of them cost the memory of one. Who has the number of the
last event goes on after it; who asks for what the ring no longer has, or for what another process has numbered, is told
so by a `Reset`; who reads so slowly that the ring overtakes it is told by a `Dropped`, and has to come again.
A follower sees its tenant's events and no other's; what belongs to no tenant is for administrators.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from meshwire.identity import DeviceId, TenantId

__all__ = ["KEPT", "Dropped", "Kind", "LiveEvent", "LiveFeed", "Reset", "Wanted"]

KEPT: Final = 8_192
"""Events that can be read again."""


class Kind(StrEnum):
    """What an event is about."""

    READING = "reading"
    """A notification has been stored."""
    DIRECT = "direct"
    """A reading that is not stored has been taken by its receivers, or its NIC has to keep it."""
    PRESENCE = "presence"
    """A NIC has come, gone, or has another address."""
    CONNECTION = "connection"
    """The broker, an instance, or a client's session has come or gone."""
    COMMAND = "command"
    """A step in a command's life."""
    ALARM = "alarm"
    """Something deserves attention, or does so no longer."""


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One event."""

    number: int
    """1 for the process's first, and so on without a gap."""
    kind: Kind
    tenant: TenantId | None
    """Whose it is; None: for administrators only."""
    device: DeviceId | None
    data: dict[str, Any]
    """Ready for JSON."""


@dataclass(frozen=True, slots=True)
class Reset:
    """What was between the last event that the follower has and now is not known any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The follower read too slowly; nothing comes after this."""

    missed: int
    """Events that it has not seen, those that are not for it included."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a follower may and wants to see.

    Args:
        tenant: whose events; None: everybody's, and those that are for administrators.
        kinds: which.
        device: only of this one; None: of all, and what is about none.
    """

    tenant: TenantId | None
    kinds: frozenset[Kind] = frozenset(Kind)
    device: DeviceId | None = None

    def has(self, event: LiveEvent) -> bool:
        """Whether the follower gets it."""
        return (
            event.kind in self.kinds
            and self.tenant in (None, event.tenant)
            and (self.device is None or event.device == self.device)
        )


class LiveFeed:
    """See the module. Belongs to one event loop.

    Args:
        kept: events that can be read again.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.epoch = secrets.token_hex(4)
        """Names this process's numbers."""
        self._ring: deque[LiveEvent] = deque(maxlen=kept)
        self._last = 0
        self._news = asyncio.Event()
        self._followed: Counter[Kind] = Counter()

    def is_followed(self, kind: Kind) -> bool:
        """Whether anybody wants events of a kind: what must be looked for is looked for only then."""
        return self._followed[kind] > 0

    def publish(self, kind: Kind, tenant: TenantId | None, device: DeviceId | None, data: dict[str, Any]) -> None:
        """An event has happened."""
        self._last += 1
        self._ring.append(LiveEvent(self._last, kind, tenant, device, data))
        news, self._news = self._news, asyncio.Event()
        news.set()

    def name(self, event: LiveEvent) -> str:
        """What a follower says it has seen last."""
        return f"{self.epoch}-{event.number}"

    async def follow(self, wanted: Wanted, last: str | None = None) -> AsyncGenerator[LiveEvent | Reset | Dropped]:
        """Events for a follower, as they come.

        Args:
            wanted: which.
            last: `name` of the last one that it has; None: what happens from now on.
        """
        after, reset = self._place(last)
        with self._following(wanted.kinds):
            if reset is not None:
                yield reset
            while True:
                news = self._news
                if self._last - after > len(self._ring):
                    yield Dropped(self._last - after)
                    return
                for event in self._since(after):
                    after = event.number
                    if wanted.has(event):
                        yield event
                        break
                else:
                    await news.wait()

    def _since(self, after: int) -> Iterator[LiveEvent]:
        """The events after a number, which the ring still has."""
        first = self._last - len(self._ring)
        return (self._ring[index] for index in range(after - first, len(self._ring)))

    def _place(self, last: str | None) -> tuple[int, Reset | None]:
        if last is None:
            return self._last, None
        epoch, _, number = last.partition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdigit() and len(number) < 16):
            return self._last, Reset("the gateway has started anew")
        after = min(int(number), self._last)
        if self._last - after > len(self._ring):
            return self._last, Reset("too long ago")
        return after, None

    @contextmanager
    def _following(self, kinds: frozenset[Kind]) -> Iterator[None]:
        self._followed.update(kinds)
        try:
            yield
        finally:
            self._followed.subtract(kinds)
