"""Pipes: ordered octets between two ends, whatever carries them.

Does: an in-memory pair, a pseudo-terminal, a TCP connection, and two wrappers that make a line honest
(`RateLimitedPipe`) or bad (`FaultyPipe`). Does not: frame anything, re-open anything (that is `meshwire.link`), or
touch a real serial port (that is `hardware`). Caller owes: a running asyncio loop, one reader at a time, and `aclose`.
"""

from __future__ import annotations

from meshwire.pipe.base import HIGH_WATER_OCTETS, Pipe, Resettable, pulse_reset
from meshwire.pipe.descriptor import DescriptorPipe
from meshwire.pipe.faults import FaultPlan, FaultyPipe
from meshwire.pipe.inbox import Inbox
from meshwire.pipe.line_rate import RateLimitedPipe
from meshwire.pipe.memory import MemoryPipe, memory_pair
from meshwire.pipe.pty import PtyPipe, open_pty
from meshwire.pipe.tcp import TcpPipe, open_tcp

__all__ = [
    "HIGH_WATER_OCTETS",
    "DescriptorPipe",
    "FaultPlan",
    "FaultyPipe",
    "Inbox",
    "MemoryPipe",
    "Pipe",
    "PtyPipe",
    "RateLimitedPipe",
    "Resettable",
    "TcpPipe",
    "memory_pair",
    "open_pty",
    "open_tcp",
    "pulse_reset",
]
