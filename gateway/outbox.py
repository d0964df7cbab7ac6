"""The durable store between NICs and broker: a bounded, ordered log with a cursor.

Does: take payloads, write them in batches, hand them out in order, forget them once acknowledged, find its place
again after a crash. Does not: know what a payload means, run threads, read a clock. The caller owes: one
`begin_commit … write … finish_commit` at a time (`write` may run on a worker thread), and an acknowledgement of what
`read` gave. What is not committed is not readable, so nothing is published that a crash could take back.

A record that was damaged on disk is skipped and counted as lost; an interrupted write at the end is cut: its
senders never got an answer and will send again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Final

from gateway.segments import HEADER_OCTETS, MAX_PAYLOAD_OCTETS, Damage, Record, encode_records, read_records
from gateway.storage import RefusedSegment, Segment, Storage

__all__ = ["Commit", "Entry", "Outbox", "OutboxFull", "OutboxStatus"]

_CHUNK_OCTETS: Final = 4 * MAX_PAYLOAD_OCTETS
"""Read at once; half of it still holds the longest record."""
_SAVE_EVERY: Final = 16
"""The cursor is saved after so many acknowledgements: that many may be published again after a crash."""


_MAX_AHEAD: Final = 4_096
"""Records handed from the writing to the reading side without a detour over the disk."""

Entry = tuple[int, bytes, object]
"""Time in Unix milliseconds, payload, companion."""
_sequence_of, _payload_of = itemgetter(0), itemgetter(2)
"""Of a record."""
_record = partial(tuple.__new__, Record)
"""A record of its five values, without the detour over keywords."""


class OutboxFull(Exception):
    """The store has reached its limit of octets: the sender has to keep its notification and come back."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """What an operator wants to see."""

    depth: int
    """Records stored and not acknowledged."""
    octets: int
    age_s: float
    """How long the oldest one has waited."""
    damaged: int
    """Records lost to damage on disk since start."""
    torn_octets: int
    """Octets of an interrupted write that were cut at start."""
    is_writable: bool
    """False from a batch that could not be written until one that could."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A batch on its way to the disk."""

    segment: Segment
    octets: bytes
    first: int
    entries: list[Entry]

    @property
    def count(self) -> int:
        """How many records it holds."""
        return len(self.entries)

    def write(self, *, sync: bool) -> None:
        """Write it, and with `sync` wait for the disk; may run on a worker thread. Raises OSError."""
        self.segment.append(self.octets)
        if sync:
            self.segment.sync()


@dataclass(slots=True)
class _Run:
    """A segment and how much of it is committed."""

    segment: Segment
    committed: int


class Outbox:
    """See the module's text.

    Args:
        storage: where the octets go.
        max_octets: limit of all records that wait, headers included.
        segment_octets: a segment is closed when it is this long.
    """

    def __init__(self, storage: Storage, *, max_octets: int, segment_octets: int) -> None:
        self._storage = storage
        self._max_octets = max_octets
        self._segment_octets = segment_octets
        self._runs: deque[_Run] = deque()
        self._pending: list[Entry] = []
        self._committing = False
        self._octets = 0
        self._next_sequence = 1
        self._cursor = self._saved_cursor = 1
        self._acknowledged: set[int] = set()
        self._outstanding: dict[int, Record] = {}
        self._ahead: deque[Record] = deque()
        self._read_run = 0
        self._read_from = 0
        self._next_read = 1
        self._damaged = 0
        self._torn_octets = 0
        self._released = 0
        self.is_writable = True
        self.stored = 0
        """Records committed since start."""
        self.stored_octets = 0
        self.on_damaged: Callable[[int], None] = lambda sequence: None
        """Told of each record that damage on disk has swallowed."""
        self._open()

    # --- for the side that stores

    def append(self, payload: bytes, time_ms: int, companion: object = None) -> None:
        """Take a payload into the next commit.

        Args:
            payload: at most `MAX_PAYLOAD_OCTETS`.
            time_ms: now, Unix milliseconds.
            companion: what the payload says in a form that saves the reader work; it may be lost on the way.

        Raises:
            OutboxFull: the limit is reached; nothing was taken.
            ValueError: the payload is too long.
        """
        octets = HEADER_OCTETS + len(payload)
        if len(payload) > MAX_PAYLOAD_OCTETS:
            raise ValueError(f"payload of {len(payload)} octets; at most {MAX_PAYLOAD_OCTETS}")
        if self._octets + octets > self._max_octets:
            raise OutboxFull
        self._octets += octets
        self._pending.append((time_ms, payload, companion))

    @property
    def room(self) -> int:
        """Octets that may still be taken, `HEADER_OCTETS` of each payload included."""
        return self._max_octets - self._octets

    def append_all(self, entries: list[Entry], octets: int) -> None:
        """Take payloads for which there is `room`, none of them too long.

        Args:
            entries: as for `append`.
            octets: of all payloads, with `HEADER_OCTETS` for each.
        """
        self._octets += octets
        self._pending += entries

    def begin_commit(self) -> Commit | None:
        """Everything appended since the last one, as one batch; None when there is nothing or one is under way."""
        if self._committing or not self._pending:
            return None
        first, entries = self._next_sequence, self._pending
        octets = encode_records(first, entries)
        try:
            segment = self._run_for(len(octets)).segment
        except OSError as error:  # The writer meets it where it meets a full disk.
            segment = RefusedSegment(first, error)
        commit = Commit(segment, octets, first, entries)
        self._pending = []
        self._committing = True
        return commit

    def finish_commit(self, commit: Commit) -> None:
        """The batch is written: its records may be read."""
        self._committing, self.is_writable = False, True
        run = self._runs[-1]
        follows = self._reads_at_the_end() and len(self._ahead) < _MAX_AHEAD
        run.committed += len(commit.octets)
        self.stored += commit.count
        self.stored_octets += len(commit.octets)
        self._next_sequence = commit.first + commit.count
        if follows:
            self._hand_over(commit, run.committed)

    def _reads_at_the_end(self) -> bool:
        """Whether everything committed so far has been read ahead."""
        last = len(self._runs) - 1
        if self._read_run == last - 1 and not self._runs[last].committed:
            return self._read_from == self._runs[last - 1].committed
        return self._read_run == last and self._read_from == self._runs[last].committed

    def _hand_over(self, commit: Commit, read_from: int) -> None:
        """To a reader that follows closely, records go in memory."""
        self._read_run, self._read_from = len(self._runs) - 1, read_from
        self._next_read = self._next_sequence
        numbered = enumerate(commit.entries, commit.first)
        self._ahead.extend([_record((n, time_ms, payload, 0, given)) for n, (time_ms, payload, given) in numbered])

    def fail_commit(self, commit: Commit) -> None:
        """The batch could not be written: forget it, the senders will be told."""
        self._committing, self.is_writable = False, False
        self._octets -= len(commit.octets)
        commit.segment.truncate(self._runs[-1].committed if self._runs else 0)

    # --- for the side that publishes

    def read(self, limit: int) -> list[Record]:
        """The next committed records, at most `limit`, in the order of storing; empty when there is nothing new."""
        records: list[Record] = []
        take = self._ahead.popleft
        while (room := limit - len(records)) > 0 and self._fill():
            records += [take() for _ in range(min(room, len(self._ahead)))]
        self._outstanding.update((record[0], record) for record in records)
        return records

    def rewind(self) -> None:
        """Read again from the first record that is not acknowledged."""
        self._outstanding.clear()
        self._ahead.clear()
        self._read_run = self._read_from = 0
        self._next_read = self._cursor

    def acknowledge(self, *sequences: int) -> None:
        """Records that were read are done with; their space is given back when all before them are, too."""
        for sequence in sequences:
            record = self._outstanding.pop(sequence, None)
            if record is not None:
                self._octets -= HEADER_OCTETS + len(record.payload)
                self._acknowledged.add(sequence)
        self._advance()

    def acknowledge_run(self, sequences: range) -> None:
        """As `acknowledge`, for records in turn."""
        forget = self._outstanding.pop
        records = [record for sequence in sequences if (record := forget(sequence, None)) is not None]
        self._octets -= HEADER_OCTETS * len(records) + sum(map(len, map(_payload_of, records)))
        if sequences.start == self._cursor and len(records) == len(sequences):
            self._cursor = sequences.stop
        else:
            self._acknowledged.update(map(_sequence_of, records))
        self._advance()

    def outstanding(self, sequence: int) -> Record | None:
        """A record that was read and is not acknowledged."""
        return self._outstanding.get(sequence)

    def is_acknowledged(self, sequence: int) -> bool:
        """Whether a record is done with."""
        return sequence < self._cursor or sequence in self._acknowledged

    def pending(self) -> list[tuple[int, bytes]]:
        """Time in Unix milliseconds and payload of what the next commit will hold."""
        return [(time_ms, payload) for time_ms, payload, _ in self._pending]

    def history(self) -> Iterable[bytes]:
        """The octets of all segments that are still there, finished ones too, the newest first; for any thread."""
        return self._storage.history()

    @property
    def last(self) -> int:
        """The sequence number of the newest record that is committed; 0: there is none."""
        return self._next_sequence - 1

    @property
    def cursor(self) -> int:
        """The first sequence number that is not acknowledged."""
        return self._cursor

    @property
    def released(self) -> int:
        """Below this the broker has all QoS 2 messages, and has been told to forget that it has them (PUBREL)."""
        return self._released

    def release(self, handed_over: Container[int]) -> int:
        """Remember, before PUBREL is sent, that records must not be published again; gives the new `released`.

        Args:
            handed_over: sequence numbers of records that the broker has and has not acknowledged in the end.
        """
        released = before = max(self._released, self._cursor)
        while released in handed_over or released in self._acknowledged:
            released += 1
        if released != self._released and released != before:
            self._storage.save_released(released)
        self._released = released
        return released

    def withdraw(self) -> None:
        """The broker has forgotten what it had: whatever is not acknowledged has to be published again."""
        if self._released > self._cursor:
            # Waits for the disk: with the old number, what is published anew now would pass for published.
            self._storage.save_released(self._cursor, sync=True)
            self._released = self._cursor

    def name(self, prefix: str, make: Callable[[], str]) -> str | None:
        """The name under which the broker knows the publisher of this outbox; None when it does not outlive us."""
        return self._storage.name(prefix, make)

    def note_version(self, level: int) -> None:
        """Remember the protocol level that the broker speaks: 4 or 5."""
        self._storage.save_version(level)

    @property
    def version(self) -> int:
        """The protocol level that was spoken last; 0: unknown."""
        return self._storage.load_version()

    # --- for operators

    def status(self, now_ms: int) -> OutboxStatus:
        """A snapshot; `now_ms` is Unix milliseconds."""
        depth = self._next_sequence - self._cursor - len(self._acknowledged) + len(self._pending)
        oldest = self._oldest_ms()
        age_s = max(0, now_ms - oldest) / 1000 if oldest is not None else 0.0
        return OutboxStatus(depth, self._octets, age_s, self._damaged, self._torn_octets, self.is_writable)

    @property
    def has_unread(self) -> bool:
        """Whether `read` would give something."""
        return self._fill()

    def close(self) -> None:
        """Save the cursor and let go of the files."""
        self._storage.save_cursor(self._cursor)
        for run in self._runs:
            run.segment.close()
        self._storage.close()

    # --- private

    def _open(self) -> None:
        """Find the place: the saved cursor, the last whole record, how much waits."""
        self._cursor = self._next_sequence = max(1, self._storage.load_cursor())
        segments = self._storage.segments()
        for segment in segments:
            self._runs.append(_Run(segment, self._measure(segment, last=segment is segments[-1])))
        if segments:
            # Never behind what the disk still holds: a lost cursor file costs duplicates, not notifications.
            self._cursor = max(self._cursor, segments[0].base)
        self._next_sequence = max(self._next_sequence, self._cursor)
        self._saved_cursor = self._cursor
        self._released = min(self._storage.load_released(), self._next_sequence)
        self.rewind()
        self._drop_finished()

    def _measure(self, segment: Segment, *, last: bool) -> int:
        """Count what waits in a segment left by an earlier run, cut a torn end; gives its committed octets."""
        octets = segment.read(0, segment.size)
        self._next_sequence = max(self._next_sequence, segment.base)
        for item in read_records(octets):
            if isinstance(item, Record):
                self._next_sequence = max(self._next_sequence, item.sequence + 1)
                self._octets += item.octets if item.sequence >= self._cursor else 0
            elif item.torn and last:
                segment.truncate(item.start)
                self._torn_octets += item.end - item.start
                return item.start
        return len(octets)

    def _run_for(self, octets: int) -> _Run:
        if not self._runs or (self._runs[-1].committed and self._runs[-1].committed + octets > self._segment_octets):
            self._runs.append(_Run(self._storage.begin(self._next_sequence), 0))
        return self._runs[-1]

    def _fill(self) -> bool:
        """Make sure that a record is read ahead, when there is one."""
        while not self._ahead:
            if self._read_run >= len(self._runs):
                return False
            run = self._runs[self._read_run]
            if self._read_from < run.committed:
                self._read_ahead(run)
            elif self._read_run + 1 < len(self._runs):
                self._read_run, self._read_from = self._read_run + 1, 0
            else:
                return False
        return True

    def _read_ahead(self, run: _Run) -> None:
        """Read the next chunk of a run."""
        available = run.committed - self._read_from
        octets = run.segment.read(self._read_from, min(_CHUNK_OCTETS, available))
        if not octets:
            self._read_from = run.committed
            return
        items = list(read_records(octets))
        last, consumed = items[-1], len(octets)
        if isinstance(last, Damage) and last.torn and consumed < available:
            # Not damage but a record that the chunk's end has cut: it is whole in the next chunk.
            consumed = last.start or _CHUNK_OCTETS // 2
        self._read_from += consumed
        for item in items:
            if isinstance(item, Record):
                self._take_ahead(item)
        self._advance()

    def _take_ahead(self, record: Record) -> None:
        if record.sequence < self._next_read:
            return
        for missing in range(self._next_read, record.sequence):
            self._skip(missing)
        self._next_read = record.sequence + 1
        if record.sequence not in self._acknowledged:
            self._ahead.append(record)

    def _skip(self, sequence: int) -> None:
        """A record that damage has swallowed: nobody will ever acknowledge it."""
        if sequence not in self._acknowledged:
            self._damaged += 1
            self._acknowledged.add(sequence)
            self.on_damaged(sequence)

    def _advance(self) -> None:
        while self._cursor in self._acknowledged:
            self._acknowledged.remove(self._cursor)
            self._cursor += 1
        if self._cursor - self._saved_cursor >= _SAVE_EVERY or self._cursor == self._next_sequence:
            self._storage.save_cursor(self._cursor)
            self._saved_cursor = self._cursor
        self._drop_finished()

    def _drop_finished(self) -> None:
        while len(self._runs) > 1 and self._runs[1].segment.base <= self._cursor:
            self._runs.popleft().segment.remove()
            if self._read_run > 0:
                self._read_run -= 1
            else:
                self._read_from = 0

    def _oldest_ms(self) -> int | None:
        """When the record was stored that waits longest."""
        if self._outstanding:
            return self._outstanding[min(self._outstanding)].time_ms
        if self._fill():
            return self._ahead[0].time_ms
        return self._pending[0][0] if self._pending else None
