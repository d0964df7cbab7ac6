"""The thread that commits: one batch at a time, so that all changes of the loop turns meanwhile go with the next one.

Does not decide what a batch holds or who waits for it. When the store fails it tries again for a while, then reports
the failure and writes no more: the broker then ends without having acknowledged anything it can't keep.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import structlog

from broker.errors import StoreError
from broker.journal import Batch
from broker.store import Store, store_error

__all__ = ["BatchWriter", "Writer"]

ATTEMPTS: Final = 4
PAUSE_S: Final = 0.5
"""Between two attempts to commit the same batch."""

T = TypeVar("T")

_log = structlog.get_logger()


class BatchWriter(Protocol):
    """Whatever makes a batch durable and says when."""

    def submit(self, batch: Batch, done: Callable[[bool], None]) -> None:
        """`done` is called in the loop: with True when the batch is durable, with False when that failed for good."""


class Writer:
    """See the module.

    Args:
        store: used by this thread alone from `start` to `close`.
        loop: where `done` is called.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._failed: asyncio.Future[None] = loop.create_future()
        self._queue: queue.SimpleQueue[tuple[Batch, Callable[[bool], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="broker-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def watch(self) -> None:
        """Waits until the store can't be written any more, and raises its StoreError."""
        await asyncio.shield(self._failed)

    def submit(self, batch: Batch, done: Callable[[bool], None]) -> None:
        self._queue.put((batch, done))

    def close(self) -> None:
        """Ends the thread after what was submitted; waits for it."""
        self._queue.put(None)
        self._thread.join()
        if self._failed.done():
            self._failed.exception()  # told to whoever watched
        else:
            self._failed.cancel()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            batch, done = job
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                self._tell(self._fail, store_error(self._store.path, error))
                self._tell(done, False)
                return
            self._tell(done, True)
            try:
                self._store.tidy()
            except sqlite3.Error as error:  # the next commit tells whether it matters
                _log.warning("checkpoint failed", error=str(error))

    def _commit(self, batch: Batch) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._store.apply(batch)
                return
            except sqlite3.OperationalError as error:
                if attempt == ATTEMPTS:
                    raise
                _log.warning("commit failed, tried again", error=str(error), attempt=attempt)
                time.sleep(PAUSE_S)

    def _tell(self, callback: Callable[[T], None], value: T) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(callback, value)

    def _fail(self, failure: StoreError) -> None:
        _log.error("store failed", error=str(failure))
        if not self._failed.done():
            self._failed.set_exception(failure)
