"""A fleet: light NICs, one wheel, one socket, one timer of the event loop. The assembly file of this package.

It owes its NICs what `nic.Host` says, counts what happens, and measures what it costs.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshwire.identity import DeviceId
from nic_sim.fleet.addresses import LoopbackAddresses, PrefixAddresses
from nic_sim.fleet.board import LightBoard
from nic_sim.fleet.histogram import Histogram
from nic_sim.fleet.nic import Fate, LightNic, NicPlan, Reading
from nic_sim.fleet.transport import SocketAddress, Transport
from nic_sim.fleet.watched import WatchedNics
from nic_sim.fleet.wheel import TimerWheel
from nic_sim.fleet.wire import WireKind, make_wire
from nic_sim.instruments import Instruments

__all__ = ["FIRST_MAC", "Addresses", "Fleet", "Resources", "device_id", "resources_now"]

FIRST_MAC: Final = 0x001350_05F0_000000
"""The vendor's block of the dialect's examples, far from the demo's devices."""
TICK_S: Final = 0.01
LONG_PERIOD_S: Final = 3600.0
"""With a longer period, first readings come with the start."""
NICS_A_TURN: Final = 500
"""After so many the loop reads what has come: a whole fleet in one turn would overflow the socket's buffer."""
_REGISTERED: Final = 1
_REPORTED: Final = 2
INSTALLED_S: Final = 1_600_000_000.0

Addresses = LoopbackAddresses | PrefixAddresses


def device_id(number: int, first_mac: int = FIRST_MAC) -> DeviceId:
    """The MAC of NIC `number`."""
    return DeviceId(f"{first_mac + number:016x}")


class Fleet:
    """See the module's text.

    Args:
        count: NICs.
        plan: what they have in common.
        transport: bound, not started.
        addresses: which address each one has.
        gateways: where they post.
        seed: for values, waits and the order of start.
        spread_s: starts are spread evenly over this time; None: over the period. A NIC's first reading is due as long
            after its start as spreads the readings evenly over the period.
        wire: between NIC and board.
        first_mac: of NIC 0.
    """

    def __init__(
        self,
        count: int,
        plan: NicPlan,
        transport: Transport,
        addresses: Addresses,
        gateways: Sequence[SocketAddress],
        *,
        seed: int = 1,
        spread_s: float | None = None,
        wire: WireKind = WireKind.NONE,
        first_mac: int = FIRST_MAC,
    ) -> None:
        self.plan = plan
        self.watched = WatchedNics()
        self.counters: Counter[str] = Counter()
        self.acknowledged_after = Histogram()
        """From a board's report to the gateway's 2.04."""
        self.all_registered = asyncio.Event()
        self.all_reported = asyncio.Event()
        """Every NIC has had one reading acknowledged."""
        self._transport = transport
        self._addresses = addresses
        self._gateways = tuple(gateways)
        self._random = random.Random(seed)
        self._spread_s = plan.period_s if spread_s is None else spread_s
        self._unregistered = self._unreported = count
        self._known = bytearray(count)
        self._unix_offset_s = self._began_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_serving = False
        epoch = int(time.time())
        self._wheel: TimerWheel[LightNic] = TimerWheel(TICK_S)
        self.nics = [
            LightNic(n, device_id(n, first_mac), make_wire(wire, LightBoard(seed, n)), self, epoch)
            for n in range(count)
        ]

    @property
    def queued(self) -> int:
        """Readings that wait in NICs or for their answer."""
        return self.counters["made"] - self.counters["taken"] - self.counters["dropped"]

    async def run(self) -> None:
        """Be a fleet until cancelled."""
        loop = asyncio.get_running_loop()
        self._unix_offset_s = time.time() - loop.time()
        self._transport.start(self._receive)
        now = self._began_at = loop.time()
        for nic in self.nics:
            self._wheel.set(nic, now + self._spread_s * nic.number / len(self.nics))
        self._arm()
        try:
            await loop.create_future()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._transport.close()

    def stop_reporting(self) -> None:
        """No further readings; what has been made still goes to the gateway."""
        for nic in self.nics:
            nic.stop_reporting()

    # --- what a NIC asks of its host

    def send_up(self, nic: LightNic, octets: bytes, gateway: int) -> None:
        """See `Host`."""
        self._transport.send(octets, self._addresses.of(nic.number, nic.mac), self._gateways[gateway])

    def schedule(self, nic: LightNic, at: float) -> None:
        """See `Host`."""
        self._wheel.set(nic, at)
        if not self._is_serving:
            self._arm()

    def random(self) -> float:
        """See `Host`."""
        return self._random.random()

    def unix_time(self, now: float) -> float:
        """See `Host`."""
        return self._unix_offset_s + now

    def instruments(self, nic: LightNic) -> Instruments:
        """See `Host`."""
        return Instruments(nic.mac.value, INSTALLED_S)

    def made(self, nic: LightNic, reading: Reading, now: float) -> None:
        """See `Host`."""
        self.counters["made"] += 1

    def settled(self, nic: LightNic, reading: Reading, fate: Fate, now: float) -> None:
        """See `Host`."""
        self.counters["taken" if fate is Fate.TAKEN else "dropped"] += 1
        self.counters[fate.value] += fate is not Fate.TAKEN
        if fate is Fate.TAKEN:
            self.acknowledged_after.add(max(0.0, self.unix_time(now) - reading.time_s))
            if not self._known[nic.number] & _REPORTED:
                self._known[nic.number] |= _REPORTED
                self._unreported -= 1
                if not self._unreported:
                    self.all_reported.set()

    def registered(self, nic: LightNic, now: float) -> None:
        """See `Host`."""
        self.counters["registrations"] += 1
        if not self._known[nic.number] & _REGISTERED:
            self._known[nic.number] |= _REGISTERED
            self._unregistered -= 1
            if not self._unregistered:
                self.all_registered.set()

    # --- private

    def _first_report_at(self, nic: LightNic) -> float:
        period_s = self.plan.period_s if self.plan.period_s <= LONG_PERIOD_S else self._spread_s
        return self._began_at + period_s * nic.number / len(self.nics)

    def _receive(self, octets: bytes, address: bytes, source: SocketAddress) -> None:
        number = self._addresses.number(address)
        if not 0 <= number < len(self.nics):
            self.counters["not-for-us"] += 1
            return
        now = asyncio.get_running_loop().time()
        answer = self.nics[number].receive(octets, source, now)
        if answer is not None:
            self.counters["answers"] += 1
            self._transport.send(answer, address, source)

    def _arm(self) -> None:
        """One timer for everybody: at the wheel's next tick."""
        at, timer = self._wheel.next_at(), self._timer
        if timer is not None:
            if at is not None and timer.when() <= at:
                return
            timer.cancel()
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self._turn)

    def _turn(self) -> None:
        """Whoever is due has a turn; sockets are served in between."""
        self._timer = None
        self._is_serving = True
        now = asyncio.get_running_loop().time()
        for nic in self._wheel.due(now, NICS_A_TURN):
            if nic.is_on:
                nic.due(now)
            else:
                nic.start(now, max(now, self._first_report_at(nic)))
        self._is_serving = False
        self._arm()


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process costs."""

    resident_octets: int
    processor_s: float
    descriptors: int
    threads: int


def resources_now() -> Resources:
    """Of this process, from /proc."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    times = os.times()
    return Resources(
        int(status["VmRSS"].split()[0]) * 1024,
        times.user + times.system,
        sum(1 for _ in Path("/proc/self/fd").iterdir()),
        int(status["Threads"]),
    )
