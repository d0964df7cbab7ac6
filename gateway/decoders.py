"""Declarative payload decoders: what a device type's payload says, described as data, never as code.

A decoder is a list of forms. A *text* form is a pattern of comma-separated fields: in `{time:epoch},{celsius},C` the
fixed fields have to be equal, named ones are numbers, texts, times or the rest. A *binary* form is a fixed head of
integers followed by items of tag, length and value. The first form that fits decides. No regular expression, no
expression language, no loop that a payload controls: reading takes time in proportion to the payload's length, and
nothing but the payload is read.

Built in: `temp`, `ncmth1` and `lnic` of the vendor's boards (dialect part E.6). A decoder of the configuration for the
same type takes their place.
"""

from __future__ import annotations

import calendar
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meshwire.notification import reported_value

__all__ = ["BUILT_IN", "Decoded", "DecoderSettings", "Measurement", "Undecodable", "decode", "decoders_for"]

MAX_FIELDS: Final = 64
MAX_ITEMS: Final = 255
"""Values that one payload may give."""
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}"
"""What SenML allows in a name (RFC 8428 section 4.5.1)."""
_EARLIEST_S: Final = 1_000_000_000
"""Clocks of boards that were never set say less (dialect B.6): then the time of the notification counts."""

Name = Annotated[str, Field(pattern=f"^{_NAME}$")]


class Undecodable(ValueError):
    """No form of the decoder fits the payload; the message says why not the last one."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value."""

    name: str
    value: float | str
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a payload says."""

    values: tuple[Measurement, ...]
    time_s: float | None = None
    """Unix seconds, where the payload holds a plausible time."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Scale(_Part):
    """What becomes of a number: value × `factor` + `offset`, in `unit` (RFC 8428 section 12.1)."""

    unit: str | None = Field(default=None, max_length=32)
    factor: float = 1.0
    offset: float = 0.0


class TextForm(_Part):
    """Comma-separated text."""

    pattern: str = Field(max_length=512)
    """Fields {name}, {name:text}, {time:epoch}, {time:clock} (dd/MM/yy/HH/mm/ss), last {name:rest}, or fixed text."""
    scales: dict[Name, Scale] = Field(default_factory=dict)
    """Units and conversions by name."""

    @model_validator(mode="after")
    def _is_sound(self) -> TextForm:
        fields = [_text_field(text) for text in self.pattern.split(",")]
        if len(fields) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        if any(kind is _Kind.REST for _, kind in fields[:-1]):
            raise ValueError("{…:rest} has to be the last field")
        unknown = set(self.scales) - {name for name, kind in fields if kind is _Kind.NUMBER}
        if unknown:
            raise ValueError(f"scales for {', '.join(sorted(unknown))}, which no number of the pattern is named")
        return self

    def read(self, value: str | bytes) -> Decoded:
        """Read a text; raises Undecodable."""
        if isinstance(value, bytes):
            raise Undecodable("is no text")
        fields = [_text_field(text) for text in self.pattern.split(",")]
        rests = fields[-1][1] is _Kind.REST
        given = value.split(",", len(fields) - 1 if rests else -1)
        if len(given) != len(fields):
            raise Undecodable(f"has {len(given)} fields in place of {len(fields)}")
        values: list[Measurement] = []
        time_s: float | None = None
        for text, (name, kind) in zip(given, fields, strict=True):
            match kind:
                case _Kind.FIXED:
                    if text != name:
                        raise Undecodable(f"has {text[:20]!r} in place of {name!r}")
                case _Kind.NUMBER:
                    values.append(_scaled(name, _number(text), self.scales.get(name, Scale())))
                case _Kind.EPOCH:
                    time_s = _number(text)
                case _Kind.CLOCK:
                    time_s = _clock(text)
                case _Kind.TEXT | _Kind.REST:
                    values.append(Measurement(name, text))
        return Decoded(tuple(values), _plausible(time_s))


class BinaryField(_Part):
    """An integer in a fixed place, big-endian."""

    form: Literal["u8", "u16", "u32", "i8", "i16", "i32", "uint", "int"]
    """`uint` and `int` are as long as the item they fill."""
    name: Name | None = None
    """None: not reported."""
    time: bool = False
    """Unix seconds of the measurement."""
    scale: Scale = Scale()

    @property
    def octets(self) -> int | None:
        """Its length; None: all there is."""
        return int(self.form[1:]) // 8 if self.form[1:].isdigit() else None

    @property
    def is_signed(self) -> bool:
        return self.form.startswith("i")


class BinaryForm(_Part):
    """A head of integers, then items of tag, length and value until the end."""

    head: tuple[BinaryField, ...] = Field(default=(), max_length=MAX_FIELDS)
    tag_octets: Literal[1, 2] = 1
    length_octets: Literal[1, 2] = 1
    items: dict[int, tuple[BinaryField, ...]] = Field(default_factory=dict)
    """By tag; others are skipped. Without any, nothing may follow the head."""

    @model_validator(mode="after")
    def _is_sound(self) -> BinaryForm:
        if any(field.octets is None for field in self.head):
            raise ValueError("uint and int have no length in a head")
        for tag, fields in self.items.items():
            if len(fields) > 1 and any(field.octets is None for field in fields):
                raise ValueError(f"item {tag}: uint and int stand alone")
        return self

    def read(self, value: str | bytes) -> Decoded:
        """Read octets; raises Undecodable."""
        if isinstance(value, str):
            raise Undecodable("is no octet string")
        values: list[Measurement] = []
        length = sum(field.octets or 0 for field in self.head)
        if len(value) < length:
            raise Undecodable(f"is {len(value)} octets long; the head has {length}")
        time_s = _take(self.head, value[:length], values)
        for tag, octets in self._items(value[length:]):
            _take(self.items.get(tag, ()), octets, values)
            if len(values) > MAX_ITEMS:
                raise Undecodable(f"holds more than {MAX_ITEMS} values")
        return Decoded(tuple(values), _plausible(time_s))

    def _items(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        if octets and not self.items:
            raise Undecodable(f"goes on for {len(octets)} octets")
        position, before = 0, self.tag_octets + self.length_octets
        while position < len(octets):
            begin = position + before
            tag = int.from_bytes(octets[position : position + self.tag_octets], "big")
            length = int.from_bytes(octets[position + self.tag_octets : begin], "big")
            if begin + length > len(octets):
                raise Undecodable(f"item {tag} is longer than what is left")
            yield tag, octets[begin : begin + length]
            position = begin + length


class DecoderSettings(_Part):
    """`[[gateway.bridge.decoders]]`: how a device type's payload is read."""

    type: str = Field(min_length=1, max_length=64)
    text: tuple[TextForm, ...] = Field(default=(), max_length=MAX_FIELDS)
    binary: tuple[BinaryForm, ...] = Field(default=(), max_length=MAX_FIELDS)

    @model_validator(mode="after")
    def _has_forms(self) -> DecoderSettings:
        if not self.text and not self.binary:
            raise ValueError("a decoder needs a text or a binary form")
        return self


def decoders_for(settings: Iterable[DecoderSettings]) -> Mapping[str, DecoderSettings]:
    """Decoders by device type: the built-in ones, and those of the configuration over them."""
    return {decoder.type: decoder for decoder in (*BUILT_IN, *settings)}


def decode(decoder: DecoderSettings, payload: bytes) -> Decoded:
    """Read a notification's payload: the value of a device record (key 1), or the whole payload as text.

    Raises:
        Undecodable: no form fits, or it is neither record nor text.
    """
    value = reported_value(payload)
    if value is None:
        raise Undecodable("is neither a device record nor text")
    reason = Undecodable("fits no form")
    forms: tuple[TextForm | BinaryForm, ...] = (*decoder.text, *decoder.binary)
    for form in forms:
        try:
            return form.read(value)
        except Undecodable as error:
            reason = error
    raise reason


class _Kind(StrEnum):
    FIXED = "fixed"
    NUMBER = "number"
    TEXT = "text"
    EPOCH = "epoch"
    CLOCK = "clock"
    REST = "rest"


def _text_field(text: str) -> tuple[str, _Kind]:
    if not text.startswith("{"):
        return text, _Kind.FIXED
    name, _, kind = text[1:-1].partition(":")
    known = {one.value: one for one in _Kind if one is not _Kind.FIXED}
    if not text.endswith("}") or re.fullmatch(_NAME, name) is None or (kind or "number") not in known:
        raise ValueError(f"{text!r} is no field: {{name}} or {{name:{'|'.join(known)}}}")
    return name, known[kind or "number"]


def _number(text: str) -> float:
    # float() also takes underscores, blanks and infinities: a board means none of these.
    if re.fullmatch(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", text) is None:
        raise Undecodable(f"has {text[:20]!r} in place of a number")
    return float(text)


def _clock(text: str) -> float:
    try:
        return calendar.timegm(time.strptime(text, "%d/%m/%y/%H/%M/%S"))
    except ValueError:
        raise Undecodable(f"has {text[:20]!r} in place of dd/MM/yy/HH/mm/ss") from None


def _scaled(name: str, value: float, scale: Scale) -> Measurement:
    # Decimal fractions come out as they were meant: 22.5, not 22.499999999999996.
    number = float(f"{value * scale.factor + scale.offset:.9g}")
    if not math.isfinite(number):
        raise Undecodable(f"{name} is out of range")
    return Measurement(name, number, scale.unit)


def _take(fields: tuple[BinaryField, ...], octets: bytes, values: list[Measurement]) -> float | None:
    """Read integers one behind the other; gives the time among them."""
    position, time_s = 0, None
    for field in fields:
        end = len(octets) if field.octets is None else position + field.octets
        if end > len(octets) or end == position or end - position > 8:
            raise Undecodable(f"has {len(octets)} octets where {field.name or field.form} should be")
        number = int.from_bytes(octets[position:end], "big", signed=field.is_signed)
        position = end
        if field.time:
            time_s = float(number)
        elif field.name is not None:
            values.append(_scaled(field.name, number, field.scale))
    return time_s


def _plausible(time_s: float | None) -> float | None:
    return time_s if time_s is not None and _EARLIEST_S <= time_s < 1 << 33 else None


_AXES: Final = ("x", "y", "z")

BUILT_IN: Final = (
    DecoderSettings(
        type="temp",
        text=(
            TextForm(pattern="{time:epoch},{temperature},C", scales={"temperature": Scale(unit="Cel")}),
            TextForm(
                pattern="{time:epoch},{temperature},F",
                scales={"temperature": Scale(unit="Cel", factor=5 / 9, offset=-160 / 9)},
            ),
        ),
    ),
    DecoderSettings(
        type="ncmth1",
        text=(
            TextForm(pattern="{level},lvl"),
            TextForm(pattern="{time:clock},t,{level},lvl"),
            TextForm(pattern="{health},h,{status:text},s"),
            TextForm(pattern="{health},h,{status:text},s,{battery:text},s"),
            TextForm(pattern="LB,{LB:rest}"),
            TextForm(pattern="R,{R:rest}"),
            TextForm(pattern="SF,{SF:rest}"),
        ),
    ),
    DecoderSettings(
        type="lnic",
        binary=(
            BinaryForm(
                head=(
                    BinaryField(form="u32", time=True),
                    BinaryField(form="u32", name="sequence"),
                    BinaryField(form="u16"),
                    BinaryField(form="u16"),
                    BinaryField(form="u8"),
                ),
                tag_octets=2,
                items={
                    1: (BinaryField(form="int", name="temperature", scale=Scale(unit="Cel", factor=0.01)),),
                    2: tuple(BinaryField(form="i32", name=f"shock_{axis}") for axis in _AXES),
                    3: (BinaryField(form="uint", name="humidity", scale=Scale(unit="%RH")),),
                    4: (BinaryField(form="uint", name="alert_bits"),),
                    5: tuple(BinaryField(form="i32", name=f"tilt_{axis}") for axis in _AXES),
                    6: (BinaryField(form="uint", name="shock_sum"),),
                },
            ),
        ),
    ),
)
