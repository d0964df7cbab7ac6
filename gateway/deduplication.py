"""Bounded memory of what came in: which request was answered how, which notification is stored already.

Both tables drop their oldest entry when they are full; a repetition that comes after that is stored twice, which
at-least-once allows and the idempotency key makes visible.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

__all__ = ["EXCHANGE_LIFETIME_S", "ExpiringTable"]

EXCHANGE_LIFETIME_S: Final = 247.0
"""For so long a message ID of one endpoint means the same message (RFC 7252 section 4.8.2)."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class ExpiringTable(Generic[KeyT, ValueT]):
    """A mapping whose entries end after `lifetime_s` or when there have been `max_entries` younger ones.

    It holds no objects of its own for an entry: the garbage collector would walk over all of them again and again.

    Args:
        lifetime_s: seconds from the last `put` of a key.
        max_entries: the oldest entry makes room.
    """

    def __init__(self, lifetime_s: float, max_entries: int) -> None:
        self._lifetime_s = lifetime_s
        self._max_entries = max_entries
        self._values: dict[KeyT, ValueT] = {}
        self._times: dict[KeyT, float] = {}
        self._order: deque[KeyT] = deque()
        """Every `put` in turn: finding the oldest key of a dictionary is slow once many in front of it are gone."""
        self._order_times: deque[float] = deque()

    def get(self, key: KeyT, now: float) -> ValueT | None:
        """The value, unless it has expired."""
        value = self._values.get(key)
        if value is None or now - self._times[key] > self._lifetime_s:
            return None
        return value

    def put(self, key: KeyT, value: ValueT, now: float) -> None:
        """Set a value; it becomes the youngest entry."""
        self._values[key] = value
        self._times[key] = now
        self._order.append(key)
        self._order_times.append(now)
        if len(self._order) > self._max_entries or now - self._order_times[0] > self._lifetime_s:
            self._make_room(now)

    def replace(self, key: KeyT, value: ValueT) -> None:
        """Set the value of a key that is still there; its age stays."""
        if key in self._values:
            self._values[key] = value

    def drop(self, key: KeyT) -> None:
        """Forget a key."""
        if self._values.pop(key, None) is not None:
            del self._times[key]

    def _make_room(self, now: float) -> None:
        """Drop what has expired, at most two a call so that no call takes long, and what is too much."""
        for _ in range(2):
            if not self._order or (
                now - self._order_times[0] <= self._lifetime_s and len(self._order) <= self._max_entries
            ):
                return
            oldest, put_at = self._order.popleft(), self._order_times.popleft()
            if self._times.get(oldest) == put_at:
                del self._values[oldest], self._times[oldest]

    def __len__(self) -> int:
        return len(self._values)
