"""A `fault+PORT` whose faults can be changed while it is open, by `meshwire fault`.

A change outlives a loss of the port: a link that opens its port again gets the line as it was last told to be.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from hardware.port_spec import change_plan
from meshwire.control import ControlSocket
from meshwire.pipe import FaultPlan, FaultyPipe, Pipe

__all__ = ["FAULT", "ControlledPipe", "open_controlled", "shown_plan"]

FAULT: Final = "fault"
"""Kind of the control socket."""

_changed: dict[str, FaultPlan] = {}
"""What the bad lines of this process were last told to be, by port; only those that were changed."""


class ControlledPipe(FaultyPipe):
    """A bad line with a control socket.

    Args:
        pipe: the good line.
        plan: how bad the port's name says it is; a change made earlier goes before it.
        port: the port inside, as written.
    """

    def __init__(self, pipe: Pipe, plan: FaultPlan, port: str) -> None:
        super().__init__(pipe, _changed.get(port, plan))
        self.port = port
        self._first_plan = plan
        self._socket: ControlSocket | None = None

    async def listen(self) -> None:
        """Let the plan be changed from outside."""
        self._socket = await ControlSocket.open(FAULT, self.describe, self.carry_out)

    async def aclose(self) -> None:
        if self._socket is not None:
            self._socket.close()
        await super().aclose()

    def describe(self) -> dict[str, Any]:
        """Port, process, plan and what was done so far."""
        return {
            "port": self.port,
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
            "faults": shown_plan(self.plan),
            "out": asdict(self.outgoing.counts),
            "in": asdict(self.incoming.counts),
        }

    async def carry_out(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`set` (parameters as texts), `clear`, `reset` (as the port's name says) or `stall` (seconds)."""
        match request["do"]:
            case "set":
                self._become(change_plan(self.plan, {str(k): str(v) for k, v in dict(request["faults"]).items()}))
            case "clear":
                self._become(FaultPlan())
            case "reset":
                self._become(self._first_plan)
            case "stall":
                self.stall(float(request["seconds"]))
            case other:
                raise ValueError(f"can't {other}")
        return self.describe()

    def _become(self, plan: FaultPlan) -> None:
        _changed[self.port] = self.plan = plan


async def open_controlled(pipe: Pipe, plan: FaultPlan, port: str) -> ControlledPipe:
    """Make a line bad, and let that be changed."""
    controlled = ControlledPipe(pipe, plan, port)
    await controlled.listen()
    return controlled


def shown_plan(plan: FaultPlan) -> dict[str, object]:
    """The parameters that differ from a good line, named as in `fault+PORT?…`."""
    good = FaultPlan()
    shown: dict[str, object] = {}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if value != getattr(good, field.name):
            shown["delay_ms" if field.name == "delay_s" else field.name] = (
                round(value * 1000, 3) if field.name == "delay_s" else value
            )
    return shown
