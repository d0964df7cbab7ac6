"""Ports of loopback for servers that have to be told theirs, and that may take seconds to bind them.

Does: give each port once, in this process and in all others of this user that ask here, until the asking process ends.
Does not: keep anybody else from binding one.
"""

import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import IO, Final

__all__ = ["PORTS", "free_ports"]

PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections and to whoever binds port 0: none of them takes a port
between our look at it and the server's start."""


class _Claims:
    """An octet of a file that all processes of a user share stands for a port; who has given it has it locked."""

    def __init__(self) -> None:
        self._pid = 0
        self._file: IO[bytes] | None = None
        self._own: set[int] = set()

    def claim(self, port: int) -> bool:
        """Whether it is ours now, and was not before."""
        if self._file is None or self._pid != os.getpid():  # locks are not inherited
            path = Path(tempfile.gettempdir()) / f"meshwire-ports-{os.getuid()}"
            self._file, self._pid, self._own = path.open("ab"), os.getpid(), set()
        if port in self._own:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._own.add(port)
        return True


_CLAIMS: Final = _Claims()


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Ports that nobody has bound, all different.

    Args:
        count: how many.
        kind: TCP or UDP.

    Raises:
        OSError: there are no more.
    """
    found: list[int] = []
    first = secrets.randbelow(len(PORTS))
    for port in (*PORTS[first:], *PORTS[:first]):
        if len(found) == count:
            break
        if _CLAIMS.claim(port) and _is_free(port, kind):
            found.append(port)
    if len(found) == count:
        return found
    raise OSError(f"none of the ports {PORTS[0]} to {PORTS[-1]} is free")


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
