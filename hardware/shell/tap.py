"""A Pipe that tells what passes through it, and the view that makes frames of it, in both directions.

Does: hand octets on unchanged, note when ours went out, deframe each direction for watchers. Does not: judge, or delay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwire.hdlc.deframer import Deframer, Discarded
from meshwire.hdlc.frame import Frame
from meshwire.pipe import Pipe

__all__ = ["Direction", "FrameTap", "Seen", "TapPipe"]

_GAP_S: Final = 0.45
"""Silence after which the beginning of a frame is shown as what it is: cut off."""


class Direction(StrEnum):
    """Which way, as in log lines."""

    OUT = ">"
    IN = "<"


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame, or stretch of octets that is none, on the line.

    Args:
        direction: which way it went.
        item: what it is.
        at_s: when its last octet passed, by the tap's clock.
    """

    direction: Direction
    item: Frame | Discarded
    at_s: float


class FrameTap:
    """Both directions of a line as frames.

    Args:
        now: a clock in seconds.
        watch: told of everything, at once; must not raise.
    """

    def __init__(self, now: Callable[[], float], watch: Callable[[Seen], None]) -> None:
        self._now = now
        self._watch = watch
        self._deframers = {direction: Deframer() for direction in Direction}
        self._last_at = dict.fromkeys(Direction, float("-inf"))

    def pass_octets(self, direction: Direction, octets: bytes) -> None:
        """Take octets that passed."""
        now = self._now()
        deframer = self._deframers[direction]
        if deframer.held_octets and now - self._last_at[direction] > _GAP_S:
            self._tell(direction, deframer.idle())
        self._last_at[direction] = now
        self._tell(direction, deframer.feed(octets))

    def _tell(self, direction: Direction, found: list[Frame | Discarded]) -> None:
        for item in found:
            self._watch(Seen(direction, item, self._last_at[direction]))


class TapPipe:
    """A pipe with a tap on it.

    Args:
        inner: the line.
        tap: gets the octets of both directions.
    """

    def __init__(self, inner: Pipe, tap: FrameTap) -> None:
        self.inner = inner
        self.name = inner.name
        self._tap = tap

    @property
    def on_attention(self) -> Callable[[], None] | None:
        return self.inner.on_attention

    @on_attention.setter
    def on_attention(self, callback: Callable[[], None] | None) -> None:
        self.inner.on_attention = callback

    async def read(self) -> bytes:
        data = await self.inner.read()
        if data:
            self._tap.pass_octets(Direction.IN, data)
        return data

    def write(self, data: bytes) -> None:
        self._tap.pass_octets(Direction.OUT, data)
        self.inner.write(data)

    async def drain(self) -> None:
        await self.inner.drain()

    async def aclose(self) -> None:
        await self.inner.aclose()

    def pulse_attention(self) -> None:
        self.inner.pulse_attention()
