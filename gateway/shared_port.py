"""One UDP port for several processes: binds the group of sockets before any process reads from one of them.

The main process binds all sockets and keeps them open; workers get theirs by inheritance. So the group never changes
while the gateway runs: what comes in for a worker that has died waits in its socket for the next one.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.errors import AddressInUseError
from gateway.sockets import bind_all
from gateway.steering import steer

__all__ = ["bind_group"]

_PATIENCE_S: Final = 2.0
"""Workers of a gateway that was killed let go of the port so soon."""

_log = structlog.get_logger(__name__)


def bind_group(
    hosts: Sequence[str], port: int, workers: int, *, receive_buffer_octets: int
) -> list[list[socket.socket]]:
    """Sockets for the main process and each worker, member by member; every member has one for each host.

    Raises:
        AddressInUseError: an address can't be bound, or another gateway serves there.
    """
    if port:
        # Sharing would let two gateways take each other's datagrams: nobody may be there when we come.
        _wait_until_free(hosts, port)
    main = bind_all(hosts, port, receive_buffer_octets=receive_buffer_octets, shared=True)
    port = main[0].getsockname()[1]
    names = [sock.getsockname()[0] for sock in main]
    others = [bind_all(names, port, receive_buffer_octets=receive_buffer_octets, shared=True) for _ in range(workers)]
    steered = [steer(sock, workers) for sock in main]
    if not all(steered):
        _log.warning("datagrams can't be steered by MAC here; workers get them by source address")
    return [main, *others]


def _wait_until_free(hosts: Sequence[str], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            for sock in bind_all(hosts, port, receive_buffer_octets=65_536):
                sock.close()
            return
        except AddressInUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
