"""Frames between light NICs and their boards, for whoever watches one: on demand, a few NICs of a fleet at a time.

A NIC that nobody watches has no tap and keeps nothing, so that a fleet of any size costs what it did. One whose wire is
none gets a real HDLC wire while it is watched: the same messages then pass through both stations. A lease ends by
itself: by the next exchange of its NIC, or when somebody asks for another one's frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshwire.capture.record import Side
from meshwire.capture.recorder import Recorder
from meshwire.coap import codes
from nic_sim.fleet.wire import HdlcWire
from nic_sim.frame_ring import FrameRing
from nic_sim.resources import ResourceError

if TYPE_CHECKING:
    from nic_sim.fleet.nic import LightNic

__all__ = ["MOST_WATCHED", "WatchedNics"]

MOST_WATCHED: Final = 20
"""NICs of one fleet at the same time."""


class WatchedNics:
    """The NICs of a fleet that are watched; see the module."""

    def __init__(self) -> None:
        self._watches: dict[int, _Watch] = {}

    @property
    def count(self) -> int:
        """How many have a tap."""
        return len(self._watches)

    def read(self, nic: LightNic, after: int, lease_s: float, now: float, unix_s: float) -> bytes:
        """A batch of what passed after a number; begins or renews the lease.

        Args:
            nic: whose frames.
            after: the last number that the reader has; 0: none.
            lease_s: how long to go on without being asked again.
            now: on the fleet's clock.
            unix_s: the same time, of Unix.

        Raises:
            ResourceError: 5.03, so many are watched already.
        """
        for watch in [each for each in self._watches.values() if each.is_over(now)]:
            self.end(watch.nic)
        if nic.number not in self._watches:
            if len(self._watches) >= MOST_WATCHED:
                raise ResourceError(codes.SERVICE_UNAVAILABLE, f"{MOST_WATCHED} NICs of this fleet are watched already")
            self._watches[nic.number] = _Watch(self, nic, after, now + lease_s, unix_s)
        watch = self._watches[nic.number]
        watch.until = max(watch.until, now + lease_s)
        return watch.ring.batch(after)

    def end(self, nic: LightNic) -> None:
        """Stop watching a NIC: no tap, nothing kept, its own wire again."""
        watch = self._watches.pop(nic.number, None)
        if watch is not None:
            watch.end()


class _Watch:
    """One NIC with a tap on its wire."""

    def __init__(self, watches: WatchedNics, nic: LightNic, after: int, until: float, unix_s: float) -> None:
        self.nic = nic
        self.until = until
        self.ring = FrameRing(last=after)
        self._watches = watches
        self._recorder = Recorder([self.ring.put])
        self._recorder.event(Side.NIC, "watching begins", int(unix_s * 1e9))
        self._own_wire = nic.wire
        if isinstance(nic.wire, HdlcWire):
            nic.wire.tap = self._heard
        else:
            nic.wire = HdlcWire(nic.wire.board, self._heard)

    def is_over(self, now: float) -> bool:
        """Whether the lease has ended."""
        return now >= self.until

    def end(self) -> None:
        """Take the tap away."""
        if isinstance(self.nic.wire, HdlcWire):
            self.nic.wire.tap = None
        self.nic.wire = self._own_wire

    def _heard(self, sender: Side, octets: bytes, now: float, unix_s: float) -> None:
        if self.is_over(now):
            self._watches.end(self.nic)
        elif octets:
            self._recorder.heard(sender, octets, int(unix_s * 1e9))
