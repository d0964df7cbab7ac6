"""Pictures of a mesh as SVG: the tree on its ground, and latency by hops. Plain text, no library, light and dark."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Final

from nic_sim.mesh.topology import NOWHERE, Topology

__all__ = ["latency_picture", "topology_picture"]

SIZE: Final = 800
MARGIN: Final = 30
_STYLE: Final = (
    "<style>text{font:12px sans-serif;fill:#334}.l{stroke:#8aa;stroke-width:1}.n{fill:#0b7a75}.r{fill:#0b4a75}"
    ".a{fill:#b3541e}.x{fill:#c33}.b{fill:#0b7a75}.w{stroke:#334;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#dde}.l{stroke:#577}.w{stroke:#dde}}</style>"
)


def topology_picture(topology: Topology) -> str:
    """Everybody at their place, a line to each parent; access points brown, relays blue, the lost red."""
    xs, ys = zip(*topology.places, strict=True)
    left, top = min(xs), min(ys)
    scale = (SIZE - 2 * MARGIN) / (max(max(xs) - left, max(ys) - top) or 1)

    def at(node: int) -> tuple[str, str]:
        x, y = topology.places[node]
        return f"{MARGIN + (x - left) * scale:.1f}", f"{MARGIN + (y - top) * scale:.1f}"

    parts = []
    for node in range(topology.roots, len(topology.places)):
        parent = topology.parent[node]
        if parent != NOWHERE:
            (x1, y1), (x2, y2) = at(node), at(parent)
            parts.append(f'<line class="l" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for node in range(len(topology.places)):
        x, y = at(node)
        if not topology.is_on[node] or (node >= topology.roots and topology.parent[node] == NOWHERE):
            kind, size = "x", 4
        elif node < topology.roots:
            kind, size = "a", 9
        else:
            kind, size = ("r", 5) if topology.children[node] else ("n", 3)
        name = f"access point {node}" if node < topology.roots else f"NIC {node - topology.roots}"
        parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="{size}"><title>{html.escape(name)}</title></circle>')
    return _svg(SIZE, SIZE, parts)


def latency_picture(latencies_s: Mapping[int, Sequence[float]]) -> str:
    """For each number of hops a bar to the median and a whisker to the 99th percentile, on a common scale."""
    rows = []
    for hops, values in sorted(latencies_s.items()):
        ordered = sorted(values)
        if ordered:
            rows.append(
                (
                    hops,
                    len(ordered),
                    ordered[len(ordered) // 2],
                    ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
                )
            )
    longest = max((p99 for *_, p99 in rows), default=1.0) or 1.0
    parts, width = [], SIZE - 330
    for line, (hops, count, p50, p99) in enumerate(rows):
        y = MARGIN + 30 * line
        end = 110 + width * p99 / longest
        parts += [
            f'<text x="10" y="{y + 13}">{hops} hop{"s" if hops != 1 else ""}</text>',
            f'<rect class="b" x="110" y="{y}" width="{max(1.0, width * p50 / longest):.1f}" height="18"/>',
            f'<line class="w" x1="110" y1="{y + 9}" x2="{end:.1f}" y2="{y + 9}"/>',
            f'<text x="{end + 8:.1f}" y="{y + 13}">p50 {p50:.2f} s, p99 {p99:.2f} s ({count})</text>',
        ]
    return _svg(SIZE, 2 * MARGIN + 30 * len(rows), parts)


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, _STYLE, *parts, "</svg>", ""])
