"""A port for a server that has to be told its own: no other test, and no other test run, is given it."""

from __future__ import annotations

import socket

from broker.adapters.free_ports import free_ports

__all__ = ["free_port"]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback that nobody has bound."""
    (port,) = free_ports(1, kind)
    return port
