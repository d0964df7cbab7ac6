"""What lies between a light NIC and its board: nothing but octets, or a real HDLC link through both stations.

Both kinds carry the same CoAP messages. The HDLC kind is a standing link in the standard profile on a line without
noise and without length: SNRM, I frames, RR and the wake pulse are all there, octet for octet, but no line time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Final, Protocol

from meshwire.capture.record import Side
from meshwire.hdlc.events import DataReceived, LinkDown
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import STANDARD
from meshwire.hdlc.secondary import SecondaryStation
from nic_sim.fleet.board import LightBoard

__all__ = ["DirectWire", "HdlcWire", "Tap", "Wire", "WireKind", "make_wire"]

PROFILE: Final = replace(STANDARD, poll_period_s=0.0, inactivity_timeout_s=0.0, max_queued_sdus=8)
"""The board pulls its wake line when it has something, so it is never polled for nothing."""
_TURNS: Final = 32
"""An exchange on a perfect line takes fewer; more would mean that the stations talk for ever."""


Tap = Callable[[Side, bytes, float, float], None]
"""Is told who sent which octets, at which time of the fleet's clock and of Unix, both in seconds."""


class WireKind(StrEnum):
    """`--wire`."""

    NONE = "none"
    HDLC = "hdlc"


class Wire(Protocol):
    """One NIC's way to its board."""

    board: LightBoard

    def ask(self, octets: bytes, now: float, unix_s: float) -> bytes | None:
        """Send the board a message and give its answer."""
        ...

    def report(self, now: float, unix_s: float) -> bytes | None:
        """Let the board take a reading and give its notification."""
        ...

    def restart(self, now: float) -> None:
        """The board has lost power: its link is down and it knows nothing any more."""
        ...


class DirectWire:
    """CoAP messages without a link."""

    __slots__ = ("board",)

    def __init__(self, board: LightBoard) -> None:
        self.board = board

    def ask(self, octets: bytes, now: float, unix_s: float) -> bytes | None:
        """See `Wire`."""
        return self.board.receive(octets, unix_s)

    def report(self, now: float, unix_s: float) -> bytes | None:
        """See `Wire`."""
        return self.board.report(unix_s)

    def restart(self, now: float) -> None:
        """See `Wire`."""
        self.board.reboot()


class HdlcWire:
    """Both stations of IEC 62056-46, joined back to back."""

    __slots__ = ("_primary", "_secondary", "board", "tap")

    def __init__(self, board: LightBoard, tap: Tap | None = None) -> None:
        self.board = board
        self.tap = tap
        self._primary = PrimaryStation(PROFILE)
        self._secondary = SecondaryStation(PROFILE)

    @property
    def octets(self) -> int:
        """Octets that went over the line, both directions."""
        return self._primary.counters.octets_out + self._primary.counters.octets_in

    def ask(self, octets: bytes, now: float, unix_s: float) -> bytes | None:
        """See `Wire`."""
        self._primary.send(octets, now)
        answer = self._exchange(now, unix_s)
        if answer is None and self._secondary.wants_attention:
            self._primary.poll(now)
            answer = self._exchange(now, unix_s)
        return answer

    def report(self, now: float, unix_s: float) -> bytes | None:
        """See `Wire`."""
        notification = self.board.report(unix_s)
        if notification is None:
            return None
        self._secondary.send(notification, now)
        self._primary.poll(now)  # the wake pulse
        return self._exchange(now, unix_s)

    def restart(self, now: float) -> None:
        """See `Wire`."""
        self.board.reboot()
        self._secondary = SecondaryStation(PROFILE)
        self._primary = PrimaryStation(PROFILE)

    def _exchange(self, now: float, unix_s: float) -> bytes | None:
        """Carry octets to and fro until both are silent; what the NIC's station got."""
        received = None
        for _ in range(_TURNS):
            down = self._primary.data_to_send(now)
            if not down:
                break
            self._secondary.receive_data(down, now)
            self._serve(now, unix_s)
            up = self._secondary.data_to_send(now)
            self._primary.receive_data(up, now)
            if (tap := self.tap) is not None:
                tap(Side.NIC, down, now, unix_s)
                tap(Side.BOARD, up, now, unix_s)
            while (event := self._primary.next_event()) is not None:
                if isinstance(event, DataReceived):
                    received = event.sdu
        return received

    def _serve(self, now: float, unix_s: float) -> None:
        while (event := self._secondary.next_event()) is not None:
            if isinstance(event, DataReceived):
                answer = self.board.receive(event.sdu, unix_s)
                if answer is not None:
                    self._secondary.send(answer, now)
                    self._primary.poll(now)
            elif isinstance(event, LinkDown):
                self.board.reboot()


def make_wire(kind: WireKind, board: LightBoard) -> Wire:
    """The wire of that kind."""
    return HdlcWire(board) if kind is WireKind.HDLC else DirectWire(board)
