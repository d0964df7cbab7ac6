"""Copies of notifications for the aliases, on disk before the NIC gets its answer.

A `Tee` stands between the endpoint and the outbox: what is committed there is committed to the queue of each alias
that wants it, first. So no crash leaves a notification with the bridge's broker alone; one that is in an alias's queue
only was never acknowledged to its NIC, comes again, and is told apart by its key. A queue that is full or whose disk
fails counts a loss of its own and holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from gateway.aliases.packets import AliasPackets
from gateway.envelope import EnvelopeError, StoredNotification, unpack
from gateway.outbox import Commit, Outbox, OutboxFull
from gateway.statistics import Event, Statistics

__all__ = ["AliasQueue", "Tee"]

_log = structlog.get_logger(__name__)


class AliasQueue:
    """The notifications that wait for one alias.

    Args:
        name: of the alias.
        outbox: its own durable log.
        packets: says what the alias wants.
        statistics: of the alias.
    """

    def __init__(self, name: str, outbox: Outbox, packets: AliasPackets, statistics: Statistics) -> None:
        self.name = name
        self.outbox = outbox
        self.packets = packets
        self.on_stored: Callable[[], None] = lambda: None
        self.statistics = statistics
        self._is_full = False
        self._committing = False
        self._closing = False

    def take(self, payload: bytes, time_ms: int) -> None:
        """Into the next commit; what does not fit is counted as lost for this alias."""
        try:
            self.outbox.append(payload, time_ms)
        except OutboxFull:
            self.statistics.count(Event.LOST, "queue-full")
            if not self._is_full:
                _log.warning("the queue of an alias is full; notifications are lost for it", alias=self.name)
            self._is_full = True
        else:
            self._is_full = False
            self.statistics.count(Event.STORED)

    def begin(self) -> Commit | None:
        """What was taken, to be written."""
        commit = self.outbox.begin_commit()
        self._committing = commit is not None
        return commit

    def finish(self, commit: Commit, error: OSError | None) -> None:
        """The batch is written, or can't be."""
        self._committing = False
        if error is None:
            self.outbox.finish_commit(commit)
        else:
            self.outbox.fail_commit(commit)
            self.statistics.count(Event.LOST, "disk", commit.count)
            _log.error("the queue of an alias can't be written", alias=self.name, error=str(error))
        if self._closing:
            self.outbox.close()
        else:
            self.on_stored()

    def close(self) -> None:
        """Let go of the files, once a batch under way is written."""
        self._closing = True
        if not self._committing:
            self.outbox.close()


@dataclass(frozen=True, slots=True)
class _Copy:
    queue: AliasQueue
    commit: Commit


@dataclass(frozen=True, slots=True)
class _TeeCommit(Commit):
    """A batch of the outbox with its copies."""

    copies: tuple[_Copy, ...]
    errors: dict[str, OSError]

    def write(self, *, sync: bool) -> None:
        """See `Commit.write`; an alias's disk error is kept for `finish_commit`."""
        for copy in self.copies:
            try:
                copy.commit.write(sync=sync)
            except OSError as error:
                self.errors[copy.queue.name] = error
        Commit.write(self, sync=sync)


class Tee:
    """See the module's text; in the outbox's place for those who commit.

    Args:
        outbox: the bridge's.
        queues: the queues of the aliases that publish now.
    """

    def __init__(self, outbox: Outbox, queues: Callable[[], Iterable[AliasQueue]]) -> None:
        self._outbox = outbox
        self._queues = queues

    def begin_commit(self) -> Commit | None:
        """See `Outbox.begin_commit`."""
        queues = list(self._queues())
        commit = self._outbox.begin_commit()
        if commit is None or not queues:
            return commit
        _distribute(commit, queues)
        copies = tuple(_Copy(queue, copy) for queue in queues if (copy := queue.begin()) is not None)
        return _TeeCommit(commit.segment, commit.octets, commit.first, commit.entries, copies, {})

    def finish_commit(self, commit: Commit) -> None:
        """See `Outbox.finish_commit`."""
        self._outbox.finish_commit(commit)
        self._settle(commit)

    def fail_commit(self, commit: Commit) -> None:
        """See `Outbox.fail_commit`; the copies stay: their senders will come again."""
        self._outbox.fail_commit(commit)
        self._settle(commit)

    def _settle(self, commit: Commit) -> None:
        if isinstance(commit, _TeeCommit):
            for copy in commit.copies:
                copy.queue.finish(copy.commit, commit.errors.get(copy.queue.name))


def _distribute(commit: Commit, queues: Sequence[AliasQueue]) -> None:
    choosy = [queue for queue in queues if not queue.packets.takes_all]
    generous = [queue for queue in queues if queue.packets.takes_all]
    for time_ms, payload, _ in commit.entries:
        for queue in generous:
            queue.take(payload, time_ms)
        if choosy and (stored := _read(payload)) is not None:
            for queue in choosy:
                if queue.packets.wants(stored):
                    queue.take(payload, time_ms)


def _read(payload: bytes) -> StoredNotification | None:
    try:
        return unpack(payload)
    except EnvelopeError:
        return None
