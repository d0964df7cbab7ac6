"""Who hears whom, and the tree that frames go up and down: parent choice by link cost, and a way around what is dead.

A link's cost is the number of transmissions it takes (ETX, the reciprocal of its delivery ratio) and a little for each
hop; a node's cost is that of its whole way to an access point. Nodes choose for themselves, by what their neighbours
say of their own cost; nobody has a view of the whole but the first tree.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nic_sim.mesh.scenario import Layout, Scenario

__all__ = ["Link", "Topology", "place_nodes"]

HOP_COST: Final = 0.2
"""Of two ways with equal links the shorter one is better."""
WORTH_MOVING: Final = 0.8
"""A better parent is taken when the way through it costs no more than this share of the present one."""
HEARD: Final = 0.1
"""Links with a lower delivery ratio are none."""
SOFTNESS: Final = 0.12
"""Of the range: how gradually a link gets worse with distance."""
WAN_RANGE: Final = 0.7
"""An IoT router stands indoors: its share of the range."""
NOWHERE: Final = -1

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Link:
    """One node's view of a neighbour."""

    to: int
    delivery: float
    """Share of frames that arrive, 0 to 1."""
    rssi_dbm: float

    @property
    def cost(self) -> float:
        """Transmissions a frame takes, and the hop."""
        return 1 / self.delivery + HOP_COST


def place_nodes(scenario: Scenario, source: random.Random) -> list[Place]:
    """Where everybody stands, in metres: access points first, then NICs."""
    nics = scenario.nics
    places = [(point.x, point.y) for point in scenario.access_point]
    columns = max(1, round(math.sqrt(nics.count * nics.width_m / nics.height_m)))
    rows = -(-nics.count // columns)
    for number in range(nics.count):
        if nics.layout is Layout.RANDOM:
            place = source.uniform(0, nics.width_m), source.uniform(0, nics.height_m)
        elif nics.layout is Layout.LINE:
            place = nics.width_m * (number + 1) / nics.count, nics.height_m / 2
        else:
            across, down = nics.width_m / columns, nics.height_m / rows
            place = (
                (number % columns + 0.5 + source.uniform(-0.2, 0.2)) * across,
                (number // columns + 0.5 + source.uniform(-0.2, 0.2)) * down,
            )
        places.append(place)
    return places


class Topology:
    """The state of the tree. Node numbers: access points from 0 on, then NICs.

    Args:
        places: of all nodes.
        roots: how many of them are access points.
        wide: for each access point whether it is a WAN router.
        range_m: distance at which half of the frames arrive.
    """

    def __init__(self, places: Sequence[Place], roots: int, wide: Sequence[bool], range_m: float) -> None:
        self.places = places
        self.roots = roots
        self.is_on = [True] * len(places)
        self.parent = [NOWHERE] * len(places)
        self.children: list[list[int]] = [[] for _ in places]
        self.link_up: list[Link | None] = [None] * len(places)
        """The link to the parent."""
        self._links = _links(places, roots, wide, range_m)
        self.grow()

    def grow(self) -> None:
        """The tree of least costs (Dijkstra), as after a long quiet time."""
        costs = [math.inf] * len(self.places)
        waiting = [(0.0, root) for root in range(self.roots) if self.is_on[root]]
        for _, root in waiting:
            costs[root] = 0.0
        while waiting:
            cost, node = heapq.heappop(waiting)
            if cost > costs[node]:
                continue
            for link in self._links[node]:
                total = cost + link.cost
                if link.to >= self.roots and self.is_on[link.to] and total < costs[link.to]:
                    costs[link.to] = total
                    self.attach(link.to, node)
                    heapq.heappush(waiting, (total, link.to))

    # --- looking

    def root(self, node: int) -> int:
        """The access point that a node's frames arrive at; `NOWHERE` when its way ends before."""
        while node >= self.roots:
            node = self.parent[node]
            if node == NOWHERE:
                return NOWHERE
        return node

    def way_down(self, node: int) -> list[int]:
        """From behind the access point to the node; empty when there is none."""
        way = []
        while node >= self.roots:
            way.append(node)
            node = self.parent[node]
            if node == NOWHERE:
                return []
        return way[::-1]

    def hops(self, node: int) -> int:
        """To the access point; 0 when there is no way."""
        return len(self.way_down(node))

    def cost(self, node: int) -> float:
        """Of the way to an access point that is on; infinite when there is none."""
        total = 0.0
        while node >= self.roots:
            link = self.link_up[node]
            if link is None or not self.is_on[node]:
                return math.inf
            total += link.cost
            node = link.to
        return total if self.is_on[node] else math.inf

    def subtree(self, node: int) -> Iterator[int]:
        """The node and everybody who sends through it."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(self.children[node])

    def relays(self) -> list[int]:
        """NICs that others send through, in the order of their numbers."""
        return [node for node in range(self.roots, len(self.places)) if self.children[node]]

    def best_parent(self, node: int) -> int:
        """The neighbour with the least cost of the whole way, not counting those whose way leads through the node;
        `NOWHERE` when there is none.
        """
        below = set(self.subtree(node))
        best, parent = math.inf, NOWHERE
        for link in self._links[node]:
            if self.is_on[link.to] and link.to not in below:
                total = link.cost + self.cost(link.to)
                if total < best:
                    best, parent = total, link.to
        return parent

    def is_worth_moving(self, node: int, parent: int) -> bool:
        """Whether another parent is so much better that the change pays."""
        link = self._link(node, parent)
        return link is not None and link.cost + self.cost(parent) <= WORTH_MOVING * self.cost(node)

    # --- changing

    def attach(self, node: int, parent: int) -> None:
        """The node sends through `parent` from now on."""
        self.detach(node)
        self.parent[node] = parent
        self.link_up[node] = self._link(node, parent)
        self.children[parent].append(node)

    def detach(self, node: int) -> None:
        """The node has no parent any more."""
        former = self.parent[node]
        if former != NOWHERE:
            self.children[former].remove(node)
        self.parent[node], self.link_up[node] = NOWHERE, None

    def _link(self, node: int, to: int) -> Link | None:
        return next((link for link in self._links[node] if link.to == to), None)


def _links(places: Sequence[Place], roots: int, wide: Sequence[bool], range_m: float) -> list[list[Link]]:
    """All pairs that hear each other; a grid of cells as wide as the longest link keeps this quick."""
    longest = range_m * (1 + SOFTNESS * math.log(1 / HEARD - 1))
    cells: dict[tuple[int, int], list[int]] = {}
    for node, (x, y) in enumerate(places):
        cells.setdefault((int(x // longest), int(y // longest)), []).append(node)
    links: list[list[Link]] = [[] for _ in places]
    for node, (x, y) in enumerate(places):
        column, row = int(x // longest), int(y // longest)
        for near in ((column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            for other in cells.get(near, ()):
                if other != node and not (node < roots and other < roots):
                    indoors = any(end < roots and wide[end] for end in (node, other))
                    reach = range_m * (WAN_RANGE if indoors else 1.0)
                    distance = math.dist((x, y), places[other])
                    delivery = 1 / (1 + math.exp(min(50.0, (distance / reach - 1) / SOFTNESS)))
                    if delivery >= HEARD:
                        links[node].append(Link(other, delivery, -40 - 25 * math.log10(max(1.0, distance))))
    return links
