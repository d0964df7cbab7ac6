"""UplinkQueue: notifications that the gateway has not taken yet, oldest first, bounded, on disk.

Decides: the file format (an append-only journal that is rewritten when it is mostly dead), that the OLDEST is dropped
when the queue is full (a reader of a long outage wants the newest state; each drop is counted and told), and that a
torn end of the file is cut off. Does not: send. It survives a kill of the process at any moment; a power failure may
cost what the operating system had not written yet.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cbor2
import structlog

from meshwire.identity import DeviceId, IdentityError
from meshwire.notification import Notification
from nic_sim.observation_store import replace_file

__all__ = ["UplinkQueue", "UplinkQueueCounters"]

_HEADER: Final = struct.Struct(">HI")
"""Length of the entry and its CRC-32."""
MAX_DEAD_OCTETS: Final = 256 * 1024
"""The journal is rewritten when entries that are done take more than this, or with every restart."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class UplinkQueueCounters:
    """What the queue has seen since the process started."""

    put: int = 0
    done: int = 0
    overflowed: int = 0
    """Oldest notifications dropped because the queue was full."""
    restored: int = 0
    damaged: int = 0
    """Octets of a torn or damaged journal that were cut off."""
    write_failures: int = 0


class UplinkQueue:
    """A FIFO of notifications.

    Args:
        path: of the journal; None keeps it in memory only.
        limit: most notifications kept (1 or more).
        device: whose notifications they are; a journal of another device is not taken over.
    """

    def __init__(self, path: Path | None, limit: int, device: DeviceId) -> None:
        self.counters = UplinkQueueCounters()
        self._path = path
        self._limit = limit
        self._device = device
        self._items: deque[tuple[int, Notification]] = deque()
        self._serial = 0
        self._file: io.BufferedWriter | None = None
        self._dead_octets = 0
        if path is not None:
            self._restore(path)
            self._rewrite()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def limit(self) -> int:
        return self._limit

    def put(self, notification: Notification) -> Notification | None:
        """Append one; returns the one that had to go for it, if any."""
        overflow = None
        if len(self._items) >= self._limit:
            overflow = self.head()
            self.counters.overflowed += 1
            self._remove_head()
        self._serial += 1
        self._items.append((self._serial, notification))
        self.counters.put += 1
        self._append(_pack_put(self._serial, notification))
        return overflow

    def head(self) -> Notification | None:
        """The oldest."""
        return self._items[0][1] if self._items else None

    def pop(self, notification: Notification) -> None:
        """Remove `notification` if it is still the oldest (it may have been dropped for a newer one meanwhile)."""
        if self._items and self._items[0][1] is notification:
            self.counters.done += 1
            self._remove_head()

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _remove_head(self) -> None:
        serial, _ = self._items.popleft()
        self._append(cbor2.dumps([serial]))
        if self._path is not None and self._dead_octets > MAX_DEAD_OCTETS:
            self._rewrite()

    # ---- the journal: entries [serial, path, observe, epoch, format, payload, time] and [serial] (done)

    def _append(self, entry: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(_frame(entry))
            self._file.flush()
        except OSError as error:
            self._tell_failure(error)
        self._dead_octets += len(entry)

    def _tell_failure(self, error: OSError) -> None:
        if not self.counters.write_failures:
            _log.warning("uplink journal not written", path=str(self._path), error=str(error))
        self.counters.write_failures += 1

    def _rewrite(self) -> None:
        """Replace the journal by one that holds only what is still queued."""
        assert self._path is not None
        content = b"".join(_frame(_pack_put(serial, item)) for serial, item in self._items)
        try:
            replace_file(self._path, content)
            self.close()
            self._file = self._path.open("ab")
        except OSError as error:
            self._tell_failure(error)
        self._dead_octets = 0

    def _restore(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        items: dict[int, Notification] = {}
        for entry in _entries(data, self.counters):
            serial = entry[0]
            if len(entry) == 1:
                items.pop(serial, None)
            elif (notification := self._unpack(entry)) is not None:
                items[serial] = notification
            self._serial = max(self._serial, serial)
        self._items.extend(items.items())
        while len(self._items) > self._limit:
            self._items.popleft()
            self.counters.overflowed += 1
        self.counters.restored = len(self._items)

    def _unpack(self, entry: list[int]) -> Notification | None:
        fields: list[object] = list(entry)
        match fields:
            case [int(), str(mac), str(path), int(observe), int(epoch), int() | None as fmt, bytes(payload), float(at)]:
                try:
                    device = DeviceId(mac)
                except IdentityError:
                    return None
                if device == self._device:
                    return Notification(device, path, observe, epoch, fmt, payload, at)
        return None


def _pack_put(serial: int, item: Notification) -> bytes:
    return cbor2.dumps(
        [
            serial,
            item.device.value,
            item.path,
            item.observe,
            item.epoch,
            item.content_format,
            item.payload,
            float(item.time_s),
        ]
    )


def _frame(entry: bytes) -> bytes:
    return _HEADER.pack(len(entry), zlib.crc32(entry)) + entry


def _entries(data: bytes, counters: UplinkQueueCounters) -> list[list[int]]:
    """All whole entries up to the first that is torn or damaged."""
    entries: list[list[int]] = []
    position = 0
    while position + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        octets = data[start : start + length]
        if len(octets) != length or zlib.crc32(octets) != checksum:
            break
        entry = cbor2.loads(octets)
        if isinstance(entry, list) and entry and isinstance(entry[0], int):
            entries.append(entry)
        position = start + length
    if position != len(data):
        counters.damaged = len(data) - position
        _log.warning("uplink journal was torn, its end is cut off", octets=counters.damaged)
    return entries
