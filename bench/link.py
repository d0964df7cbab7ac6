"""`meshwire bench link`: how much of a serial line carries payload, and how fast frames are coded.

Line use: a board and a NIC with the standard profile, each on its Link, joined by a real pseudo-terminal whose board
end keeps the line rate; the board sends SDUs of 200 octets as fast as the link takes them. The share is payload octets
a second ÷ (baud ÷ 10), from the first SDU that arrives to the last. A frame of 200 octets is 211 octets on the line, so
the share can never be above 0.948.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from bench.codec import measure_codec
from bench.result import Figure, Result
from hardware.ports import open_port
from meshwire.hdlc.events import DataReceived, Event
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import STANDARD
from meshwire.hdlc.secondary import SecondaryStation
from meshwire.link import Link
from meshwire.pipe import Pipe, RateLimitedPipe, open_pty

__all__ = ["LineUse", "line_use", "measure"]

_PAYLOAD: Final = bytes(200)


@dataclass(frozen=True, slots=True)
class LineUse:
    """One case.

    Args:
        case: its name in the JSON lines.
        baud: line rate.
        window: frames a turn.
        sdus: how many are sent in one quick run.
        bar: share to be reached.
    """

    case: str
    baud: int
    window: int
    sdus: int
    bar: float | None = None


_CASES: Final = (
    LineUse("line-use", 115_200, 7, 197, 0.90),
    LineUse("line-use-9600", 9_600, 7, 22),
    LineUse("line-use-38400", 38_400, 7, 71),
    LineUse("line-use-921600", 921_600, 7, 750),
    LineUse("line-use-window-1", 115_200, 1, 150),
    LineUse("line-use-window-1-9600", 9_600, 1, 15),
    LineUse("line-use-window-1-921600", 921_600, 1, 400),
)
"""The SDUs are whole windows after the first SDU, so that no case gains by ending in the middle of one."""


def measure(quick: bool) -> Iterator[Result]:
    """All cases; quick: one run of some seconds each, else the median of three runs."""
    for case in _CASES:
        shares = [asyncio.run(line_use(case)) for _ in range(1 if quick else 3)]
        note = f"real pty, {case.baud} baud, window {case.window}, payload of {len(_PAYLOAD)} octets board to NIC"
        yield Figure("link", case.case, shares, "fraction", case.bar, note)
    yield from measure_codec(quick)


async def line_use(case: LineUse) -> float:
    """The share of the line's octets that is payload, in one run."""
    profile = replace(STANDARD, baud=case.baud, window=case.window)
    pty = open_pty()
    port = await open_port(pty.peer_path, baud=case.baud)
    board = Link(_once(RateLimitedPipe(pty, case.baud)), SecondaryStation(profile), name="nic")
    nic = Link(_once(port), PrimaryStation(profile), name="board")
    arrivals = _Arrivals(case.sdus)
    nic.subscribe(arrivals.listen)
    for _ in range(case.sdus):
        board.send(_PAYLOAD)
    tasks = [asyncio.create_task(link.run()) for link in (board, nic)]
    try:
        async with asyncio.timeout(60 + case.sdus * 2200 / case.baud * 3):
            await arrivals.complete.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return arrivals.octets_per_s * 10 / case.baud


class _Arrivals:
    """When the first and the last SDU came."""

    def __init__(self, expected: int) -> None:
        self.complete = asyncio.Event()
        self._expected = expected
        self._times: list[float] = []

    def listen(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._times.append(asyncio.get_running_loop().time())
            if len(self._times) == self._expected:
                self.complete.set()

    @property
    def octets_per_s(self) -> float:
        return (len(self._times) - 1) * len(_PAYLOAD) / (self._times[-1] - self._times[0])


def _once(pipe: Pipe) -> Callable[[], Awaitable[Pipe]]:
    async def open_pipe() -> Pipe:
        return pipe

    return open_pipe
