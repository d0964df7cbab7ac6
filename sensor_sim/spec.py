"""What the user says about a sensor, `TYPE[=SOURCE][@PERIOD_S]`, and the sensor made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sensor_sim.errors import BoardSettingsError
from sensor_sim.sensors import EchoSensor, LogisticsSensor, MethaneSensor, Sensor, TemperatureSensor
from sensor_sim.sources import parse_source

__all__ = ["MAX_SENSORS", "SensorSpec", "build_sensor", "check_specs"]

MAX_SENSORS: Final = 4
"""What the board's library has room for (dialect B.3)."""


@dataclass(frozen=True, slots=True)
class SensorSpec:
    """One sensor of a board.

    Attributes:
        type: `temp`, `echo`, `ncmth1` or `lnic`.
        source: text form of its value source (`sensor_sim.sources`); None for the type's own seeded walk.
        period_s: seconds between notifications; 0 for push only; None for the board's period.
    """

    type: str
    source: str | None = None
    period_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> SensorSpec:
        """Read `temp`, `temp=sine:22,5,3600`, `temp@5` or `temp=22.5@5`.

        Raises:
            BoardSettingsError: unknown type, source or period.
        """
        rest, at, period = text.rpartition("@") if "@" in text else (text, "", "")
        device_type, _, source = rest.partition("=")
        spec = cls(device_type, source or None, _parse_period(period, text) if at else None)
        build_sensor(spec, seed=0)
        return spec


def _parse_period(period: str, text: str) -> float:
    try:
        seconds = float(period)
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"{period} is out of range")
    except ValueError as error:
        raise BoardSettingsError(
            f"no period in {text!r}", evidence=str(error), fix="write seconds after @, 0 for push only"
        ) from error
    return seconds


def _temperature(source: str | None, seed: str) -> Sensor:
    return TemperatureSensor(parse_source(source or "walk:22.5,0.3,10,35", seed=seed))


def _echo(source: str | None, seed: str) -> Sensor:
    return EchoSensor()


def _methane(source: str | None, seed: str) -> Sensor:
    return MethaneSensor(parse_source(source or "walk:10,2,0,60", seed=seed))


def _logistics(source: str | None, seed: str) -> Sensor:
    celsius = parse_source(source or "walk:22.5,0.3,-10,35", seed=seed)
    return LogisticsSensor(celsius, parse_source("walk:60,1,30,90", seed=f"{seed}/humidity"))


_BUILDERS: Final[dict[str, Callable[[str | None, str], Sensor]]] = {
    "temp": _temperature,
    "echo": _echo,
    "ncmth1": _methane,
    "lnic": _logistics,
}


def build_sensor(spec: SensorSpec, *, seed: int) -> Sensor:
    """Make the sensor; equal seeds give equal readings.

    Raises:
        BoardSettingsError: no such type or source.
    """
    builder = _BUILDERS.get(spec.type)
    if builder is None:
        raise BoardSettingsError(f"no sensor type {spec.type!r}", fix=f"choose one of {', '.join(_BUILDERS)}")
    return builder(spec.source, f"{seed}/{spec.type}")


def check_specs(specs: Iterable[SensorSpec]) -> tuple[SensorSpec, ...]:
    """One to four sensors, each type once, as the board's path table demands.

    Raises:
        BoardSettingsError: too many, none, or a type twice.
    """
    checked = tuple(specs)
    types = [spec.type for spec in checked]
    if not 1 <= len(checked) <= MAX_SENSORS:
        raise BoardSettingsError(f"{len(checked)} sensors", fix=f"name 1 to {MAX_SENSORS}")
    if len(set(types)) != len(types):
        raise BoardSettingsError("a sensor type twice", evidence=", ".join(types), fix="name each type once")
    return checked
