"""Bounded memory of what came in: which request was answered how, which notification is stored already.

Both tables forget the oldest when they are full; a repetition that comes after that is stored twice, which
at-least-once allows and the idempotency key makes visible.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Container, Iterable, Sequence
from itertools import repeat
from typing import Final, Generic, TypeVar

__all__ = ["EXCHANGE_LIFETIME_S", "KEYS_A_DEVICE", "KEY_DEVICES", "ExpiringTable", "RecentKeys"]

EXCHANGE_LIFETIME_S: Final = 247.0
"""For so long a message ID of one endpoint means the same message (RFC 7252 section 4.8.2)."""
KEYS_A_DEVICE: Final = 64
"""Of its latest notifications. A NIC sends one after the other, and repeats the one whose answer it has not seen."""
KEY_DEVICES: Final = 100_000
"""So many devices are remembered at least, and twice as many at most: 0.7 KB each."""
_DIGEST: Final = struct.Struct("=q")
_MAC_OCTETS: Final = 16
"""A key begins with the device's MAC as text."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class ExpiringTable(Generic[KeyT, ValueT]):
    """A mapping whose entries end after `lifetime_s` or when there have been `max_entries` younger ones.

    Args:
        lifetime_s: seconds from the last `put` of a key.
        max_entries: the oldest entry makes room.
    """

    def __init__(self, lifetime_s: float, max_entries: int) -> None:
        self._lifetime_s = lifetime_s
        self._max_entries = max_entries
        self._entries: dict[KeyT, tuple[float, ValueT]] = {}
        """Time and value: tuples of what holds nothing else, which the garbage collector soon leaves alone."""
        self._order: deque[KeyT] = deque()
        """Every `put` in turn: finding the oldest key of a dictionary is slow once many in front of it are gone."""
        self._order_times: deque[float] = deque()

    def get(self, key: KeyT, now: float) -> ValueT | None:
        """The value, unless it has expired."""
        entry = self._entries.get(key)
        return None if entry is None or now - entry[0] > self._lifetime_s else entry[1]

    def put(self, key: KeyT, value: ValueT, now: float) -> None:
        """Set a value; it becomes the youngest entry."""
        self._entries[key] = (now, value)
        self._order.append(key)
        self._order_times.append(now)
        self._make_room(now, 2)

    def put_all(self, keys: Collection[KeyT], value: ValueT, now: float) -> None:
        """Set one value for many keys, none of them twice; they become the youngest entries."""
        self._entries.update(zip(keys, repeat((now, value))))
        self._order.extend(keys)
        self._order_times.extend(repeat(now, len(keys)))
        self._make_room(now, 2 * len(keys))

    @property
    def held(self) -> Container[KeyT]:
        """What is there, expired or not: a quick look whether `get` may find anything."""
        return self._entries

    def replace_all(self, keys: Sequence[KeyT], values: Sequence[ValueT]) -> None:
        """Set the values of keys that were put together and are still there; their age stays."""
        entries = self._entries
        if keys and all(map(entries.__contains__, keys)):
            entries.update(zip(keys, zip(repeat(entries[keys[0]][0]), values), strict=False))
            return
        for key, value in zip(keys, values, strict=True):
            self.replace(key, value)

    def replace(self, key: KeyT, value: ValueT) -> None:
        """Set the value of a key that is still there; its age stays."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries[key] = (entry[0], value)

    def drop(self, key: KeyT) -> None:
        """Forget a key."""
        self._entries.pop(key, None)

    def _make_room(self, now: float, most: int) -> None:
        """Drop what has expired and what is too much, at most so many entries that no call takes long."""
        order, order_times, entries = self._order, self._order_times, self._entries
        excess = len(order) - self._max_entries
        for _ in range(most):
            if excess <= 0 and (not order or now - order_times[0] <= self._lifetime_s):
                return
            excess -= 1
            oldest, put_at = order.popleft(), order_times.popleft()
            entry = entries.get(oldest)
            if entry is not None and entry[0] == put_at:
                del entries[oldest]

    def __len__(self) -> int:
        return len(self._entries)


class RecentKeys:
    """The latest idempotency keys of each device, whatever other devices send meanwhile.

    A device's keys are one run of octets, the newest first, 8 for each key: its hash, which is keyed anew in each
    process. That two of 64 keys share one happens once in 2^58 notifications. Octets cost neither objects nor the
    garbage collector's time. Devices live in two generations: what is noted goes to the young one; when that is full,
    or `lifetime_s` old, it becomes the old one, and whoever was heard in neither is forgotten.

    Args:
        lifetime_s: a device that was silent for less is remembered; one silent for twice as long is not.
        keys: a device.
        devices: a generation.
    """

    def __init__(self, lifetime_s: float, keys: int = KEYS_A_DEVICE, devices: int = KEY_DEVICES) -> None:
        self._lifetime_s = lifetime_s
        self._most_octets = keys * _DIGEST.size
        self._devices = devices
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._turns_at = 0.0
        """When the young generation becomes the old one."""

    def __contains__(self, key: bytes) -> bool:
        device = key[:_MAC_OCTETS]
        digests = self._young.get(device)
        if digests is None:
            digests = self._old.get(device)
            if digests is None:
                return False
        digest = _DIGEST.pack(hash(key))
        at = digests.find(digest)
        while at > 0 and at % _DIGEST.size:  # it was found astride of two others
            at = digests.find(digest, at + 1)
        return at >= 0

    def add(self, key: bytes, now: float) -> None:
        """Note a key at a monotonic time in seconds."""
        self.add_all((key,), now)

    def add_all(self, keys: Iterable[bytes], now: float) -> None:
        """Note keys, the oldest first."""
        pack, most_octets = _DIGEST.pack, self._most_octets
        for key in keys:
            if len(self._young) >= self._devices or now >= self._turns_at:
                self._old, self._young, self._turns_at = self._young, {}, now + self._lifetime_s
            device, young = key[:_MAC_OCTETS], self._young
            known = young.get(device) or self._old.get(device, b"")
            young[device] = (pack(hash(key)) + known)[:most_octets]

    def __len__(self) -> int:
        """Devices that are remembered, those in both generations twice."""
        return len(self._young) + len(self._old)
