"""A recorded run, to be looked at again at any time of it: who stood where, was on, and sent through whom.

The trace is read once; every so often the state is kept whole, so that going back is as quick as going on.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from nic_sim.errors import NicError

__all__ = ["Recording", "State"]

KEPT_EVERY: Final = 10_000
"""Events between two whole states."""


@dataclass(slots=True)
class State:
    """The network at one moment. Nodes by their names: `access-point:0`, or a MAC."""

    at_s: float = 0.0
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    """Events so far, by kind."""
    reported: dict[str, float] = field(default_factory=dict)
    """When each NIC's last reading came to the gateway."""

    def take(self, event: dict[str, Any]) -> None:
        """One more event has happened."""
        self.at_s = event["t"]
        kind, node = event["event"], event.get("node", "")
        self.counts[kind] += 1
        match kind:
            case "place":
                self.places[node] = event["x"], event["y"]
            case "attached":
                self.parent[node] = event["parent"]
            case "parent-lost":
                self.parent.pop(node, None)
            case "off":
                self.off.add(node)
                self.parent.pop(node, None)
            case "on":
                self.off.discard(node)
            case "stored":
                self.reported[node] = self.at_s

    def root(self, node: str) -> str | None:
        """The access point that a NIC sends to; None without a way."""
        for _ in range(len(self.places) + 1):
            if node in self.off:
                return None
            if node.startswith("access-point:"):
                return node
            if node not in self.parent:
                return None
            node = self.parent[node]
        return None

    def hops(self, node: str) -> int:
        """To the access point; 0 without a way."""
        count = 0
        while not node.startswith("access-point:"):
            if node in self.off or node not in self.parent:
                return 0
            node, count = self.parent[node], count + 1
        return count


class Recording:
    """See the module's text.

    Args:
        lines: of the trace.

    Raises:
        NicError: a line is none of a trace.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._events: list[dict[str, Any]] = []
        self._times: list[float] = []
        self._kept: list[State] = [State()]
        state = State()
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                state.take(event)
            except (ValueError, KeyError, TypeError) as error:
                raise NicError(
                    "this is no recording of a scenario",
                    evidence=f"line {number}: {error}",
                    fix="record one by `meshwire sim run … --record FILE`",
                    code="MW-NIC-041",
                ) from None
            self._events.append(event)
            self._times.append(event["t"])
            if number % KEPT_EVERY == 0:
                self._kept.append(deepcopy(state))

    @property
    def end_s(self) -> float:
        """Time of the last event."""
        return self._times[-1] if self._times else 0.0

    def at(self, time_s: float) -> State:
        """The state after everything up to `time_s`."""
        count = bisect.bisect_right(self._times, time_s)
        state = deepcopy(self._kept[count // KEPT_EVERY])
        for event in self._events[count // KEPT_EVERY * KEPT_EVERY : count]:
            state.take(event)
        state.at_s = time_s
        return state
