"""A board as `meshwire learn` saw it and `meshwire sensor --profile FILE` plays it: the file between the two.

TOML, so that people may read and change it; payloads in hexadecimal, because they are octets. Decides names, ranges and
what a missing key means. Pure: text in, text out.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["BASES", "LearnedBoard", "LearnedBoardError", "LearnedResource", "LearnedSensor"]

SCHEMA_VERSION: Final = 1
BASES: Final = ("standard", "milli-1.4.8", "milli-1.4.5")
MAX_SAMPLES: Final = 10_000
MAX_PERIOD_S: Final = 7 * 86_400.0


class LearnedBoardError(ValueError):
    """The text is no learned board; says where."""


@dataclass(frozen=True, slots=True)
class LearnedSensor:
    """A resource whose values change.

    Args:
        path: on the board, without leading slash: `arduino/temp`.
        query: Uri-Query of a reading, `sens` on boards that want it; empty: none.
        content_format: of a reading; None: the board names none.
        observable: whether a registration was accepted.
        period_s: seconds between notifications, as seen; 0: none came.
        jitter_s: difference between the longest and the shortest interval; told, not played.
        max_age_s: Max-Age of a reading; None: none.
        configuration: payload of `?cfg`; empty: the board has none.
        samples: payloads in the order in which they came; played in turn.
    """

    path: str
    samples: tuple[bytes, ...]
    query: str = ""
    content_format: int | None = None
    observable: bool = False
    period_s: float = 0.0
    jitter_s: float = 0.0
    max_age_s: int | None = None
    configuration: bytes = b""

    def __post_init__(self) -> None:
        if not self.path.strip("/") or not 1 <= len(self.samples) <= MAX_SAMPLES:
            raise LearnedBoardError(f"sensor {self.path!r} needs a path and 1 to {MAX_SAMPLES} samples")
        if not 0 <= self.period_s <= MAX_PERIOD_S:
            raise LearnedBoardError(f"sensor {self.path}: period_s is 0 to {MAX_PERIOD_S:g}, not {self.period_s}")


@dataclass(frozen=True, slots=True)
class LearnedResource:
    """A resource that always says the same.

    Args:
        path: without leading slash; empty: the root.
        content_format: None: the board names none.
        payload: what it says.
    """

    path: str
    payload: bytes
    content_format: int | None = None


@dataclass(frozen=True, slots=True)
class LearnedBoard:
    """A whole board.

    Args:
        base: the board profile that it is most like: link, CoAP and quirks are that one's.
        turn_around_s: shortest time from the end of a frame to the first octet of the answer.
        round_trip_s: mean time of a request, for comparison; not played.
        source: where it was learned, in words.
        sensors: what changes.
        resources: what does not.
    """

    base: str
    sensors: tuple[LearnedSensor, ...]
    resources: tuple[LearnedResource, ...] = ()
    turn_around_s: float = 0.0
    round_trip_s: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise LearnedBoardError(f"base is one of {', '.join(BASES)}, not {self.base!r}")
        if not 0 <= self.turn_around_s <= 10:
            raise LearnedBoardError(f"turn_around_s is 0 to 10, not {self.turn_around_s}")
        paths = [sensor.path for sensor in self.sensors] + [resource.path for resource in self.resources]
        if len(set(paths)) != len(paths):
            raise LearnedBoardError("a path is there twice")

    def root_text(self) -> str | None:
        """What `/` says, where it was learned."""
        return next((item.payload.decode(errors="replace") for item in self.resources if not item.path), None)

    def to_toml(self) -> str:
        """The file's text."""
        lines = ["# A board as meshwire learned it; `meshwire sensor --profile THIS_FILE --port …` plays it.", ""]
        lines += _pairs({"schema_version": SCHEMA_VERSION} | _scalars(self))
        for name, items in (("sensor", self.sensors), ("resource", self.resources)):
            for item in items:
                lines += ["", f"[[{name}]]", *_pairs(_scalars(item))]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> LearnedBoard:
        """Read a file's text.

        Raises:
            LearnedBoardError: what is wrong, and where.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise LearnedBoardError(f"no TOML: {error}") from None
        if document.pop("schema_version", None) != SCHEMA_VERSION:
            raise LearnedBoardError(f"schema_version is not {SCHEMA_VERSION}")
        sensors = tuple(_read(LearnedSensor, row, "sensor") for row in _rows(document, "sensor"))
        resources = tuple(_read(LearnedResource, row, "resource") for row in _rows(document, "resource"))
        board: LearnedBoard = _read(cls, document | {"sensors": sensors, "resources": resources}, "board")
        return board


def _rows(document: dict[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = document.pop(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LearnedBoardError(f"{name} is no list of tables")
    return rows


def _scalars(item: object) -> dict[str, object]:
    """Everything of a record but the records in it, without what is missing or empty."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}  # type: ignore[arg-type]
    values.pop("sensors", None)
    values.pop("resources", None)
    return {name: value for name, value in values.items() if name in _ALWAYS or value not in (None, "", b"")}


_ALWAYS: Final = frozenset({"path", "payload"})
"""Keys that are written even when they are empty."""


def _pairs(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{name} = {_value(value)}"


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return f"{value:.3f}"
        case bytes():
            return f'"{value.hex()}"'
        case tuple():
            return "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
    # A basic string of TOML is one of JSON, but for DEL; what is beyond 16 bits is not escaped in surrogates.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


_OCTETS: Final = frozenset({"configuration", "payload"})


def _read(kind: Any, row: Mapping[str, Any], what: str) -> Any:
    """A record of a table, its types checked."""
    known = {field.name: str(field.type) for field in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name not in known:
            raise LearnedBoardError(f"{what}: no key {name!r}; there are {', '.join(known)}")
        values[name] = _checked(name, value, known[name], what)
    try:
        return kind(**values)
    except TypeError as error:
        raise LearnedBoardError(f"{what}: {error}") from None


def _checked(name: str, value: Any, kind: str, what: str) -> Any:
    try:
        if name in _OCTETS:
            return bytes.fromhex(value)
        if name == "samples":
            return tuple(bytes.fromhex(item) for item in value)
    except (TypeError, ValueError):
        raise LearnedBoardError(f"{what}: {name} is not hexadecimal") from None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "float": number,
        "int | None": isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    }.get(kind, True)
    if not fits:
        raise LearnedBoardError(f"{what}: {name} is not of type {kind.partition(' ')[0]}")
    return float(value) if kind == "float" else value
