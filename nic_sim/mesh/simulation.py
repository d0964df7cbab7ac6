"""A scenario, put together: light NICs with their boards, the mesh between them and a gateway, what happens, what is
written down. This is the package's assembly file.

The gateway is handed in (`Gateway`): components meet on the wire, so it gets datagrams and addresses and nothing else.
Everything hangs on one agenda and one seed; two runs with the same seed write the same trace, octet for octet.
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Callable
from functools import partial
from typing import IO, Final, Protocol

from meshwire.identity import DeviceId
from nic_sim.fleet.board import LightBoard
from nic_sim.fleet.nic import Fate, LightNic, NicPlan, Reading
from nic_sim.fleet.watched import WatchedNics
from nic_sim.fleet.wire import WireKind, make_wire
from nic_sim.instruments import Battery, Instruments, Signal
from nic_sim.mesh.agenda import Agenda
from nic_sim.mesh.ledger import Ledger, ReadingKey
from nic_sim.mesh.mesh import Mesh
from nic_sim.mesh.scenario import Action, Event, Group, Scenario

__all__ = ["BEGIN_S", "FIRST_MAC", "Gateway", "Simulation"]

FIRST_MAC: Final = 0x0013_5005_F100_0000
BEGIN_S: Final = 1_700_000_000.0
"""Unix time at the begin of every scenario."""
EPOCH: Final = 1
_GATEWAY: Final = "gateway"


class Gateway(Protocol):
    """Who stands for the gateway."""

    def receive(self, octets: bytes, address: bytes) -> None:
        """A datagram of a NIC, from its address (16 octets)."""

    def order(self, mac: DeviceId, ttl_s: float) -> None:
        """Send a command that may wait so long."""


class _MeshInstruments(Instruments):
    """Battery and signal follow from the traffic."""

    def __init__(self, mac: DeviceId, mesh: Mesh, number: int) -> None:
        super().__init__(mac.value, BEGIN_S)
        self._mesh = mesh
        self._number = number

    def battery(self, unix_s: float) -> Battery:
        return self._mesh.battery(self._number)

    def signal(self, unix_s: float) -> Signal:
        return self._mesh.signal(self._number)


class Simulation:
    """See the module's text.

    Args:
        scenario: what is simulated.
        seed: of everything; None: the scenario's own.
        wire: between NIC and board.
        trace: where every event is written, a JSON object a line; None: nowhere.
        watch: told of every event, too.
        make_gateway: gives the gateway; called with the simulation, the way to send a datagram to an address, the
            function to tell of each reading that is stored, and that for each command's final event (its name).
    """

    def __init__(
        self,
        scenario: Scenario,
        make_gateway: Callable[
            [Simulation, Callable[[bytes, bytes], None], Callable[[ReadingKey], None], Callable[[str], None]], Gateway
        ],
        *,
        seed: int | None = None,
        wire: WireKind = WireKind.NONE,
        trace: IO[str] | None = None,
        watch: Callable[[dict[str, object]], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.seed = scenario.seed if seed is None else seed
        self.agenda = Agenda()
        self.ledger = Ledger()
        nics = scenario.nics
        self.watched = WatchedNics()
        self.plan = NicPlan(period_s=nics.period_s, register_s=nics.register_s, queue_limit=nics.queue_limit)
        self.macs = [DeviceId(f"{FIRST_MAC + number:016x}") for number in range(nics.count)]
        self.registrations = 0
        self.latencies_by_hops: dict[int, array[float]] = {}
        """Of stored readings, by the hops of their NIC at that time; in seconds."""
        self._trace = trace
        self._watch = watch
        self._digest = hashlib.sha256()
        self._random = random.Random(f"nics/{self.seed}")
        self._chance = random.Random(f"events/{self.seed}")
        self.mesh = Mesh(scenario, self.macs, self.agenda, self, self.seed)
        self.nics = [
            LightNic(number, mac, make_wire(wire, LightBoard(self.seed, number)), self, EPOCH)
            for number, mac in enumerate(self.macs)
        ]
        self.mesh.tell_all()
        self._instruments = [_MeshInstruments(mac, self.mesh, number) for number, mac in enumerate(self.macs)]
        self._gateway = make_gateway(self, self.mesh.send_down, self._stored, self._command_ended)
        for nic in self.nics:
            self.agenda.at(nics.period_s * self._random.random(), self._start, nic)
        for event in scenario.event:
            self.agenda.at(event.at, self._begin, event)

    # --- running

    @property
    def is_over(self) -> bool:
        """The scenario's own time is over; what is under way may still arrive."""
        return self.agenda.now > self.scenario.duration_s

    def run(self, on_progress: Callable[[float], None] = lambda share: None) -> None:
        """Play the whole scenario, and give what is under way its time."""
        end_s = self.scenario.duration_s + self.scenario.drain_s
        steps = 100
        for step in range(1, steps + 1):
            self.agenda.run_until(end_s * step / steps)
            on_progress(step / steps)
        self._close()

    def run_in_real_time(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        """The same, a second a second: waits by `sleep` until `clock` (seconds) has come to each event."""
        end_s = self.scenario.duration_s + self.scenario.drain_s
        began = clock()
        while (due := self.agenda.next_at()) is not None and due <= end_s:
            ahead_s = due - (clock() - began)
            if ahead_s > 0:
                sleep(ahead_s)
            self.agenda.run_until(due)
        self.agenda.run_until(end_s)
        self._close()

    def _close(self) -> None:
        waiting = {self._key(nic, reading) for nic in self.nics for reading in nic.waiting}
        self.ledger.close(waiting)

    @property
    def digest(self) -> str:
        """SHA-256 of the trace so far."""
        return self._digest.hexdigest()

    # --- what NICs ask of their host

    def send_up(self, nic: LightNic, octets: bytes, gateway: int) -> None:
        """See `nic_sim.fleet.nic.Host`."""
        self.mesh.send_up(nic.number, octets)

    def schedule(self, nic: LightNic, at: float) -> None:
        """See `Host`."""
        self.agenda.at(at, self._due, nic, at)

    def random(self) -> float:
        """See `Host`."""
        return self._random.random()

    def unix_time(self, now: float) -> float:
        """See `Host`."""
        return BEGIN_S + now

    def instruments(self, nic: LightNic) -> Instruments:
        """See `Host`."""
        return self._instruments[nic.number]

    def made(self, nic: LightNic, reading: Reading, now: float) -> None:
        """See `Host`."""
        if not self.is_over:
            self.ledger.make(self._key(nic, reading), now)
            self.told("made", node=nic.mac.value, observe=reading.observe, epoch=reading.epoch)

    def settled(self, nic: LightNic, reading: Reading, fate: Fate, now: float) -> None:
        """See `Host`."""
        key = self._key(nic, reading)
        if fate is not Fate.TAKEN:
            self.ledger.lose(key, fate.value)
            self.told("lost", node=nic.mac.value, observe=reading.observe, reason=fate.value)
        elif not self.ledger.is_stored(key):
            self.ledger.lose(key, "acknowledged-and-not-stored")

    def registered(self, nic: LightNic, now: float) -> None:
        """See `Host`."""
        self.registrations += 1
        self.told("registered", node=nic.mac.value)

    # --- what the mesh tells

    def arrived_up(self, octets: bytes, address: bytes) -> None:
        """See `nic_sim.mesh.mesh.Listener`."""
        self._gateway.receive(octets, address)

    def arrived_down(self, nic: int, octets: bytes) -> None:
        """See `Listener`."""
        answer = self.nics[nic].receive(octets, _GATEWAY, self.agenda.now)
        if answer is not None:
            self.mesh.send_up(nic, answer)

    def moved(self, nic: int, address: bytes) -> None:
        """See `Listener`."""
        self.nics[nic].register_again(self.agenda.now)

    def told(self, what: str, **details: object) -> None:
        """See `Listener`."""
        event = {"t": round(self.agenda.now, 6), "event": what, **details}
        line = json.dumps(event, separators=(",", ":")) + "\n"
        self._digest.update(line.encode())
        if self._watch is not None:
            self._watch(event)
        if self._trace is not None:
            self._trace.write(line)

    # --- what the gateway tells

    def _stored(self, key: ReadingKey) -> None:
        made_at = self.ledger.open.get(key)
        if made_at is not None:
            hops = self.mesh.topology.hops(int(key[0], 16) - FIRST_MAC + self.mesh.topology.roots)
            self.latencies_by_hops.setdefault(hops, array("d")).append(self.agenda.now - made_at)
        self.ledger.store(key, self.agenda.now)
        self.told("stored", node=key[0], observe=key[2], epoch=key[1])

    def _command_ended(self, state: str) -> None:
        self.ledger.commands[state] += 1
        self.told("command", state=state)

    # --- private

    def _key(self, nic: LightNic, reading: Reading) -> ReadingKey:
        return nic.mac.value, reading.epoch, reading.observe

    def _start(self, nic: LightNic) -> None:
        now = self.agenda.now
        nic.start(now, now + self.plan.period_s * self._random.random())

    def _due(self, nic: LightNic, at: float) -> None:
        if nic.wake_at == at:  # else it has changed its mind
            nic.due(self.agenda.now)

    # --- events

    def _begin(self, event: Event) -> None:
        if self.is_over:
            return
        if event.every:
            self.agenda.after(event.every, self._begin, event)
        if event.do is Action.LOSS:
            self._lossy(event.loss)
            self.agenda.after(event.for_s or 0.0, self._lossy, 0.0)
        elif event.do is Action.OUTAGE:
            self._cut(True)
            self.agenda.after(event.for_s or 0.0, self._cut, False)
        else:
            for node in self._chosen(event):
                self.agenda.after(event.spread_s * self._chance.random(), partial(self._do, event, node))

    def _chosen(self, event: Event) -> list[int]:
        """Nodes that an event concerns, in random order."""
        group, number = event.target
        topology, roots = self.mesh.topology, self.mesh.topology.roots
        if group in (Group.NIC, Group.ACCESS_POINT):
            node = int(number or 0) + (roots if group is Group.NIC else 0)
            return [node] if node < (len(topology.places) if group is Group.NIC else roots) else []
        if group is Group.RELAYS:
            members = topology.relays()
        else:
            members = list(range(roots, len(topology.places)) if group is Group.NICS else range(roots))
        if number is None:
            count = len(members)
        else:
            count = round(number * len(members)) if number < 1 else min(int(number), len(members))
        return self._chance.sample(members, count)

    def _do(self, event: Event, node: int) -> None:
        topology, now = self.mesh.topology, self.agenda.now
        nic = None if node < topology.roots else self.nics[node - topology.roots]
        if event.do is Action.COMMAND:
            if nic is not None:
                self.ledger.ordered += 1
                self.told("ordered", node=nic.mac.value)
                self._gateway.order(nic.mac, event.ttl_s)
        elif topology.is_on[node]:
            if event.do is Action.REBOOT:
                if nic is not None:
                    self.told("reboot", node=nic.mac.value)
                    nic.stop(now)
                    nic.restart(now, now + self.plan.period_s * self._chance.random())
                return
            self.mesh.switch_off(node)
            if nic is not None:
                nic.stop(now)
            if event.for_s is not None:
                self.agenda.after(event.for_s, self._revive, node)

    def _revive(self, node: int) -> None:
        self.mesh.switch_on(node)
        if node >= self.mesh.topology.roots:
            now = self.agenda.now
            self.nics[node - self.mesh.topology.roots].restart(now, now + self.plan.period_s * self._chance.random())

    def _lossy(self, loss: float) -> None:
        self.mesh.more_loss = loss
        self.told("loss", share=loss)

    def _cut(self, is_cut_off: bool) -> None:
        self.mesh.is_cut_off = is_cut_off
        self.told("outage", begins=is_cut_off)
