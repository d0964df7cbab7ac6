"""Many deadlines behind one timer of the event loop.

A deadline can't be taken back: the function called at it looks whether there is still something to do. That costs a
fraction of a timer handle of the loop, and nearly every deadline here is for something that does not come to pass.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

import structlog

__all__ = ["Deadlines"]

_log = structlog.get_logger(__name__)


class Deadlines:
    """See the module's text. `now` is the loop's clock in seconds."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def open(self) -> None:
        """Must be called on the running loop before the first deadline."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Nothing is called any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop = None

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call a function at a time of the loop's clock; after `close` nothing happens."""
        if self._loop is None:
            return
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, call))
        if self._timer is None or when < self._armed_for:
            self._arm(self._loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = self._heap[0][0]
        self._timer = loop.call_at(self._armed_for, self._fire)

    def _fire(self) -> None:
        self._timer = None
        heap, loop = self._heap, self._loop
        if loop is None:
            return
        now = loop.time()
        while heap and heap[0][0] <= now:
            call = heapq.heappop(heap)[2]
            try:
                call()
            except Exception:  # A fault in one must not stop all others.
                _log.exception("a deadline could not be handled")
        if heap and self._timer is None:
            self._arm(loop)
