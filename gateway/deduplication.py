"""Bounded memory of what came in: which request was answered how, which notification is stored already.

Both tables drop their oldest entry when they are full; a repetition that comes after that is stored twice, which
at-least-once allows and the idempotency key makes visible.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

__all__ = ["EXCHANGE_LIFETIME_S", "ExpiringTable"]

EXCHANGE_LIFETIME_S: Final = 247.0
"""For so long a message ID of one endpoint means the same message (RFC 7252 section 4.8.2)."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class ExpiringTable(Generic[KeyT, ValueT]):
    """A mapping whose entries end after `lifetime_s` or when there are more than `max_entries`.

    Args:
        lifetime_s: seconds from the last `put` of a key.
        max_entries: the oldest entry makes room.
    """

    def __init__(self, lifetime_s: float, max_entries: int) -> None:
        self._lifetime_s = lifetime_s
        self._max_entries = max_entries
        self._entries: dict[KeyT, tuple[float, ValueT]] = {}

    def get(self, key: KeyT, now: float) -> ValueT | None:
        """The value, unless it has expired."""
        entry = self._entries.get(key)
        if entry is None or now - entry[0] > self._lifetime_s:
            return None
        return entry[1]

    def put(self, key: KeyT, value: ValueT, now: float) -> None:
        """Set a value; it becomes the youngest entry."""
        self._entries.pop(key, None)
        self._entries[key] = (now, value)
        self._make_room(now)

    def drop(self, key: KeyT) -> None:
        """Forget a key."""
        self._entries.pop(key, None)

    def _make_room(self, now: float) -> None:
        """Drop what has expired, at most two a call so that no call takes long, and what is too much."""
        for _ in range(2):
            oldest = next(iter(self._entries))
            put_at, _ = self._entries[oldest]
            if now - put_at <= self._lifetime_s and len(self._entries) <= self._max_entries:
                return
            del self._entries[oldest]

    def __len__(self) -> int:
        return len(self._entries)
