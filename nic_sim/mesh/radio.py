"""The radio of one node: a queue, time on the air and its bound, tries, and what all this takes from a battery."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from nic_sim.mesh.scenario import Radio

__all__ = ["Frame", "Transmission", "Transmitter", "energy_mah"]

SEND_MA: Final = 120.0
LISTEN_MA: Final = 0.02
"""On the average: a NIC sleeps most of the time."""
BATTERY_MAH: Final = 19_000.0


@dataclass(slots=True)
class Frame:
    """A datagram on its way through the mesh."""

    octets: bytes
    node: int
    """The NIC that it is of, or for."""
    upward: bool
    source: bytes = b""
    """The NIC's address: its source upwards, its destination downwards."""
    way: deque[int] = field(default_factory=deque)
    """Downwards: the nodes still to come."""
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Transmission:
    """How one frame fared on one hop."""

    begin_s: float
    end_s: float
    tries: int
    arrived: bool


class Transmitter:
    """One node's sender. It has one antenna: frames follow each other.

    Args:
        radio: the network's figures.
    """

    __slots__ = ("_budget_at", "_budget_s", "_free_at", "air_s", "failures", "radio", "waiting")

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.waiting = 0
        """Frames that are queued or on the air."""
        self.air_s = 0.0
        """Time sent so far."""
        self.failures = 0
        """Frames in a row that the parent did not take."""
        self._free_at = 0.0
        self._budget_s = radio.duty * radio.duty_window_s
        self._budget_at = 0.0

    @property
    def is_full(self) -> bool:
        """One more frame finds no place."""
        return self.waiting >= self.radio.queue

    def send(self, octets: int, delivery: float, now: float, source: random.Random) -> Transmission:
        """Send a frame as soon as those before it are gone and the duty bound allows.

        Args:
            octets: of the datagram.
            delivery: share of frames that arrive; 0 when nobody listens.
            now: seconds.
            source: of chance.
        """
        radio = self.radio
        airtime_s = (octets + radio.overhead_octets) * 8 / radio.bit_rate
        tries, arrived = 1, source.random() < delivery
        while not arrived and tries < radio.tries:
            tries, arrived = tries + 1, source.random() < delivery
        air_s = tries * airtime_s
        begin_s = self._allowed_at(max(now + radio.turnaround_s, self._free_at), air_s)
        end_s = begin_s + air_s + (tries - 1) * radio.turnaround_s * (1 + source.random())
        self._free_at = end_s
        self.air_s += air_s
        return Transmission(begin_s, end_s, tries, arrived)

    def _allowed_at(self, at: float, air_s: float) -> float:
        """The duty bound is a bucket that fills with the allowed share of time and holds a window's worth."""
        radio = self.radio
        most_s = radio.duty * radio.duty_window_s
        self._budget_s = min(most_s, self._budget_s + (at - self._budget_at) * radio.duty)
        wait_s = max(0.0, (min(air_s, most_s) - self._budget_s) / radio.duty)
        self._budget_at = at + wait_s
        self._budget_s += wait_s * radio.duty - air_s
        return at + wait_s


def energy_mah(air_s: float, uptime_s: float) -> float:
    """What a node has taken from its battery, in mAh."""
    return (SEND_MA * air_s + LISTEN_MA * uptime_s) / 3600
