"""The mesh as the gateway knows it without asking: what NICs told with their registrations, and where they were heard.

Nothing is sent for a map. A NIC that said where it hangs (`meshwire.mesh_place`) hangs there; one that did not is
grouped by the network that its address is of; one that was never heard stands apart. A visitor sees its own NICs: where
a way leads through others', only their number is told. Pure.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from gateway.addresses import Address
from gateway.console.rows import Row
from gateway.presence import PresenceState
from meshwire.identity import DeviceId, IdentityError
from meshwire.mesh_place import MeshPlace

__all__ = ["MOST_DRAWN", "MeshMap", "MeshNode", "mesh_map", "network_of"]

MOST_DRAWN: Final = 5_000
"""With more NICs, those that nobody sends through are told as numbers below their parents."""
MOST_HIDDEN: Final = 32
"""Further than so many NICs of others a way is not followed; it also ends a circle."""
MOST_HOSTS: Final = 20_000
"""Whose networks are remembered: reading an address takes longer than all else that is done with a NIC."""
UNHEARD: Final = "unheard"
_STATES: Final = tuple(PresenceState)


@dataclass(frozen=True, slots=True)
class MeshNode:
    """One NIC of the map."""

    mac: str
    state: PresenceState
    seen_s: float | None
    parent: str
    """MAC of the NIC of the same map that it hangs below, or the name of a root."""
    hops: int | None
    rssi_dbm: int | None
    through: int
    """NICs of others between the two."""


@dataclass(slots=True)
class MeshMap:
    """A forest; roots are access points, networks and "never heard"."""

    roots: dict[str, str] = field(default_factory=dict)
    """Name to kind: `access point`, `network` or `unheard`."""
    nodes: list[MeshNode] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the page; short, because there may be thousands."""
        parents = {node.parent for node in self.nodes}
        is_large = len(self.nodes) > MOST_DRAWN
        drawn = [node for node in self.nodes if not is_large or node.mac in parents]
        clusters: dict[str, Counter[PresenceState]] = {}
        if is_large:
            for node in self.nodes:
                if node.mac not in parents:
                    clusters.setdefault(node.parent, Counter())[node.state] += 1
        return {
            "roots": [[name, kind] for name, kind in self.roots.items()],
            "nodes": [
                [
                    node.mac,
                    node.parent,
                    _STATES.index(node.state),
                    None if node.seen_s is None else round(node.seen_s, 1),
                    node.hops,
                    node.rssi_dbm,
                    node.through,
                ]
                for node in drawn
            ],
            "clusters": [[parent, *(counts[state] for state in _STATES)] for parent, counts in clusters.items()],
        }


def network_of(address: Address | None) -> str:
    """The network that an address is of: the /64 of IPv6, which an access point gives out; else the host."""
    return UNHEARD if address is None else _network_of(address.host)


@lru_cache(MOST_HOSTS)
def _network_of(text: str) -> str:
    try:
        host = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(host, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((host, 64), strict=False))
    return str(host)


def mesh_map(
    rows: Iterable[Row],
    place: Callable[[DeviceId], MeshPlace | None],
    address: Callable[[DeviceId], Address | None],
    is_device: Callable[[DeviceId], bool],
) -> MeshMap:
    """The map of some NICs.

    Args:
        rows: those that the visitor may see.
        place: where a NIC said it hangs.
        address: where it was heard.
        is_device: whether there is such a NIC, whosever it is.
    """
    visible = {row.device.mac.value: row for row in rows}
    found = MeshMap()
    parents: dict[str, tuple[str, int]] = {}
    for text, row in visible.items():
        name, through = _above(row.device.mac, visible, place, is_device)
        parents[text] = (name or network_of(address(row.device.mac)), through)
    _cut_circles(parents, lambda mac: network_of(address(DeviceId(mac))))
    for text, row in visible.items():
        parent, through = parents[text]
        told = place(row.device.mac) or MeshPlace()
        if parent not in visible:
            is_told = told.parent is not None and parent != network_of(address(row.device.mac))
            kind = UNHEARD if parent == UNHEARD else "access point" if is_told else "network"
            found.roots.setdefault(parent, kind)
        found.nodes.append(MeshNode(text, row.state, row.seen_s, parent, told.hops, told.rssi_dbm, through))
    return found


def _above(
    mac: DeviceId,
    visible: dict[str, Row],
    place: Callable[[DeviceId], MeshPlace | None],
    is_device: Callable[[DeviceId], bool],
) -> tuple[str | None, int]:
    """The next NIC above that is visible, or the access point; and how many hidden ones lie between."""
    for through in range(MOST_HIDDEN):
        told = place(mac)
        if told is None or told.parent is None:
            return None, through
        if told.parent in visible:
            return told.parent, through
        try:
            above = DeviceId(told.parent)
        except IdentityError:
            return told.parent, through
        if not is_device(above):
            return told.parent, through
        mac = above
    return None, MOST_HIDDEN


def _cut_circles(parents: dict[str, tuple[str, int]], network: Callable[[str], str]) -> None:
    """NICs told at different times may name each other: then the one met again hangs below its network."""
    settled: set[str] = set()
    for start in parents:
        way: dict[str, None] = {}
        node = start
        while node in parents and node not in settled and node not in way:
            way[node] = None
            node = parents[node][0]
        if node in way:
            parents[node] = (network(node), 0)
        settled.update(way)
