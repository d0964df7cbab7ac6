"""Octets towards one client: collected during a loop turn, handed to the transport in one piece, and watched for a
reader that is too slow.

This is the Outlet of a session. It does not know packets or sessions; who is told about a stuck reader is the caller's
business.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from broker.flusher import Flusher
from broker.settings import Limits
from broker.statistics import Statistics
from meshwire.mqtt import ProtocolVersion

__all__ = ["Output"]

FLUSH_AT_OCTETS: Final = 262_144
"""Octets collected above which they are handed over without waiting for the turn's end; also the transport's mark for
"full".
"""

LONGEST_PACKET_OCTETS: Final = 268_435_460


class Output:
    """See the module.

    Args:
        flusher: calls `flush` once in a loop turn.
        limits: bounds.
        statistics: counts octets sent.
        on_overflow: called when more than `max_backlog_octets` wait for the network.
        on_taken_over: called when another connection took the session.
    """

    __slots__ = (
        "_collected",
        "_collected_octets",
        "_flusher",
        "_max_backlog_octets",
        "_on_overflow",
        "_on_taken_over",
        "_statistics",
        "_transport",
        "backlog_octets",
        "full_since",
        "is_full",
        "max_packet_octets",
        "receive_maximum",
        "version",
    )

    def __init__(
        self,
        flusher: Flusher,
        limits: Limits,
        statistics: Statistics,
        *,
        on_overflow: Callable[[], None],
        on_taken_over: Callable[[], None],
    ) -> None:
        self.version = ProtocolVersion.V3_1_1
        self.max_packet_octets = LONGEST_PACKET_OCTETS
        self.receive_maximum = limits.max_inflight
        self.is_full = False
        self.full_since: float | None = None
        self.backlog_octets = 0
        self._flusher = flusher
        self._max_backlog_octets = limits.max_backlog_octets
        self._statistics = statistics
        self._on_overflow = on_overflow
        self._on_taken_over = on_taken_over
        self._transport: asyncio.Transport | None = None
        self._collected: list[bytes] = []
        self._collected_octets = 0

    def open(self, transport: asyncio.Transport) -> None:
        """The connection is made."""
        transport.set_write_buffer_limits(high=FLUSH_AT_OCTETS)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Takes octets to send; they leave in one piece with all others of this loop turn."""
        if not self._collected:
            self._flusher.add(self)
        self._collected.append(data)
        self._collected_octets += len(data)
        if self._collected_octets > FLUSH_AT_OCTETS:
            self.flush()

    def flush(self) -> None:
        """Hands what was collected to the transport and looks how much the network still owes us."""
        collected, transport = self._collected, self._transport
        if not collected:
            return
        self._collected, self._collected_octets = [], 0
        if transport is None or transport.is_closing():
            return
        data = collected[0] if len(collected) == 1 else b"".join(collected)
        self._statistics.octets_sent += len(data)
        transport.write(data)
        if self.is_full:
            self.backlog_octets = transport.get_write_buffer_size()
            if self.backlog_octets > self._max_backlog_octets:
                self._on_overflow()

    def pause(self, now: float) -> None:
        """The transport holds more than its mark (asyncio's `pause_writing`)."""
        self.is_full, self.full_since = True, now

    def resume(self) -> None:
        """The transport has room again (asyncio's `resume_writing`)."""
        self.is_full, self.full_since, self.backlog_octets = False, None, 0

    def taken_over(self) -> None:
        """Another connection has the session now."""
        self._on_taken_over()

    def close(self, *, abort: bool) -> None:
        """Sends what was collected and closes.

        With octets still waiting for the network a closing transport would wait for the peer for ever, so then it is
        aborted.
        """
        transport = self._transport
        if transport is None:
            return
        if not abort:
            self.flush()
        if abort or transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()
