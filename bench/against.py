"""An earlier run beside this one: `meshwire bench --against FILE`, FILE being what `--json` printed then (SC05).

Figures of different machines say nothing about the product: a file of another machine is told, and compared all the
same for whoever wants to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from bench.result import Comparison, Result
from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "Earlier", "load"]

CATALOGUE = {
    "MW-BEN-001": "The file of `meshwire bench --against` can't be read; it is what `meshwire bench --json` printed.",
}
"""Stable error codes of this package."""


class UnreadableReport(MeshwireError):
    """No report of an earlier run."""

    default_code = "MW-BEN-001"
    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run printed."""

    machine: str = ""
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    """Our own figure by benchmark and case."""

    def beside(self, result: Result) -> dict[str, object]:
        """`before` and `change` (above 1: better than then) for a case that was there; else nothing."""
        record = result.record()
        now = float(str(record["ours" if isinstance(result, Comparison) else "value"]))
        before = self.values.get((result.bench, result.case))
        if before is None:
            return {}
        better, worse = (now, before) if result.more_is_better else (before, now)
        change = 1.0 if better == worse else better / max(worse, 1e-9)
        return {"before": before, "change": round(change, 3)}


def load(path: Path) -> Earlier:
    """Read a report; raises UnreadableReport."""
    try:
        first, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        values = {(line["bench"], line["case"]): float(line.get("ours", line.get("value"))) for line in lines}
        return Earlier(str(first["machine"]), values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableReport(
            "the earlier report can't be read",
            evidence=f"{path}: {error}",
            fix="write one: meshwire bench --json > FILE",
        ) from None
