"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import secrets
import socket
from typing import Final

__all__ = ["free_port"]

_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections and to whoever binds port 0: none of them takes a port
between our look at it and the server's start."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback that nobody has bound."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
