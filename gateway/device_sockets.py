"""The UDP sockets towards devices: one of each family, drained many datagrams a wake-up, ICMP errors told.

Does: bind (loopback alone, or every address), read, send, tell which address the network could not reach. Does not:
look into a datagram.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from gateway.addresses import Address

__all__ = ["DeviceSockets"]

DATAGRAMS_A_WAKE_UP: Final = 64
RECEIVE_BUFFER_OCTETS: Final = 4 << 20
MAX_ADDRESSES: Final = 65_536
_LONGEST_OCTETS: Final = 65_535
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_MSG_ERRQUEUE: Final = getattr(socket, "MSG_ERRQUEUE", 0x2000)
"""Linux: ip(7), ipv6(7) and recvmsg(2); Python 3.11 does not name the first two."""
_ERROR: Final = struct.Struct("=I")
"""The first field of `struct sock_extended_err`."""

_Source = tuple[str, int] | tuple[str, int, int, int]


class DeviceSockets:
    """See the module's text.

    Args:
        loopback_only: no datagram leaves or enters this machine.
    """

    def __init__(self, *, loopback_only: bool) -> None:
        self._loopback_only = loopback_only
        self._four: socket.socket | None = None
        self._six: socket.socket | None = None
        self._addresses: dict[_Source, Address] = {}
        self._targets: dict[tuple[str, int], tuple[socket.socket, _Source]] = {}

    def start(self, receive: Callable[[bytes, Address], None], unreachable: Callable[[Address, str], None]) -> None:
        """Bind and begin to read on the running loop. Neither callback may raise.

        Raises:
            OSError: no socket of either family can be had.
        """
        failure: OSError | None = None
        try:
            self._four = _bound(socket.AF_INET, "127.0.0.1" if self._loopback_only else "0.0.0.0")
        except OSError as error:
            failure = error
        try:
            self._six = _bound(socket.AF_INET6, "::1" if self._loopback_only else "::")
        except OSError:
            # Many machines have no IPv6.
            if failure is not None:
                raise failure from None
        loop = asyncio.get_running_loop()
        for sock in (self._four, self._six):
            if sock is not None:
                loop.add_reader(sock, self._drain, sock, receive, unreachable)

    def close(self) -> None:
        """Stop reading and close; may be called again."""
        loop = asyncio.get_running_loop()
        for sock in (self._four, self._six):
            if sock is not None:
                loop.remove_reader(sock)
                sock.close()
        self._four = self._six = None
        self._targets.clear()

    def send(self, octets: bytes, to: Address) -> str | None:
        """Send a datagram; the result says why it can't leave, None: it has left."""
        target = self._targets.get((to.host, to.port)) or self._target(to)
        if target is None:
            return "no socket for this kind of address"
        try:
            target[0].sendto(octets, target[1])
        except (BlockingIOError, InterruptedError):
            return None  # Lost, as on any network.
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH):
                # What an earlier datagram met with; read from the error queue in its turn. This one has a second try.
                with contextlib.suppress(OSError):
                    target[0].sendto(octets, target[1])
                return None
            return error.strerror or str(error)
        return None

    def _target(self, to: Address) -> tuple[socket.socket, _Source] | None:
        host, _, scope = to.host.partition("%")
        six = ":" in host
        sock = self._six if six else self._four
        if sock is None:
            return None
        if len(self._targets) >= MAX_ADDRESSES:
            self._targets.clear()
        number = int(scope) if scope.isdigit() else 0
        address: _Source = (host, to.port, 0, number) if six else (host, to.port)
        target = self._targets[to.host, to.port] = sock, address
        return target

    def _drain(
        self,
        sock: socket.socket,
        receive: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
    ) -> None:
        for turn in range(DATAGRAMS_A_WAKE_UP):
            try:
                octets, source = sock.recvfrom(_LONGEST_OCTETS)
            except (BlockingIOError, InterruptedError):
                if turn == 0:
                    # Awake for nothing: a send has met the error already, and only the queue still tells of it.
                    self._read_errors(sock, unreachable)
                    self._watch_again(sock, receive, unreachable)
                return
            except OSError:
                self._read_errors(sock, unreachable)
                self._watch_again(sock, receive, unreachable)
                continue
            receive(octets, self._addresses.get(source) or self._learn(source))

    def _watch_again(
        self,
        sock: socket.socket,
        receive: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
    ) -> None:
        """libuv stops watching a socket that has an error, even one that is read away (uvloop)."""
        if sock not in (self._four, self._six):
            return  # Closed meanwhile.
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.add_reader(sock, self._drain, sock, receive, unreachable)

    def _read_errors(self, sock: socket.socket, unreachable: Callable[[Address, str], None]) -> None:
        """Which datagrams the network gave back, and why."""
        while True:
            try:
                _, ancillary, _, source = sock.recvmsg(0, 512, _MSG_ERRQUEUE)
            except OSError:
                return
            for _, kind, data in ancillary:
                if kind in (_IP_RECVERR, _IPV6_RECVERR):
                    (number,) = _ERROR.unpack_from(data)
                    unreachable(_address(source), os.strerror(number))

    def _learn(self, source: _Source) -> Address:
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        address = self._addresses[source] = _address(source)
        return address


def _bound(family: socket.AddressFamily, host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock


def _address(source: _Source) -> Address:
    if len(source) == 4 and source[3]:
        return Address(f"{source[0].partition('%')[0]}%{source[3]}", source[1])
    return Address(source[0], source[1])
