"""What the main process and a worker say to each other, over a pair of connected Unix sockets.

A message is one CBOR array, its first element the kind; the socket keeps messages apart (SOCK_SEQPACKET). Nobody waits
for room: what does not fit now is dropped and told to the caller, as datagrams and figures may be. The end of one
process is the end of the channel for the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import cbor2

__all__ = ["Kind", "WorkerChannel"]

_LARGEST_OCTETS: Final = 1 << 18
_BUFFER_OCTETS: Final = 1 << 20
_MESSAGES_A_TURN: Final = 256


class Kind(StrEnum):
    """First element of a message; what follows it is told here."""

    START = "start"
    """To a worker: number, settings as JSON, state folder, whether uvloop is wanted."""
    REPORT = "report"
    """From a worker, every second: status of its lane, counters as [event, reason, times]."""
    SEEN = "seen"
    """From a worker: devices and where they were heard, as [mac, host, port, Unix seconds]."""
    DATAGRAM = "datagram"
    """From a worker: octets, host, port, position of the socket; something that is not for it."""
    ASK = "ask"
    """To a worker: number of the question, the question."""
    ANSWER = "answer"
    """From a worker: number of the question, the answer."""


class WorkerChannel:
    """One end of a channel.

    Args:
        end: a connected SOCK_SEQPACKET socket; closed by `close`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_OCTETS)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, on_message: Callable[[Kind, Sequence[object]], None], on_end: Callable[[], None]) -> None:
        """Read on the running loop; `on_end` is called once, when the other process has gone."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read, on_message, on_end)

    def send(self, kind: Kind, *fields: object) -> bool:
        """Send a message; False when it was dropped."""
        try:
            self._socket.send(cbor2.dumps([kind.value, *fields]))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Stop, and let the other end know."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop = None
        self._socket.close()

    def _read(self, on_message: Callable[[Kind, Sequence[object]], None], on_end: Callable[[], None]) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                octets = self._socket.recv(_LARGEST_OCTETS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                octets = b""
            if not octets:
                if self._loop is not None:
                    self._loop.remove_reader(self._socket)
                on_end()
                return
            kind, *fields = cbor2.loads(octets)
            on_message(Kind(kind), fields)
            if self._loop is None:
                return
