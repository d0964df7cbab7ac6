"""Octets towards one client: collected during a loop turn, handed to the transport in one piece, and watched for a
reader that is too slow.

This is the Outlet of a session. It does not know packets or sessions; who is told about a stuck reader is the caller's
business.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from broker.settings import Limits
from broker.statistics import Statistics
from broker.turn import Turn
from meshwire.mqtt import ProtocolVersion

__all__ = ["Output"]

FLUSH_AT_OCTETS: Final = 262_144
"""Octets collected above which they are handed over without waiting for the turn's end; also the transport's mark for
"full".
"""

LONGEST_PACKET_OCTETS: Final = 268_435_460

_NOTHING: Final[list[bytes]] = []
"""Never changed."""


class Output:
    """See the module.

    Args:
        turn: calls `flush` once in a loop turn.
        limits: bounds.
        statistics: counts packets and octets sent.
        on_room: called when a pause ends that was not the transport's: more can be written.
        on_overflow: called when more than `max_backlog_octets` wait for the network.
        on_revoked: called when the client may not be connected any more.
        on_kicked: called when an operator ends the connection.
        on_taken_over: called when another connection took the session.
    """

    __slots__ = (
        "_collected_octets",
        "_first",
        "_is_closing",
        "_is_direct",
        "_is_paused",
        "_max_backlog_octets",
        "_more",
        "_on_kicked",
        "_on_overflow",
        "_on_revoked",
        "_on_room",
        "_on_taken_over",
        "_sealed",
        "_statistics",
        "_transport",
        "_turn",
        "backlog_octets",
        "full_since",
        "is_full",
        "max_packet_octets",
        "receive_maximum",
        "version",
    )

    def __init__(
        self,
        turn: Turn,
        limits: Limits,
        statistics: Statistics,
        *,
        on_room: Callable[[], None],
        on_overflow: Callable[[], None],
        on_taken_over: Callable[[], None],
        on_revoked: Callable[[], None],
        on_kicked: Callable[[], None],
    ) -> None:
        self.version = ProtocolVersion.V3_1_1
        self.max_packet_octets = LONGEST_PACKET_OCTETS
        self.receive_maximum = limits.max_inflight
        self.is_full = False
        self.full_since: float | None = None
        self.backlog_octets = 0
        self._turn = turn
        self._max_backlog_octets = limits.max_backlog_octets
        self._statistics = statistics
        self._on_room = on_room
        self._on_overflow = on_overflow
        self._on_taken_over = on_taken_over
        self._on_revoked = on_revoked
        self._on_kicked = on_kicked
        self._transport: asyncio.Transport | None = None
        self._first = b""
        self._more: list[bytes] = _NOTHING
        """What was collected, in two parts: most turns collect one acknowledgement, which needs no list."""
        self._collected_octets = 0
        self._sealed = b""
        self._is_paused = False
        self._is_closing = False
        self._is_direct = turn.is_direct

    def open(self, transport: asyncio.Transport) -> None:
        """The connection is made."""
        transport.set_write_buffer_limits(high=FLUSH_AT_OCTETS)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Takes octets to send; they leave in one piece with all others of this loop turn.

        Much at once leaves early, or, when it has to wait for a commit, makes the session pause.
        """
        if not self._collected_octets:
            self._turn.add(self)
            self._first = data
        elif self._more:
            self._more.append(data)
        else:
            self._more = [data]
        self._collected_octets += len(data)
        if self._collected_octets > FLUSH_AT_OCTETS:
            if self._is_direct:
                self.flush()
            else:
                self.is_full = True

    def seal(self) -> None:
        """What was collected waits for the commit that begins now."""
        self._sealed = self._take()

    def release(self) -> None:
        """The commit is done."""
        sealed, self._sealed = self._sealed, b""
        if sealed:
            self._hand_over(sealed)
        self._after_hand_over()

    def flush(self) -> None:
        """Hands what was collected to the transport."""
        if self._collected_octets:
            self._hand_over(self._take())
        if not self._is_direct:
            self._after_hand_over()

    def _take(self) -> bytes:
        """What was collected, in one piece; each part was a packet."""
        self._statistics.packets_sent += 1 + len(self._more)
        data = self._first
        if self._more:
            data = b"".join((data, *self._more))
            self._more = _NOTHING
        self._first, self._collected_octets = b"", 0
        return data

    def _after_hand_over(self) -> None:
        if self._is_closing and not self._collected_octets:
            self._finish()
        elif self.is_full and not self._is_paused and self._collected_octets <= FLUSH_AT_OCTETS:
            self.is_full = False
            self._on_room()

    def _hand_over(self, data: bytes) -> None:
        """One write; then a look how much the network still owes us."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._statistics.octets_sent += len(data)
        transport.write(data)
        if self.is_full:
            self.backlog_octets = transport.get_write_buffer_size()
            if self.backlog_octets > self._max_backlog_octets:
                self._on_overflow()

    def pause(self, now: float) -> None:
        """The transport holds more than its mark (asyncio's `pause_writing`)."""
        self.is_full, self._is_paused, self.full_since = True, True, now

    def resume(self) -> None:
        """The transport has room again (asyncio's `resume_writing`)."""
        self.is_full, self._is_paused, self.full_since, self.backlog_octets = False, False, None, 0

    def taken_over(self) -> None:
        """Another connection has the session now."""
        self._on_taken_over()

    def revoked(self) -> None:
        """The client may not be connected any more."""
        self._on_revoked()

    def kicked(self) -> None:
        """An operator ends the connection."""
        self._on_kicked()

    def lost(self) -> None:
        """The connection is gone: transport and owner are let go, so that both leave memory now and not at the next
        run of the collector. A TLS transport holds a quarter of a megabyte.
        """
        self._transport = None
        self._on_room = self._on_overflow = self._on_taken_over = self._on_revoked = self._on_kicked = _nobody

    def close(self, *, abort: bool) -> None:
        """Sends what was collected and closes.

        With octets still waiting for the network a closing transport would wait for the peer for ever, so then it is
        aborted. Octets that wait for a commit are waited for.
        """
        transport = self._transport
        if transport is None:
            return
        if abort:
            transport.abort()
        elif self._is_direct:
            self.flush()
            self._finish()
        else:
            self._is_closing = True
            if not self._collected_octets and not self._sealed:
                self._finish()

    def _finish(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()


def _nobody() -> None:
    """Called in place of an owner that is gone."""
