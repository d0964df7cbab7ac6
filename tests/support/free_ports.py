"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import IO, Final

__all__ = ["free_port"]

_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections and to whoever binds port 0: none of them takes a port
between our look at it and the server's start."""


class _Claims:
    """Who has been given a port keeps it until its process ends, so that no test run gives it to another server.

    An octet of a file that all test runs of a user share stands for a port, and is locked; locks end with the process.
    """

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._pid = 0
        self._file: IO[bytes] | None = None

    def claim(self, port: int) -> bool:
        """Whether it is ours now, and was not before."""
        if self._pid != os.getpid():  # a fork has its parent's set, but not its locks
            path = Path(tempfile.gettempdir()) / f"meshwire-test-ports-{os.getuid()}"
            self._file, self._pid, self._own = path.open("ab"), os.getpid(), set()
        assert self._file is not None
        if port in self._own:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._own.add(port)
        return True


_CLAIMS: Final = _Claims()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback that nobody has bound, and that no other call here, or in another test run, has given."""
    for _ in range(10 * len(_PORTS)):
        port = secrets.choice(_PORTS)
        if not _CLAIMS.claim(port):
            continue
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError(f"none of the ports {_PORTS[0]} to {_PORTS[-1]} is free")
