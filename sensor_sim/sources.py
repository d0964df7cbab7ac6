"""Where a sensor's numbers come from: constant, random walk, sine or a recorded CSV column; never the wall clock.

The text forms are what `--sensor temp=SOURCE` takes: `22.5`, `constant:22.5`, `walk:START,STEP,LOW,HIGH`,
`sine:MEAN,AMPLITUDE,PERIOD_S`, `replay:FILE[,COLUMN]`.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Final, Protocol

from sensor_sim.errors import BoardSettingsError

__all__ = ["Constant", "Replay", "Sine", "ValueSource", "Walk", "parse_source"]


class ValueSource(Protocol):
    """Gives one number a reading."""

    def value(self, time_s: float) -> float:
        """The value at board time `time_s` (Unix seconds); calls may change the source's state."""
        ...


class Constant:
    """Always the same number."""

    def __init__(self, value: float) -> None:
        self._value = value

    def value(self, time_s: float) -> float:
        """The number."""
        return self._value


class Walk:
    """A random walk between two bounds: each reading differs from the one before by at most `step`."""

    def __init__(self, start: float, step: float, low: float, high: float, *, seed: str = "0") -> None:
        if not low <= start <= high or step < 0:
            raise ValueError("a walk needs LOW <= START <= HIGH and a STEP of at least 0")
        self._value = start
        self._step = step
        self._low = low
        self._high = high
        self._random = random.Random(seed)

    def value(self, time_s: float) -> float:
        """The next step; a step across a bound ends on it."""
        moved = self._value + self._random.uniform(-self._step, self._step)
        self._value = min(self._high, max(self._low, moved))
        return self._value


class Sine:
    """A sine over the board's clock, so that two boards with the same time agree."""

    def __init__(self, mean: float, amplitude: float, period_s: float) -> None:
        if period_s <= 0:
            raise ValueError("a sine needs a PERIOD_S above 0")
        self._mean = mean
        self._amplitude = amplitude
        self._period_s = period_s

    def value(self, time_s: float) -> float:
        """The sine at this time."""
        return self._mean + self._amplitude * math.sin(2 * math.pi * time_s / self._period_s)


class Replay:
    """A recorded series, one value a reading, from the start again when it ends."""

    def __init__(self, values: Sequence[float]) -> None:
        if not values:
            raise ValueError("a replay needs at least one value")
        self._values = cycle(tuple(values))

    @classmethod
    def from_csv(cls, path: Path, column: str | None = None) -> Replay:
        """Read one column of a CSV file with a heading; without `column` the last one.

        Raises:
            OSError: the file can't be read.
            ValueError: no such column, or a cell is no number.
        """
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            names = reader.fieldnames or []
            name = column or (names[-1] if names else "")
            if name not in names:
                raise ValueError(f"no column {name!r} in {path}")
            return cls([_number(row[name]) for row in reader])

    def value(self, time_s: float) -> float:
        """The next recorded value."""
        return next(self._values)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _constant(arguments: list[str], seed: str) -> ValueSource:
    (value,) = map(_number, arguments)
    return Constant(value)


def _walk(arguments: list[str], seed: str) -> ValueSource:
    start, step, low, high = map(_number, arguments)
    return Walk(start, step, low, high, seed=seed)


def _sine(arguments: list[str], seed: str) -> ValueSource:
    mean, amplitude, period_s = map(_number, arguments)
    return Sine(mean, amplitude, period_s)


def _replay(arguments: list[str], seed: str) -> ValueSource:
    path, *column = arguments
    return Replay.from_csv(Path(path), *column[:1])


_KINDS: Final[dict[str, Callable[[list[str], str], ValueSource]]] = {
    "constant": _constant,
    "walk": _walk,
    "sine": _sine,
    "replay": _replay,
}


def parse_source(text: str, *, seed: str = "0") -> ValueSource:
    """Make the source that a text names.

    Args:
        text: one of the forms in the module's head.
        seed: for the sources that draw numbers; equal seeds give equal series.

    Raises:
        BoardSettingsError: the text names no source.
    """
    kind, colon, rest = text.partition(":")
    if not colon:
        kind, rest = "constant", text
    try:
        return _KINDS[kind](rest.split(","), seed)
    except (KeyError, ValueError, OSError) as error:
        raise BoardSettingsError(
            f"no value source {text!r}",
            evidence=str(error),
            fix="use NUMBER, walk:START,STEP,LOW,HIGH, sine:MEAN,AMPLITUDE,PERIOD_S or replay:FILE[,COLUMN]",
        ) from error
