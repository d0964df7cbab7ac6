"""Scenario files: a network, what happens to it, and what is expected. TOML, checked against the models below.

Times are numbers of seconds or texts such as `90s`, `15m`, `6h`, `1d`. Shipped scenarios lie in `scenarios/` and are
called by their name; any other one by its path.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nic_sim.errors import NicError

__all__ = [
    "AccessPoint", "Action", "Event", "Expectations", "Group", "Layout", "Nics", "Radio", "Scenario", "load_scenario",
    "shipped_scenarios",
]  # fmt: skip

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_TARGET: Final = re.compile(r"(?P<group>relays|nics|access-points|nic|access-point)(?::(?P<number>\d+|0?\.\d+|all))?")


def _seconds(value: object) -> object:
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)) is not None:
        return float(found[1]) * _UNITS[found[2]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Layout(StrEnum):
    """How NICs stand."""

    RANDOM = "random"
    """Anywhere in the area."""
    GRID = "grid"
    """In rows, a little out of line."""
    LINE = "line"
    """One behind the other along the area's width: as many hops as there are."""


class AccessPoint(_Section):
    """`[[access_point]]`: where the mesh ends and the wide-area network begins."""

    x: float
    """Metres."""
    y: float
    prefix: str = Field(pattern=r"^[0-9a-f:]+::$")
    """Of the addresses of all NICs below it, 64 bits."""
    wan: bool = False
    """An IoT router in WAN mode: the same, at the end of a cable and not on a pole, so it hears less far."""


class Nics(_Section):
    """`[nics]`."""

    count: int = Field(ge=1, le=100_000)
    layout: Layout = Layout.RANDOM
    width_m: float = Field(default=500.0, gt=0)
    height_m: float = Field(default=500.0, gt=0)
    period_s: Seconds = 60.0
    """Between readings."""
    register_s: Seconds = 3600.0
    """Between registrations at the gateway."""
    queue_limit: int = Field(default=64, ge=1)
    """Readings that a NIC keeps while the gateway can't be reached."""


class Radio(_Section):
    """`[radio]`: what a hop is like."""

    range_m: float = Field(default=150.0, gt=0)
    """Distance at which half of all frames arrive."""
    bit_rate: float = Field(default=100_000.0, gt=0)
    """Bits a second on the air."""
    overhead_octets: int = Field(default=40, ge=0)
    """Of each frame: preamble, addresses, security, check."""
    turnaround_s: Seconds = 0.01
    """Between receiving a frame and sending it on."""
    loss: Share = 0.0
    """Of frames, besides what distance costs."""
    tries: int = Field(default=4, ge=1, le=16)
    """How often a frame is sent before the link gives up."""
    duty: float = Field(default=0.1, gt=0, le=1)
    """Share of the time that a node may send, over `duty_window_s`."""
    duty_window_s: Seconds = 60.0
    queue: int = Field(default=32, ge=1)
    """Frames that wait in one node; more are dropped and counted."""
    scan_s: Seconds = 5.0
    """How long a node looks for a new parent, on the average."""
    beacon_s: Seconds = 600.0
    """How often a node looks whether there is a better parent."""
    moves_after: int = Field(default=3, ge=1)
    """Frames in a row that the parent did not take, before a new one is looked for."""


class Action(StrEnum):
    """What an event does."""

    KILL = "kill"
    """The node is without power; with `for_s` it returns."""
    REBOOT = "reboot"
    """The NIC and its board start anew."""
    LOSS = "loss"
    """More frames are lost everywhere: `loss`, for `for_s`."""
    OUTAGE = "outage"
    """The gateway can't be reached for `for_s`."""
    COMMAND = "command"
    """The gateway sends a PUT to the sensor of the node, with `ttl_s` to live."""


class Group(StrEnum):
    """Whom it concerns."""

    RELAYS = "relays"
    """NICs that others send through at that moment."""
    NICS = "nics"
    ACCESS_POINTS = "access-points"
    NIC = "nic"
    ACCESS_POINT = "access-point"


class Event(_Section):
    """`[[event]]`."""

    do: Action
    at: Seconds = 0.0
    every: Seconds | None = None
    """Again and again, from `at` on."""
    to: str = Field(default="nics:all", pattern=_TARGET.pattern)
    """`relays:0.33` (a share), `nics:20` (so many), `nics:all`, `nic:5` and `access-point:0` (one, by its number)."""
    for_s: Seconds | None = None
    spread_s: Seconds = 0.0
    """The nodes follow each other within this time, in random order."""
    loss: Share = 0.0
    ttl_s: Seconds = 3600.0

    @property
    def target(self) -> tuple[Group, float | None]:
        """Group, and number, count or share (a value below 1); None: all of them."""
        found = _TARGET.fullmatch(self.to)
        assert found is not None
        number = found["number"]
        return Group(found["group"]), None if number in (None, "all") else float(number)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        group, number = self.target
        if group in (Group.NIC, Group.ACCESS_POINT) and number is None:
            raise ValueError(f"{self.to!r} names no number; write {group}:0")
        if self.do in (Action.LOSS, Action.OUTAGE) and self.for_s is None:
            raise ValueError(f"{self.do} needs for_s")
        return self


class Expectations(_Section):
    """`[expect]`: what makes the scenario a test. What is absent is not looked at."""

    all_readings_arrive: bool = False
    """Every reading that a board made is at the gateway in the end."""
    readings_accounted: bool = True
    """Every reading is at the gateway, or lost for a reason that is told."""
    no_command_lost: bool = True
    """Every command has a final event."""
    p99_latency_s: Seconds | None = None
    """From the board's reading to the gateway's store."""
    min_delivered: Share | None = None
    """Share of readings."""


class Scenario(_Section):
    """A whole file."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str
    seed: int = 1
    duration_s: Seconds
    drain_s: Seconds = 600.0
    """After the end no readings are made any more, and what is under way may arrive for so long."""
    access_point: tuple[AccessPoint, ...] = Field(min_length=1)
    nics: Nics
    radio: Radio = Radio()
    event: tuple[Event, ...] = ()
    expect: Expectations = Expectations()


def shipped_scenarios() -> dict[str, Path]:
    """Scenario files that come with the product, by name."""
    folder = Path(str(files("nic_sim.mesh") / "scenarios"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_scenario(name: str) -> Scenario:
    """Read a scenario by its path, or by the name of a shipped one.

    Raises:
        NicError: there is no such file, or it does not fit; says where and why.
    """
    path = shipped_scenarios().get(name) or Path(name)
    try:
        return Scenario.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise NicError(
            "there is no such scenario",
            evidence=f"{name}: {error.strerror}",
            fix="`meshwire sim list` names the shipped ones; or give the path of a file",
            code="MW-NIC-040",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NicError(
            "the scenario is no TOML", evidence=f"{path}: {error}", fix="correct it", code="MW-NIC-041"
        ) from None
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:8])
        raise NicError(
            "the scenario does not fit", evidence=f"{path}: {found}", fix="see docs/reference/sim.md", code="MW-NIC-041"
        ) from None
