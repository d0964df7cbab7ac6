"""One write per connection and loop turn: connections with something to send put themselves here, and all are flushed
together.
"""

import asyncio
from typing import Protocol

__all__ = ["Flusher"]


class Flushable(Protocol):
    """Something with octets to send."""

    def flush(self) -> None:
        """Hands them to the transport."""


class Flusher:
    """Runs at most once in a turn of the loop; the place where a durable store will commit before anything is
    acknowledged.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Flushable] = []

    def add(self, connection: Flushable) -> None:
        """`connection.flush()` is called once, when the octets received in this turn are worked off."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(connection)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()
