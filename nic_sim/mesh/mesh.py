"""Datagrams through the mesh: hop by hop up to an access point and down to a NIC, and the tree that heals meanwhile.

Does: carry, delay and lose datagrams; notice a parent that is gone by frames it does not take; look for another one;
give a NIC a new address when it comes under another prefix. Does not: know CoAP, NICs' queues or a gateway; they are
told by `Listener`. Every datagram that does not arrive is counted with the reason.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv6Address
from typing import Final, Protocol

from meshwire.identity import DeviceId
from nic_sim.fleet.addresses import interface_address
from nic_sim.instruments import Battery, Signal
from nic_sim.mesh.agenda import Agenda
from nic_sim.mesh.radio import BATTERY_MAH, Frame, Transmitter, energy_mah
from nic_sim.mesh.scenario import Scenario
from nic_sim.mesh.topology import NOWHERE, Topology, place_nodes

__all__ = ["Listener", "Lost", "Mesh"]

WAN_DELAY_S: Final = 0.03
"""Between access point and gateway, one way, on the average."""
QUIET_RSSI_DBM: Final = -120
FULL_MILLIVOLTS: Final = 3650
EMPTY_MILLIVOLTS: Final = 2900


class Lost(StrEnum):
    """Why a datagram did not arrive."""

    RADIO = "not-heard"
    """All tries of a hop failed."""
    NODE_OFF = "next-node-off"
    """The next node is without power."""
    NO_WAY = "no-way"
    """The node has no parent."""
    QUEUE_FULL = "relay-queue-full"
    ADDRESS_GONE = "address-gone"
    """Nobody has the address any more."""
    OUTAGE = "gateway-away"


class Listener(Protocol):
    """Who is told what the mesh does. NICs are meant by their number, from 0 on."""

    def arrived_up(self, octets: bytes, address: bytes) -> None:
        """A NIC's datagram has reached the gateway from this address."""

    def arrived_down(self, nic: int, octets: bytes) -> None:
        """A datagram of the gateway has reached the NIC."""

    def moved(self, nic: int, address: bytes) -> None:
        """The NIC has another address."""

    def told(self, what: str, **details: object) -> None:
        """Something for the trace."""


class Mesh:
    """See the module's text.

    Args:
        scenario: places and radio.
        macs: of the NICs.
        agenda: the clock.
        listener: who is told.
        seed: of everything that is chance here.
    """

    def __init__(
        self, scenario: Scenario, macs: Sequence[DeviceId], agenda: Agenda, listener: Listener, seed: int
    ) -> None:
        self._agenda = agenda
        self._listener = listener
        self._random = random.Random(f"mesh/{seed}")
        self._radio = scenario.radio
        self._macs = macs
        points = scenario.access_point
        self._prefixes = [IPv6Address(point.prefix).packed[:8] for point in points]
        places = place_nodes(scenario, random.Random(f"places/{seed}"))
        self.topology = Topology(places, len(points), [point.wan for point in points], scenario.radio.range_m)
        self._transmitters = [Transmitter(scenario.radio) for _ in places]
        self._is_looking = [False] * len(places)
        self._addresses: dict[bytes, int] = {}
        self._address: list[bytes] = [b""] * len(macs)
        self.more_loss = 0.0
        """Of frames, besides what the radio's own figures say."""
        self.is_cut_off = False
        """Nothing passes between access points and gateway."""
        self.lost: Counter[Lost] = Counter()
        self.carried: Counter[str] = Counter()
        """Datagrams that arrived: up, down; and frames sent on the air."""
        self.hops_taken: Counter[int] = Counter()
        """Upward datagrams by their hops."""
        for node in range(len(points), len(places)):
            self._give_address(node, tell=False)
            if self.topology.parent[node] == NOWHERE:
                self._look_for_parent(node)
            self._agenda.at(scenario.radio.beacon_s * self._random.random(), self._beacon, node)

    def tell_all(self) -> None:
        """Tell where everybody stands, and the first tree."""
        topology = self.topology
        for node, (x, y) in enumerate(topology.places):
            self._listener.told("place", node=self._name(node), x=round(x, 1), y=round(y, 1))
        for node in range(topology.roots, len(topology.places)):
            if topology.parent[node] != NOWHERE:
                self._tell_parent(node)

    def _tell_parent(self, node: int) -> None:
        topology = self.topology
        name, parent = self._name(node), self._name(topology.parent[node])
        self._listener.told("attached", node=name, parent=parent, hops=topology.hops(node), root=topology.root(node))

    # --- for the NICs

    def address(self, nic: int) -> bytes:
        """The NIC's address of now, 16 octets; the link-local one while it has no way."""
        return self._address[nic]

    def send_up(self, nic: int, octets: bytes) -> None:
        """A NIC sends a datagram to the gateway."""
        node = nic + self.topology.roots
        self._forward(node, Frame(octets, node, True, self._address[nic]))

    def battery(self, nic: int) -> Battery:
        """What the traffic has left in the battery."""
        used = energy_mah(self._transmitters[nic + self.topology.roots].air_s, self._agenda.now) / BATTERY_MAH
        left = max(0.0, 1 - used)
        return Battery(round(100 * left, 2), round(EMPTY_MILLIVOLTS + left * (FULL_MILLIVOLTS - EMPTY_MILLIVOLTS)))

    def signal(self, nic: int) -> Signal:
        """The link to the parent."""
        link = self.topology.link_up[nic + self.topology.roots]
        if link is None:
            return Signal(QUIET_RSSI_DBM, 0)
        return Signal(round(link.rssi_dbm), round(255 * link.delivery * (1 - self._radio.loss)))

    # --- for the gateway

    def send_down(self, octets: bytes, address: bytes) -> None:
        """The gateway sends a datagram to an address."""
        nic = self._addresses.get(address)
        if nic is None:
            self._lose(Lost.ADDRESS_GONE)
            return
        delay_s = WAN_DELAY_S * (0.5 + self._random.random())
        self._agenda.after(delay_s, self._enter, Frame(octets, nic + self.topology.roots, False, address))

    def _enter(self, frame: Frame) -> None:
        """At the access point."""
        way = self.topology.way_down(frame.node)
        if self.is_cut_off or not way:
            self._lose(Lost.OUTAGE if self.is_cut_off else Lost.NO_WAY)
            return
        frame.way = deque(way)
        self._forward(self.topology.root(frame.node), frame)

    # --- power

    def switch_off(self, node: int) -> None:
        """A node loses its power; what it had to send is lost. Its children notice by their own frames."""
        topology = self.topology
        topology.is_on[node] = False
        self._transmitters[node].failures = 0
        if node >= topology.roots:
            topology.detach(node)
        self._listener.told("off", node=self._name(node))

    def switch_on(self, node: int) -> None:
        """A node has power again; a NIC looks for a parent."""
        self.topology.is_on[node] = True
        self._listener.told("on", node=self._name(node))
        if node >= self.topology.roots:
            self._look_for_parent(node)

    # --- one hop

    def _forward(self, node: int, frame: Frame) -> None:
        """Send a frame on from `node`, which has just made or got it."""
        topology = self.topology
        if not topology.is_on[node]:
            self._lose(Lost.NODE_OFF)
            return
        if frame.upward and node < topology.roots:
            self._leave(frame)
            return
        if not frame.upward and not frame.way:
            self.carried["down"] += 1
            self._listener.arrived_down(node - topology.roots, frame.octets)
            return
        target = topology.parent[node] if frame.upward else frame.way[0]
        transmitter = self._transmitters[node]
        if target == NOWHERE:
            self._lose(Lost.NO_WAY)
        elif transmitter.is_full:
            self._lose(Lost.QUEUE_FULL)
        else:
            link = topology.link_up[node] if frame.upward else topology.link_up[target]
            # Downwards the link is the child's; when it has moved away meanwhile, nobody listens here.
            heard = link is not None and topology.is_on[target] and (frame.upward or topology.parent[target] == node)
            loss = (1 - self._radio.loss) * (1 - self.more_loss)
            delivery = link.delivery * loss if link is not None and heard else 0.0
            done = transmitter.send(len(frame.octets), delivery, self._agenda.now, self._random)
            transmitter.waiting += 1
            self.carried["frames"] += done.tries
            self._agenda.at(done.end_s, self._hop_done, node, target, frame, done.arrived)

    def _hop_done(self, node: int, target: int, frame: Frame, arrived: bool) -> None:
        transmitter = self._transmitters[node]
        transmitter.waiting -= 1
        if arrived:
            if frame.upward:
                transmitter.failures = 0
            else:
                frame.way.popleft()
            frame.hops += 1
            self._forward(target, frame)
            return
        self._lose(Lost.RADIO if self.topology.is_on[target] else Lost.NODE_OFF)
        if frame.upward and self.topology.parent[node] == target:
            transmitter.failures += 1
            if transmitter.failures >= self._radio.moves_after:
                self._lose_parent(node)

    def _leave(self, frame: Frame) -> None:
        """From the access point to the gateway."""
        if self.is_cut_off:
            self._lose(Lost.OUTAGE)
            return
        self.hops_taken[frame.hops] += 1
        self._agenda.after(WAN_DELAY_S * (0.5 + self._random.random()), self._arrive, frame)

    def _arrive(self, frame: Frame) -> None:
        self.carried["up"] += 1
        self._listener.arrived_up(frame.octets, frame.source)

    def _lose(self, reason: Lost) -> None:
        self.lost[reason] += 1

    # --- healing

    def _lose_parent(self, node: int) -> None:
        self._listener.told("parent-lost", node=self._name(node), parent=self._name(self.topology.parent[node]))
        self._transmitters[node].failures = 0
        self.topology.detach(node)
        self._look_for_parent(node)

    def _look_for_parent(self, node: int) -> None:
        if not self._is_looking[node]:
            self._is_looking[node] = True
            self._agenda.after(self._radio.scan_s * (0.5 + self._random.random()), self._scanned, node)

    def _scanned(self, node: int) -> None:
        self._is_looking[node] = False
        topology = self.topology
        if not topology.is_on[node] or topology.parent[node] != NOWHERE:
            return
        parent = topology.best_parent(node)
        if parent == NOWHERE:
            self._look_for_parent(node)
        else:
            self._attach(node, parent)

    def _beacon(self, node: int) -> None:
        """Now and then a node looks whether there is a better way."""
        topology = self.topology
        if topology.is_on[node] and topology.parent[node] != NOWHERE:
            parent = topology.best_parent(node)
            if parent not in (NOWHERE, topology.parent[node]) and topology.is_worth_moving(node, parent):
                self._attach(node, parent)
        self._agenda.after(self._radio.beacon_s * (0.9 + 0.2 * self._random.random()), self._beacon, node)

    def _attach(self, node: int, parent: int) -> None:
        self.topology.attach(node, parent)
        self._transmitters[node].failures = 0
        self._tell_parent(node)
        for below in self.topology.subtree(node):
            self._give_address(below)

    def _give_address(self, node: int, *, tell: bool = True) -> None:
        """Prefix of the access point and EUI-64 (RFC 4291); a node without a way keeps the address it has."""
        nic, root = node - self.topology.roots, self.topology.root(node)
        prefix = _LINK_LOCAL if root == NOWHERE else self._prefixes[root]
        if root == NOWHERE and self._address[nic]:
            return
        address = interface_address(prefix, self._macs[nic])
        former = self._address[nic]
        if address == former:
            return
        self._addresses.pop(former, None)
        self._address[nic] = address
        if root != NOWHERE:
            self._addresses[address] = nic
        if tell and root != NOWHERE:
            self._listener.told("address", node=self._name(node), address=str(IPv6Address(address)))
            self._listener.moved(nic, address)

    def _name(self, node: int) -> str:
        if node == NOWHERE:
            return "-"
        roots = self.topology.roots
        return f"access-point:{node}" if node < roots else self._macs[node - roots].value


_LINK_LOCAL: Final = bytes.fromhex("fe80000000000000")
