"""One turn of the event loop: first all sockets are read, then what they brought is worked off, then octets leave, once
per connection and not before what they answer for is durable.

The three follow each other for all connections together, because a processor that goes from socket to packet to socket
and back for each of 500 publishers finds neither the kernel's nor our instructions in its cache.

Decides the order "commit, then send" and what waits for which commit. At most one commit is under way; everything that
happens meanwhile goes with the next one. Without a journal nothing waits, and each turn sends at its end.
"""

import asyncio
from typing import Final, Protocol

from broker.journal import Journal
from broker.statistics import Statistics
from broker.writer import BatchWriter

__all__ = ["Flushable", "Turn", "Workable"]

REST_DELAY_S: Final = 0.1
"""How long changes wait on which no answer depends."""


class Workable(Protocol):
    """Something that has received octets."""

    def work_off(self) -> None:
        """Does what they ask for; raises nothing."""


class Flushable(Protocol):
    """Something with octets to send."""

    def seal(self) -> None:
        """What was written so far waits for the commit that begins now."""

    def release(self) -> None:
        """The commit is done: hands what was sealed to the transport."""

    def flush(self) -> None:
        """Hands everything to the transport."""


class Turn:
    """See the module; runs at most once in a turn of the loop.

    Args:
        loop: the loop.
        journal: what must be durable first; None: nothing.
        writer: makes it so; there when the journal is.
        statistics: counts commits.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: Journal | None = None,
        writer: BatchWriter | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self._statistics = statistics or Statistics()
        self.is_direct = journal is None or writer is None
        """Octets may leave at any time."""
        self._loop = loop
        self._journal = journal
        self._writer = writer
        self._heard: list[Workable] = []
        self._waiting: list[Flushable] = []
        self._sealed: list[Flushable] = []
        self._is_scheduled = False
        self._is_committing = False
        self._has_failed = False
        self._rest_timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        if journal is not None:
            journal.on_change = self._on_change

    def heard(self, connection: Workable) -> None:
        """`connection` has received octets; it is called when all sockets that have some now are read."""
        self._heard.append(connection)
        if not self._is_scheduled:
            self._schedule()

    def add(self, connection: Flushable) -> None:
        """`connection` has octets to send; it is called when the octets received in this turn are worked off and the
        changes they made are durable.
        """
        self._waiting.append(connection)
        if not self._is_scheduled:
            self._schedule()

    async def drain(self) -> None:
        """Returns when everything is durable and sent; at the end of the broker."""
        while True:
            self._turn(with_rest=True)
            if not self._is_committing or self._has_failed:
                return
            self._idle.clear()
            await self._idle.wait()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._turn)

    def _on_change(self) -> None:
        assert self._journal is not None
        if self._journal.is_urgent:
            if not self._is_scheduled:
                self._schedule()
        elif self._rest_timer is None:
            self._rest_timer = self._loop.call_later(REST_DELAY_S, lambda: self._turn(with_rest=True))

    def _turn(self, *, with_rest: bool = False) -> None:
        heard, self._heard = self._heard, []
        for reader in heard:
            reader.work_off()
        self._is_scheduled = False
        if self._is_committing:
            return  # what came since then goes with the next commit
        waiting, self._waiting = self._waiting, []
        journal = self._journal
        if journal is None or not (journal.is_urgent or (with_rest and journal.has_changes)):
            for connection in waiting:
                connection.flush()
            return
        for connection in waiting:
            connection.seal()
        self._sealed = waiting
        self._commit(journal)

    def _commit(self, journal: Journal) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        assert self._writer is not None
        self._is_committing = True
        self._writer.submit(journal.take(), self._on_committed)

    def _on_committed(self, is_durable: bool) -> None:
        if not is_durable:
            self._has_failed = True  # nothing may leave any more; the broker ends
            self._idle.set()
            return
        self._statistics.commits += 1
        sealed, self._sealed = self._sealed, []
        for connection in sealed:
            connection.release()
        self._is_committing = False
        self._idle.set()
        self._turn()
