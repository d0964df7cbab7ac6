"""The delivery record of one lane: where each notification is, or how it ended, with times and reasons.

It costs the hot path one entry a batch, not one a notification: what came in is in the outbox's log, whose finished
segments are kept for a while (`history_octets`); when it was published and acknowledged is noted here by ranges of
sequence numbers, bounded; losses have a book of their own; refusals are counted by device and reason.

States: `received` (not on disk yet), `outbox`, `published` (under way to the broker), and in the end `acknowledged`
(QoS 0: handed to the system) or `dropped` with its reason. A refused notification never got a 2.04: its NIC has it.
A direct reading is `published` until it is `acknowledged`, or `refused` with its reason.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, cast

import structlog

from gateway import message_log
from gateway.addresses import Address
from gateway.direct_record import DirectReading, DirectRecord
from gateway.envelope import EnvelopeError, StoredNotification, unpack
from gateway.losses import Loss, LossBook
from gateway.outbox import Outbox
from gateway.segments import Record, read_records
from gateway.statistics import Event, Statistics
from meshwire.logs import tells_messages

__all__ = ["Delivery", "DeliveryRecord", "Refusal", "answer"]

MAX_BATCHES: Final = 8_192
"""Batches whose times are known: at most so many, and at least so many notifications."""
MAX_REFUSALS: Final = 1_000
MAX_ANSWER_OCTETS: Final = 192 << 10
"""Of readings in one answer: with their frame they have to fit one message of a worker."""
READING_OCTETS: Final = 100
"""What a reading takes in an answer beside its payload and path: tenant, time, heads."""
TAIL_OCTETS: Final = 256 << 10
"""The newest notifications are looked for in so much of the log's end."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is known of one notification; times are Unix seconds, None: unknown or not yet."""

    key: str
    device: str
    tenant: str
    path: str
    state: str
    lane: int
    sequence: int
    """0: not numbered yet."""
    octets: int
    """Of the payload."""
    sampled_at: float
    """As the NIC says."""
    received_at: float
    published_at: float | None = None
    acknowledged_at: float | None = None
    dropped_at: float | None = None
    """Or, of a direct reading, when it was refused."""
    reason: str | None = None
    direct: bool = False


@dataclass(slots=True)
class Refusal:
    """Notifications of one device that were refused for one reason."""

    device: str
    reason: str
    source: str
    times: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class _Batch:
    at: float
    first: int
    last: int
    only: frozenset[int] | None
    """The sequence numbers, where they are not all from `first` to `last`."""


class _Batches:
    """When ranges of sequence numbers had something happen to them; the newest `MAX_BATCHES`."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque(maxlen=MAX_BATCHES)

    def add(self, sequences: Sequence[int], at: float) -> None:
        if isinstance(sequences, range):
            first, last = sequences[0], sequences[-1]
        else:
            first, last = min(sequences), max(sequences)
        whole = last - first + 1 == len(sequences)
        self._batches.append(_Batch(at, first, last, None if whole else frozenset(sequences)))

    def find(self, sequence: int) -> float | None:
        for batch in reversed(self._batches):
            if batch.first <= sequence <= batch.last and (batch.only is None or sequence in batch.only):
                return batch.at
        return None


class DeliveryRecord:
    """See the module's text.

    Args:
        lane: number of the lane, told with each delivery.
        outbox: the lane's.
        losses: the lane's book.
        statistics: losses are counted here.
    """

    def __init__(self, lane: int, outbox: Outbox, losses: LossBook, statistics: Statistics) -> None:
        self.lane = lane
        self._outbox = outbox
        self.losses = losses
        self._statistics = statistics
        self._published = _Batches()
        self._acknowledged = _Batches()
        self.direct = DirectRecord()
        """Told by whoever publishes readings that are not stored."""
        self._refusals: OrderedDict[tuple[str, str], Refusal] = OrderedDict()

    # --- told by the hot path

    def published(self, sequences: Sequence[int], now_s: float) -> None:
        """These records have just been written to the broker."""
        self._published.add(sequences, now_s)
        if tells_messages():
            message_log.of_records("published", self._outbox, sequences)

    def acknowledged(self, sequences: Sequence[int], now_s: float) -> None:
        """The broker has taken these."""
        self._acknowledged.add(sequences, now_s)
        if tells_messages():
            message_log.of_records("acknowledged", self._outbox, sequences)

    def lost(self, record: Record | None, sequence: int, reason: str, now_s: float) -> None:
        """A record was given up."""
        self._statistics.count(Event.LOST, reason)
        stored = None if record is None else _stored(record.payload)
        if record is None or stored is None:
            _log.warning("a notification is lost", sequence=sequence, reason=reason)
            self.losses.add(Loss(sequence, now_s, reason))
            return
        notification = stored.notification
        tenant, device, key = stored.tenant.value, notification.device.value, notification.key
        _log.warning("a notification is lost", tenant=tenant, mac=device, key=key, sequence=sequence, reason=reason)
        self.losses.add(Loss(sequence, now_s, reason, tenant, device, key, record.time_ms / 1000))

    def refused(self, device: str, reason: str, source: Address, now_s: float) -> None:
        """A notification was not taken; the NIC was told so."""
        known = self._refusals.get((device, reason))
        if known is None:
            self._refusals[device, reason] = Refusal(device, reason, str(source), 1, now_s, now_s)
            if len(self._refusals) > MAX_REFUSALS:
                self._refusals.popitem(last=False)
            return
        known.times, known.last_at, known.source = known.times + 1, now_s, str(source)
        self._refusals.move_to_end((device, reason))

    # --- asked by people

    async def find(self, device: str, key: str | None, limit: int) -> list[Delivery]:
        """The newest notifications of a device, or those of one key (published again after a crash: several).

        Reads the log on a thread; the newest first.
        """
        history = self._outbox.history()
        found = await asyncio.to_thread(_search, history, device.encode(), key, limit)
        waiting = [
            self._delivery(stored, 0, time_ms, "received")
            for time_ms, payload in self._outbox.pending()
            if (stored := _wanted(payload, device.encode(), key)) is not None
        ]
        committed = [self._judge(record, stored) for record, stored in found]
        direct = [self._judge_direct(reading) for reading in self.direct.find(device, key)]
        together = [*reversed(waiting), *committed, *direct]
        return sorted(together, key=lambda each: -each.received_at)[:limit]

    def refusals(self, device: str | None = None) -> list[Refusal]:
        """What was refused to a device, or to any; the newest first."""
        return [refusal for refusal in reversed(self._refusals.values()) if device in (None, refusal.device)]

    async def readings(self, device: str, limit: int) -> list[StoredNotification]:
        """The newest notifications of a device as they were stored; reads the log on a thread, the newest first."""
        found = await asyncio.to_thread(_search, self._outbox.history(), device.encode(), None, limit)
        return [stored for _, stored in found]

    async def newest(self, limit: int) -> list[tuple[float, StoredNotification]]:
        """The newest notifications on disk with the times at which they came; reads the log's end on a thread."""
        return await asyncio.to_thread(_newest, self._outbox.history(), limit)

    async def since(self, sequence: int | None, limit: int) -> dict[str, object]:
        """What was stored after a sequence number, the oldest first; None: nothing, only which number is the last.

        Reads the log's end on a thread, and nothing when there is no news. `skipped`: so many were too many.
        """
        last = self._outbox.last
        found: list[tuple[Record, StoredNotification]] = []
        if sequence is not None and sequence < last:
            found = await asyncio.to_thread(_since, self._outbox.history(), sequence, last)
        missing = 0 if sequence is None else max(0, last - sequence - len(found))
        shown = found[-limit:]
        return {
            "lane": self.lane,
            "last": last,
            "skipped": missing + len(found) - len(shown),
            "notifications": [
                {
                    "key": stored.notification.key,
                    "device": stored.notification.device.value,
                    "tenant": stored.tenant.value,
                    "path": stored.notification.path,
                    "time": stored.notification.time_s,
                    "received": record.time_ms / 1000,
                    "payload": stored.notification.payload.hex(),
                }
                for record, stored in shown
            ],
        }

    def _judge(self, record: Record, stored: StoredNotification) -> Delivery:
        sequence = record.sequence
        loss = self.losses.get(sequence)
        published = self._published.find(sequence)
        if loss is not None:
            return self._delivery(stored, sequence, record.time_ms, "dropped", published, loss=loss)
        if self._outbox.is_acknowledged(sequence):
            acknowledged = self._acknowledged.find(sequence)
            return self._delivery(stored, sequence, record.time_ms, "acknowledged", published, acknowledged)
        return self._delivery(stored, sequence, record.time_ms, "published" if published else "outbox", published)

    def _judge_direct(self, reading: DirectReading) -> Delivery:
        state = "published" if reading.ended_at is None else "refused" if reading.reason else "acknowledged"
        return Delivery(
            reading.key,
            reading.device,
            reading.tenant,
            reading.path,
            state,
            self.lane,
            0,
            reading.octets,
            reading.sampled_at,
            reading.received_at,
            reading.published_at,
            reading.ended_at if state == "acknowledged" else None,
            reading.ended_at if state == "refused" else None,
            reading.reason or None,
            direct=True,
        )

    def _delivery(
        self,
        stored: StoredNotification,
        sequence: int,
        time_ms: int,
        state: str,
        published: float | None = None,
        acknowledged: float | None = None,
        loss: Loss | None = None,
    ) -> Delivery:
        notification = stored.notification
        return Delivery(
            notification.key,
            notification.device.value,
            stored.tenant.value,
            notification.path,
            state,
            self.lane,
            sequence,
            len(notification.payload),
            notification.time_s,
            time_ms / 1000,
            published,
            acknowledged,
            None if loss is None else loss.lost_at,
            None if loss is None else loss.reason,
        )


async def answer(record: DeliveryRecord, question: dict[str, object]) -> dict[str, object]:
    """Answer a question that came from another process, in plain data."""
    limit = question["limit"]
    assert isinstance(limit, int)
    match question:
        case {"losses": tenant}:
            newest = record.losses.newest(None if tenant is None else str(tenant))
            return {"losses": [asdict(loss) for loss, _ in zip(newest, range(limit), strict=False)]}
        case {"since": since}:
            known = {} if since is None else dict(cast("list[tuple[int, int]]", since))
            return await record.since(known.get(record.lane), limit)
        case {"direct_since": since}:
            known = {} if since is None else dict(cast("list[tuple[int, int]]", since))
            return {"lane": record.lane} | record.direct.since(known.get(record.lane), limit, time.time())
        case {"readings": device}:
            return {"readings": _bounded(await record.readings(str(device), limit))}
        case {"newest": True}:
            return {
                "notifications": [
                    {
                        "device": stored.notification.device.value,
                        "tenant": stored.tenant.value,
                        "path": stored.notification.path,
                        "received_at": at_s,
                        "sampled_at": stored.notification.time_s,
                        "content_format": stored.notification.content_format,
                        "payload": stored.notification.payload.hex(),
                    }
                    for at_s, stored in await record.newest(limit)
                ],
                "refusals": [asdict(refusal) for refusal in record.refusals()[:limit]],
            }
        case {"device": device, "key": key}:
            found = await record.find(str(device), None if key is None else str(key), limit)
            return {
                "deliveries": [asdict(delivery) for delivery in found],
                "refusals": [asdict(refusal) for refusal in record.refusals(str(device))[:limit]],
            }
        case _:
            return {}


def _bounded(readings: Iterable[StoredNotification]) -> list[list[object]]:
    """Tenant, path, time, content format and payload of each, as many as an answer may hold; the newest first."""
    found: list[list[object]] = []
    octets = 0
    for stored in readings:
        notification = stored.notification
        octets += len(notification.payload) + len(notification.path) + READING_OCTETS
        if octets > MAX_ANSWER_OCTETS:
            break
        found.append(
            [
                stored.tenant.value,
                notification.path,
                notification.time_s,
                notification.content_format,
                notification.payload,
            ]
        )
    return found


def _search(
    history: Iterable[bytes], device: bytes, key: str | None, limit: int
) -> list[tuple[Record, StoredNotification]]:
    """Runs on a thread: the newest matching records of a log whose newest run comes first."""
    found: list[tuple[Record, StoredNotification]] = []
    for octets in history:
        if device in octets:
            found += reversed(list(_matching(octets, device, key)))
            if len(found) >= limit:
                break
    return found[:limit]


def _newest(history: Iterable[bytes], limit: int) -> list[tuple[float, StoredNotification]]:
    """Runs on a thread."""
    found: list[tuple[float, StoredNotification]] = []
    for octets in history:
        records = [item for item in read_records(octets[-TAIL_OCTETS:]) if isinstance(item, Record)]
        for record in reversed(records[-limit:]):
            if (stored := _stored(record.payload)) is not None:
                found.append((record.time_ms / 1000, stored))
        if len(found) >= limit:
            break
    return found[:limit]


def _since(history: Iterable[bytes], sequence: int, last: int) -> list[tuple[Record, StoredNotification]]:
    """Runs on a thread: what follows a sequence number, as far as the ends of the two newest runs have it."""
    found: list[tuple[Record, StoredNotification]] = []
    for octets, _ in zip(history, range(2), strict=False):
        records = [item for item in read_records(octets[-TAIL_OCTETS:]) if isinstance(item, Record)]
        some = [(each, _stored(each.payload)) for each in records if sequence < each.sequence <= last]
        found = [(each, stored) for each, stored in some if stored is not None] + found
        if records and records[0].sequence <= sequence + 1:
            break
    return found


def _matching(octets: bytes, device: bytes, key: str | None) -> Iterator[tuple[Record, StoredNotification]]:
    for item in read_records(octets):
        if isinstance(item, Record) and (stored := _wanted(item.payload, device, key)) is not None:
            yield item, stored


def _wanted(payload: bytes, device: bytes, key: str | None) -> StoredNotification | None:
    if device not in payload:
        return None
    stored = _stored(payload)
    if stored is None or stored.notification.device.value.encode() != device:
        return None
    return stored if key in (None, stored.notification.key) else None


def _stored(payload: bytes) -> StoredNotification | None:
    try:
        return unpack(payload)
    except EnvelopeError:
        return None
