"""Frames of NICs' serial lines for all pages that watch them: one reader for each NIC, however many watch.

A feed asks its NIC for what is new (`GET /sys/link/frames`, docs/reference/nic.md) as long as somebody watches, and
keeps the newest records for pages that come later and for files. What the NIC, or a slow page, could not keep is told
by number. Nothing is sent to the NIC when the last one leaves: its lease ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from gateway.console.frame_tree import record_document
from gateway.device_failure import DeviceFailure
from gateway.device_reader import DeviceReader
from gateway.registry import Device
from meshwire.capture.batch import BatchError, Numbered, decode_batch
from meshwire.capture.record import Record
from meshwire.coap import codes
from meshwire.identity import DeviceId

__all__ = ["FrameFeed", "FrameFeeds", "TooManyFeeds"]

FRAMES: Final = "sys/link/frames"
POLL_S: Final = 0.5
LEASE_S: Final = 15
ASK_S: Final = 8.0
AFTER_FAILURE_S: Final = 3.0
FULL_OCTETS: Final = 700
"""An answer of so many octets may have left something behind: the next question follows at once."""
KEPT: Final = 2_000
"""Records (and notices between them) that a feed keeps."""
FIRST_SHOWN: Final = 200
AT_ONCE: Final = 100
QUIET_S: Final = 10.0
"""A page is told at least so often that it still watches."""
MAX_FEEDS: Final = 20
"""NICs that are watched at the same time, and NICs whose records are kept for a file."""

_log = structlog.get_logger(__name__)


class TooManyFeeds(Exception):
    """So many NICs are watched already that one more is not begun."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a page is told."""

    serial: int
    text: str
    """JSON: a record's document, `{"skipped": count}` or `{"notice": text}`."""
    record: Record | None = None


class FrameFeed:
    """One NIC's frames.

    Args:
        device: whose; a feed ends when the device becomes another tenant's.
        reader: asks the NIC.
    """

    def __init__(self, device: Device, reader: DeviceReader) -> None:
        self.device = device
        self.viewers = 0
        self._reader = reader
        self._items: deque[Item] = deque(maxlen=KEPT)
        self._serial = 0
        self._changed = asyncio.Event()
        self._number = 0
        """The NIC's number of the last record."""
        self._notice = ""

    def records(self) -> list[Record]:
        """What is kept, oldest first."""
        return [item.record for item in self._items if item.record is not None]

    async def run(self) -> None:
        """Read until cancelled."""
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = await self._read()

    async def _read(self) -> float:
        """One question; how long to wait before the next."""
        path = f"{FRAMES}?after={self._number}&lease={LEASE_S}"
        try:
            answer = await self._reader.ask(self.device.mac, path, timeout_s=ASK_S)
        except DeviceFailure as failure:
            self._tell_notice(f"The NIC does not answer ({failure}); trying again.")
            return AFTER_FAILURE_S
        if answer.code != codes.CONTENT:
            why = answer.payload.decode(errors="replace")[:200]
            self._tell_notice(f"The NIC does not tell its frames: {codes.code_text(answer.code)} {why}")
            return AFTER_FAILURE_S
        try:
            batch = decode_batch(answer.payload)
        except BatchError as error:
            self._tell_notice(f"What the NIC tells of its line can't be read: {error}")
            return AFTER_FAILURE_S
        self._take(batch)
        return 0.0 if len(answer.payload) >= FULL_OCTETS else POLL_S

    def failed(self) -> None:
        """Reading has ended by a fault of ours."""
        self._tell({"notice": "The gateway can't go on reading: see its log."})

    def _take(self, batch: list[Numbered]) -> None:
        self._notice = ""
        for each in batch:
            skipped = each.number - self._number - 1
            if self._number and skipped > 0:
                self._tell({"skipped": skipped})
            elif skipped < 0:
                self._tell({"notice": "The NIC has started anew."})
            self._number = each.number
            self._tell(record_document(each.record), each.record)

    def _tell_notice(self, text: str) -> None:
        """Once, not with each attempt."""
        if text != self._notice:
            self._tell({"notice": text})
            self._notice = text

    def _tell(self, document: dict[str, Any], record: Record | None = None) -> None:
        self._serial += 1
        self._items.append(Item(self._serial, json.dumps({"n": self._serial, **document}), record))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, after: int | None) -> AsyncIterator[list[Item]]:
        """What is kept after a serial number and then what comes; an empty list now and then while nothing does.

        Args:
            after: the last one that the page has; None: it begins with the newest of what is kept.
        """
        last = max(0, self._serial - FIRST_SHOWN) if after is None or after > self._serial else after
        while True:
            changed = self._changed
            items = [item for item in self._items if item.serial > last][:AT_ONCE]
            if items and (skipped := items[0].serial - last - 1) and after is not None:
                items.insert(0, Item(items[0].serial - 1, json.dumps({"n": items[0].serial - 1, "skipped": skipped})))
            if items:
                last = after = items[-1].serial
                yield items
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await changed.wait()
                    continue
            yield []


class FrameFeeds:
    """All feeds of a gateway.

    Args:
        reader: asks NICs.
    """

    def __init__(self, reader: DeviceReader) -> None:
        self._reader = reader
        self._feeds: OrderedDict[DeviceId, FrameFeed] = OrderedDict()
        self._tasks: dict[DeviceId, asyncio.Task[None]] = {}

    def kept(self, device: Device) -> FrameFeed | None:
        """The feed of a device, running or not, if it was begun while the device was the same tenant's."""
        feed = self._feeds.get(device.mac)
        if feed is not None and feed.device.tenant != device.tenant:
            return None
        return feed

    def has_room(self, device: Device) -> bool:
        """Whether this device can be watched."""
        return device.mac in self._tasks or len(self._tasks) < MAX_FEEDS

    @contextmanager
    def watching(self, device: Device) -> Iterator[FrameFeed]:
        """Watch a device's line while the block runs.

        Raises:
            TooManyFeeds: that would be one NIC too many.
        """
        feed = self._open(device)
        feed.viewers += 1
        try:
            yield feed
        finally:
            feed.viewers -= 1
            if not feed.viewers:
                self._stop(feed)

    def _open(self, device: Device) -> FrameFeed:
        feed = self.kept(device)
        if feed is None:
            former = self._feeds.pop(device.mac, None)
            if former is not None:
                self._stop(former)
            feed = FrameFeed(device, self._reader)
        if device.mac not in self._tasks:
            if not self.has_room(device):
                raise TooManyFeeds
            self._tasks[device.mac] = asyncio.create_task(self._run(feed), name=f"frames of {device.mac}")
            _log.info("frames are watched", mac=device.mac.value, tenant=device.tenant.value)
        self._feeds[device.mac] = feed
        self._feeds.move_to_end(device.mac)
        while len(self._feeds) > MAX_FEEDS:
            oldest = next(each for each in self._feeds.values() if not each.viewers and each is not feed)
            del self._feeds[oldest.device.mac]
        return feed

    def _stop(self, feed: FrameFeed) -> None:
        task = self._tasks.get(feed.device.mac)
        if task is not None and self._feeds.get(feed.device.mac, feed) is feed:
            del self._tasks[feed.device.mac]
            task.cancel()

    async def _run(self, feed: FrameFeed) -> None:
        try:
            await feed.run()
        except Exception:  # a fault of ours must be seen in the log, and by who watches
            _log.exception("frames can't be read", mac=feed.device.mac.value)
            feed.failed()

    async def close(self) -> None:
        """End all reading."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
