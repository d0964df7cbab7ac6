"""Two stations joined by a line with a delay, a line rate and faults, in made-up time.

Not a test module: ``conftest.py`` hands it out as the fixture ``line``.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass

from meshwire.hdlc.events import DataReceived, Event, FrameDiscarded
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.secondary import SecondaryStation

AnyStation = PrimaryStation | SecondaryStation


@dataclass
class Faults:
    """What the line does to octets, each with its own probability per octet."""

    flip: float = 0.0
    lose: float = 0.0
    insert: float = 0.0
    seed: int = 1


class FaultySpan:
    """Applies faults; jumps from fault to fault, so that a clean line costs nothing."""

    def __init__(self, faults: Faults) -> None:
        self._random = random.Random(faults.seed)
        self._rate = faults.flip + faults.lose + faults.insert
        self._faults = faults
        self._clean = self._run()
        self.hits = 0

    def _run(self) -> int:
        """Octets until the next fault."""
        if not self._rate:
            return 1 << 60
        return int(math.log(1.0 - self._random.random()) / math.log(1.0 - self._rate))

    def carry(self, data: bytes) -> bytes:
        if self._clean >= len(data):
            self._clean -= len(data)
            return data
        out, at = bytearray(), 0
        while at + self._clean < len(data):
            hit = at + self._clean
            out += data[at:hit]
            self._damage(data[hit], out)
            at, self._clean = hit + 1, self._run()
            self.hits += 1
        self._clean -= len(data) - at
        return bytes(out + data[at:])

    def _damage(self, octet: int, out: bytearray) -> None:
        kind = self._random.random() * self._rate
        if kind < self._faults.flip:
            out.append(octet ^ 1 << self._random.randrange(8))
        elif kind >= self._faults.flip + self._faults.lose:
            out += bytes((octet, self._random.randrange(256)))


class TwoStations:
    """A primary and a secondary, what each was told, and the clock between them."""

    def __init__(
        self,
        primary: PrimaryStation,
        secondary: SecondaryStation,
        *,
        delay_s: float = 0.0,
        baud: int | None = None,
        faults: Faults | None = None,
        chunk: int | None = None,
    ) -> None:
        self.primary, self.secondary = primary, secondary
        self.now = 0.0
        self.told: dict[AnyStation, list[Event]] = {primary: [], secondary: []}
        self.received: dict[AnyStation, list[bytes]] = {primary: [], secondary: []}
        self.wire_log: list[tuple[str, bytes]] = []
        self.keep_log = False
        self.carried_octets = 0
        self.line_busy_s = 0.0
        faults = faults or Faults()
        self.spans = {
            primary: FaultySpan(faults),
            secondary: FaultySpan(Faults(faults.flip, faults.lose, faults.insert, faults.seed + 1)),
        }
        self._delay_s, self._octet_s, self._chunk = delay_s, 10 / baud if baud else 0.0, chunk
        self._free_at = {primary: 0.0, secondary: 0.0}
        self._transit: list[tuple[float, int, AnyStation, bytes]] = []
        self._order = itertools.count()

    def settle(self, station: AnyStation) -> None:
        """What a driver does after each call: write, drain."""
        data = station.data_to_send(self.now)
        if data:
            self._write(station, data)
        while (event := station.next_event()) is not None:
            if isinstance(event, DataReceived):
                self.received[station].append(event.sdu)
            elif not isinstance(event, FrameDiscarded):
                self.told[station].append(event)

    def _write(self, station: AnyStation, data: bytes) -> None:
        if self.keep_log:
            self.wire_log.append(("→" if station is self.primary else "←", data))
        self.carried_octets += len(data)
        peer = self.secondary if station is self.primary else self.primary
        carried = self.spans[station].carry(data)
        step = self._chunk or len(carried) or 1
        begin = max(self.now, self._free_at[station])
        self._free_at[station] = begin + len(data) * self._octet_s
        for at in range(0, len(carried), step):
            piece = carried[at : at + step]
            arrival = begin + (at + len(piece)) * self._octet_s + self._delay_s
            heapq.heappush(self._transit, (arrival, next(self._order), peer, piece))

    def step(self) -> bool:
        """Go to the next thing that happens; False when nothing ever will."""
        for station in (self.primary, self.secondary):
            self.settle(station)
        times = [time for time in (s.next_deadline() for s in (self.primary, self.secondary)) if time is not None]
        if self._transit and (not times or self._transit[0][0] <= min(times)):
            arrival, _, station, piece = heapq.heappop(self._transit)
            self.now = max(self.now, arrival)
            station.receive_data(piece, self.now)
            self.settle(station)
            return True
        if not times:
            return False
        self.now = max(self.now, min(times))
        for station in (self.primary, self.secondary):
            station.handle_timer(self.now)
            self.settle(station)
        return True

    def run(self, *, until_s: float, steps: int = 1_000_000) -> None:
        """Go on until made-up time ``until_s``."""
        for _ in range(steps):
            deadlines = [t for t in (self.primary.next_deadline(), self.secondary.next_deadline()) if t is not None]
            upcoming = deadlines + [item[0] for item in self._transit[:1]]
            if not upcoming or min(upcoming) > until_s:
                self.now = until_s
                return
            self.step()
        raise AssertionError(f"more than {steps} steps before {until_s} s")
