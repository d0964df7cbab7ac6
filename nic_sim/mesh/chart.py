"""A network as a map of characters for a terminal; pure. The markup is that of rich: colours where they can be."""

from __future__ import annotations

from collections import Counter
from typing import Final

from nic_sim.mesh.recording import State

__all__ = ["LEGEND", "chart", "summary"]

LEGEND: Final = "A access point  o relay  . NIC  x off  ? no way  (colour: hops)"
FRESH_S: Final = 90.0
"""A NIC whose last reading is younger is shown as flowing."""
_COLOURS: Final = ("red", "green", "cyan", "yellow", "magenta")
_RANK: Final = {"A": 5, "x": 4, "?": 3, "o": 2, ".": 1}


def chart(state: State, width: int = 72, height: int = 20) -> str:
    """The map; where several stand in one cell, the gravest is shown."""
    if not state.places:
        return ""
    xs, ys = zip(*state.places.values(), strict=True)
    left, top = min(xs), min(ys)
    across, down = (max(xs) - left) or 1.0, (max(ys) - top) or 1.0
    relays = set(state.parent.values())
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for node, (x, y) in state.places.items():
        cell = round((y - top) / down * (height - 1)), round((x - left) / across * (width - 1))
        sign, style = _sign(state, node, relays)
        if cell not in cells or _RANK[sign] > _RANK[cells[cell][0]]:
            cells[cell] = sign, style
    lines = []
    for row in range(height):
        line = ""
        for column in range(width):
            sign, style = cells.get((row, column), (" ", ""))
            line += f"[{style}]{sign}[/]" if style else sign
        lines.append(line)
    return "\n".join(lines)


def _sign(state: State, node: str, relays: set[str]) -> tuple[str, str]:
    if node in state.off:
        return "x", "red"
    if node.startswith("access-point:"):
        return "A", "bold"
    hops = state.hops(node)
    if not hops or state.root(node) is None:
        return "?", "red"
    fresh = state.at_s - state.reported.get(node, -FRESH_S) < FRESH_S
    return "o" if node in relays else ".", ("bold " if fresh else "dim ") + _COLOURS[min(hops, len(_COLOURS) - 1)]


def summary(state: State) -> str:
    """What the map can't show, in a few lines."""
    nics = [node for node in state.places if not node.startswith("access-point:")]
    roots = Counter(state.root(node) for node in nics)
    hops = Counter(state.hops(node) for node in nics if state.hops(node))
    below = ", ".join(f"{name}: {count}" for name, count in sorted(roots.items(), key=str) if name is not None)
    far = ", ".join(f"{count} by {number} hop{'s' if number > 1 else ''}" for number, count in sorted(hops.items()))
    made, stored = state.counts["made"], state.counts["stored"]
    return (
        f"{_clock(state.at_s)}  readings {made} made, {stored} at the gateway; "
        f"{len(state.off)} nodes off, {roots[None]} NICs without a way\n{below}; {far}"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
