"""The CoAP endpoint on port 5683: which datagram goes to whom, and the group commit behind the answers to NICs.

Datagrams are decoded by the pure codec. Requests of NICs go to the sink; everything else goes to `clients`.
What is no CoAP message is counted and, where its header can be read and it is confirmable, answered by a Reset
(RFC 7252 section 4.2). Nothing that arrives makes the reader raise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from gateway.addresses import Address
from gateway.cancellation import to_its_end
from gateway.outbox import Commit
from gateway.sink import Sink, is_for_sink
from gateway.sockets import DatagramSockets
from gateway.statistics import Event, Statistics
from meshwire.coap import CON, RST, Message, MessageError, codes, decode, encode

__all__ = ["ClientSide", "Endpoint", "Store"]

_log = structlog.get_logger(__name__)


class ClientSide(Protocol):
    """Who takes the datagrams that are not for the sink."""

    def receive(self, octets: bytes, message: Message, source: Address) -> None:
        """Take one datagram and what the pure codec read in it."""


class Store(Protocol):
    """What the group commit asks of the outbox, or of what stands in its place."""

    def begin_commit(self) -> Commit | None:
        """Everything taken in since the last one, as one batch."""

    def finish_commit(self, commit: Commit) -> None:
        """The batch is written."""

    def fail_commit(self, commit: Commit) -> None:
        """The batch could not be written."""


class Endpoint:
    """See the module's text.

    Args:
        sockets: bound, not yet started.
        sink: requests of NICs.
        outbox: committed here, a batch at a time, on a worker thread.
        clients: everything else.
        statistics: counted here.
        sync: whether a commit waits for the disk.
        on_stored: called after each commit: there is something to publish.
        is_own: which requests the sink takes.
    """

    def __init__(
        self,
        sockets: DatagramSockets,
        sink: Sink,
        outbox: Store,
        clients: ClientSide,
        statistics: Statistics,
        *,
        sync: bool,
        on_stored: Callable[[], None],
        is_own: Callable[[Message], bool] = is_for_sink,
    ) -> None:
        self._sockets = sockets
        self._sink = sink
        sink.on_answer = lambda datagram: sockets.send(datagram.octets, datagram.to)
        self._outbox = outbox
        self._clients = clients
        self._statistics = statistics
        self._sync = sync
        self._on_stored = on_stored
        self._is_own = is_own
        self._writer: ThreadPoolExecutor | None = None
        self._writing: asyncio.Future[OSError | None] | None = None
        self._is_refused = False
        """The system did not take the last batch."""

    async def run(self) -> None:
        """Serve until cancelled. On the way out, what was taken in is still committed and answered."""
        with ThreadPoolExecutor(1, thread_name_prefix="outbox") as self._writer:
            self._sockets.start(self._receive)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._sockets.stop()
                try:
                    await to_its_end(asyncio.create_task(self._finish(), name="last group commit"))
                finally:
                    self._sockets.close()

    async def _finish(self) -> None:
        while self._writing is not None:
            await asyncio.wait({self._writing})

    def passed_on(self, octets: bytes, source: Address) -> None:
        """A datagram that another process has received, and that is ours to answer."""
        self._receive([(octets, source)])

    # --- datagrams

    def _receive(self, datagrams: list[tuple[bytes, Address]]) -> None:
        rest, now, now_s = iter(datagrams), time.monotonic(), time.time()
        while True:
            try:
                self._sink.receive_all(rest, now, now_s, self._receive_other)
                break
            except Exception:  # A fault of ours must not end the service for everybody else.
                self._statistics.count(Event.MALFORMED, "internal")
                _log.exception("a notification could not be handled")
        if self._writing is None and self._sink.is_waiting:
            self._commit()

    def _receive_other(self, octets: bytes, source: Address) -> None:
        try:
            message = decode(octets)
        except MessageError as error:
            self._statistics.count(Event.MALFORMED, error.reason)
            if error.mtype == CON and error.mid is not None:
                self._sockets.send(encode(Message(RST, codes.EMPTY, error.mid)), source)
            return
        try:
            self._route(octets, message, source)
        except Exception:  # A fault of ours must not end the service for everybody else.
            self._statistics.count(Event.MALFORMED, "internal")
            _log.exception("a datagram could not be handled", source=str(source), octets=len(octets))

    def _route(self, octets: bytes, message: Message, source: Address) -> None:
        if not self._is_own(message):
            self._statistics.count(Event.DATAGRAM, "client")
            self._clients.receive(octets, message, source)
            return
        self._statistics.count(Event.DATAGRAM, "sink")
        answer = self._sink.receive(message, source, time.monotonic(), time.time())
        if answer is not None:
            self._sockets.send(answer.octets, answer.to)

    # --- the group commit

    def _commit(self) -> None:
        """Write everything taken in so far as one batch, then answer: while the disk works, the next batch gathers."""
        commit = self._outbox.begin_commit()
        self._sink.committing()
        if commit is None:
            # Only repetitions of what an earlier commit has settled.
            self._sockets.send_all(self._sink.committed())
        elif self._sync and self._writer is not None:
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._writer, _write, commit, True)
            self._writing.add_done_callback(lambda done: self._written(commit, done.result()))
        else:
            self._written(commit, _write(commit, False))

    def _written(self, commit: Commit, error: OSError | None) -> None:
        self._writing = None
        if error is None:
            if self._is_refused:
                self._is_refused = False
                _log.info("the outbox can be written again")
            self._outbox.finish_commit(commit)
            answers = self._sink.committed()
            self._on_stored()
        else:
            if not self._is_refused:  # said once: NICs come back every few seconds
                self._is_refused = True
                _log.error(
                    "the outbox can't be written; NICs are asked to come back",
                    error=str(error),
                    do="make room on the disk of the state folder, or give the right to write there",
                )
            self._outbox.fail_commit(commit)
            answers = self._sink.failed()
        self._sockets.send_all(answers)
        if self._sink.is_waiting and self._writing is None:
            self._commit()


def _write(commit: Commit, sync: bool) -> OSError | None:
    """Runs on the writer's thread."""
    try:
        commit.write(sync=sync)
    except OSError as error:
        return error
    return None
