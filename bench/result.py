"""What a measurement gives: a figure of ours, or ours beside a peer's, each as one JSON line."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = ["Comparison", "Figure", "Measure", "Result", "machine_in_words"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure without a peer.

    Args:
        bench: name of the benchmark.
        case: name of the case within it; scripts know it.
        values: one a run.
        unit: of the values.
        bar: what it has to reach; None where there is no bar.
        note: what one has to know to read it.
        more_is_better: False for times and sizes.
    """

    bench: str
    case: str
    values: Sequence[float]
    unit: str
    bar: float | None = None
    note: str = ""
    more_is_better: bool = True

    @property
    def value(self) -> float:
        """Median of the runs."""
        return median(self.values)

    def record(self) -> dict[str, object]:
        """The JSON line."""
        line: dict[str, object] = {"bench": self.bench, "case": self.case, "value": _round(self.value)}
        line |= {"unit": self.unit, "runs": len(self.values), **_spread("", self.values)}
        return line | _remarks(self.bar, _reaches(self.value, self.bar, self.more_is_better), self.note)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours beside a peer, measured in turn in the same run.

    Args:
        bench, case, unit, bar, note: as in `Figure`; the bar is for our own figure.
        ours: one a run.
        peer: whom it is compared with.
        theirs: one a run.
        more_is_better: False for times and sizes; the ratio is always better above 1.
        ratio_bar: what the ratio has to reach, in place of a bar for our own figure.
    """

    bench: str
    case: str
    ours: Sequence[float]
    peer: str
    theirs: Sequence[float]
    unit: str
    more_is_better: bool = True
    bar: float | None = None
    note: str = ""
    ratio_bar: float | None = None

    @property
    def ratio(self) -> float:
        """Above 1: ours is the better one. Medians of the runs."""
        return self._ratio(median(self.ours), median(self.theirs))

    @property
    def ratios(self) -> list[float]:
        """Of each run, both sides measured in turn; where one side ran less often, its last runs count for all."""
        runs = max(len(self.ours), len(self.theirs))
        ours, theirs = _as_long(self.ours, runs), _as_long(self.theirs, runs)
        return [self._ratio(mine, other) for mine, other in zip(ours, theirs, strict=True)]

    def _ratio(self, ours: float, theirs: float) -> float:
        better, worse = (ours, theirs) if self.more_is_better else (theirs, ours)
        return better / max(worse, _LEAST)

    def record(self) -> dict[str, object]:
        """The JSON line."""
        ours = median(self.ours)
        line: dict[str, object] = {"bench": self.bench, "case": self.case, "ours": _round(ours), "peer": self.peer}
        line |= {"theirs": _round(median(self.theirs)), "ratio": _round(self.ratio)}
        line |= {"unit": self.unit, "runs": len(self.ours)}
        line |= {**_spread("ours_", self.ours), **_spread("theirs_", self.theirs), **_spread("ratio_", self.ratios)}
        if self.ratio_bar is not None:
            return line | {"ratio_bar": self.ratio_bar, "met": self.ratio >= self.ratio_bar} | _remarks(note=self.note)
        return line | _remarks(self.bar, _reaches(ours, self.bar, self.more_is_better), self.note)


_LEAST = 1e-9
"""In place of nothing at all, by which no ratio can be formed."""

Result = Figure | Comparison

Measure = Callable[[bool], Iterator[Result]]
"""A benchmark: given whether it has to be quick, it yields its results as it gets them."""


def machine_in_words() -> str:
    """Where the figures come from: processor, cores, memory, system, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores", *_memory(), f"{platform.system()} {platform.release()}"]
    return ", ".join([*parts, f"{platform.python_implementation()} {platform.python_version()}"])


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> list[str]:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return [f"{int(line.split()[1]) / 1024 / 1024:.0f} GiB"]
    return []


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _reaches(value: float, bar: float | None, more_is_better: bool) -> bool:
    return bar is None or (value >= bar if more_is_better else value <= bar)


def _remarks(bar: float | None = None, met: bool = True, note: str = "") -> dict[str, object]:
    remarks: dict[str, object] = {} if bar is None else {"bar": bar, "met": met}
    return remarks | ({"note": note} if note else {})


def _as_long(values: Sequence[float], runs: int) -> list[float]:
    return [*values, *[values[-1]] * (runs - len(values))]


def _spread(name: str, values: Sequence[float]) -> dict[str, object]:
    """Least and greatest of several runs; one run has no spread."""
    if len(values) < 2:
        return {}
    return {f"{name}min": _round(min(values)), f"{name}max": _round(max(values))}


def _round(number: float) -> float:
    """Four digits are more than any of these measurements knows."""
    return round(number) if abs(number) >= 1000 else float(f"{number:.4g}")
