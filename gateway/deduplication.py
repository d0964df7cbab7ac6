"""Bounded memory of what came in: which request was answered how, which notification is stored already.

Both tables forget the oldest when they are full; a repetition that comes after that is stored twice, which
at-least-once allows and the idempotency key makes visible.
"""

from __future__ import annotations

import struct
from collections import deque
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
        if len(self._young) >= self._devices or now >= self._turns_at:
            self._old, self._young, self._turns_at = self._young, {}, now + self._lifetime_s
        device, young = key[:_MAC_OCTETS], self._young
        known = young.get(device) or self._old.get(device, b"")
        young[device] = (_DIGEST.pack(hash(key)) + known)[: self._most_octets]

    def __len__(self) -> int:
        """Devices that are remembered, those in both generations twice."""
        return len(self._young) + len(self._old)
