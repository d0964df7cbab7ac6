"""The wake line: a modem-control input (CTS, DSR, RI, CD) on which a board says "I have something for you".

A pulse lasts 1 to 2 ms, so reading the level would miss it; the kernel counts the edges (TIOCGICOUNT), and a timer
looks at the count. Not TIOCMIWAIT in a thread: a thread waiting there keeps the port open, and locked, after it was
closed, and nothing but the next edge wakes it.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import structlog

from hardware.errors import PortProblem

__all__ = ["WakeInput", "WakeLine", "edge_counter"]

LOOK_EVERY_S: Final = 0.01
"""Far below the 400 ms a board takes to answer anything, and 100 system calls a second."""

_TIOCGICOUNT: Final = 0x545D
_COUNTER_FORMAT: Final = "20i"
"""struct serial_icounter_struct: cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun, 9 spare."""

_log = structlog.get_logger(__name__)


class WakeInput(StrEnum):
    """Which input the wake line is wired to."""

    CTS = "cts"
    DSR = "dsr"
    RI = "ri"
    CD = "cd"
    NONE = "none"


_FIELD: Final = {WakeInput.CTS: 0, WakeInput.DSR: 1, WakeInput.RI: 2, WakeInput.CD: 3}


def edge_counter(fd: int, wake: WakeInput) -> Callable[[], int] | None:
    """A function that reads how many edges the input has seen; None where the driver does not count them."""
    if wake is WakeInput.NONE or not sys.platform.startswith("linux"):
        return None
    import fcntl

    def edges() -> int:
        octets = fcntl.ioctl(fd, _TIOCGICOUNT, bytes(struct.calcsize(_COUNTER_FORMAT)))
        return int(struct.unpack(_COUNTER_FORMAT, octets)[_FIELD[wake]])

    try:
        edges()
    except OSError as error:
        _log.warning("wake line not watched", wake=wake.value, code=PortProblem.NO_WAKE_LINE.value, error=str(error))
        return None
    return edges


class WakeLine:
    """Looks at an edge counter and calls back once for all edges since the last look.

    Args:
        edges: reads the counter; an OSError from it ends the watch.
        attend: called for each look that finds new edges.
    """

    def __init__(self, edges: Callable[[], int], attend: Callable[[], None]) -> None:
        self._edges = edges
        self._attend = attend
        self._seen = edges()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(LOOK_EVERY_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        try:
            edges = self._edges()
        except OSError:
            return
        # Armed before the callback, which may close this.
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        if edges != self._seen:
            self._seen = edges
            self._attend()
