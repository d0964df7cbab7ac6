"""The gateway's UDP sockets for CoAP: bound to every address at one port, drained many datagrams a wake-up.

Does: bind, read, send, count what the system refuses. Does not: look into a datagram. Each datagram goes to `receive`
with its source, those of one wake-up together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from gateway.addresses import Address
from gateway.errors import AddressInUseError
from gateway.statistics import Event, Statistics

__all__ = ["DatagramSockets", "bind_all"]

DATAGRAMS_A_WAKE_UP: Final = 64
_LONGEST_OCTETS: Final = 65_535
_SO_RCVBUFFORCE: Final = 33
"""Linux: beyond net.core.rmem_max, for processes that may (socket(7)); missing in Python's socket module."""
_PORT_ATTEMPTS: Final = 20
_MAX_ROUTES: Final = 65_536

_Source = tuple[str, int] | tuple[str, int, int, int]
"""An address as `recvfrom` gives it."""

_log = structlog.get_logger(__name__)


class DatagramSockets:
    """See the module's text.

    Args:
        hosts: IP addresses to bind.
        port: UDP port; 0: the system chooses one that is free on every address.
        receive_buffer_octets: wanted receive buffer.
        statistics: counted here.
        bound: sockets bound elsewhere (`shared_port.py`), to be used in place of binding.

    Raises:
        AddressInUseError: an address can't be bound.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        port: int,
        *,
        receive_buffer_octets: int,
        statistics: Statistics,
        bound: Sequence[socket.socket] = (),
    ) -> None:
        self._statistics = statistics
        self._sockets = list(bound) or bind_all(hosts, port, receive_buffer_octets=receive_buffer_octets)
        self._by_family = {sock.family: sock for sock in reversed(self._sockets)}
        self._ambiguous = len(self._by_family) < len(self._sockets)
        self._routes: dict[Address, socket.socket] = {}
        self._addresses: dict[_Source, Address] = {}
        self._targets: dict[tuple[str, int], tuple[socket.socket, _Source]] = {}
        """Where an answer goes: the socket, and the address as the system spells it."""
        self._buffer = memoryview(bytearray(_LONGEST_OCTETS))
        """Every datagram is read into it: memory that is in the processor's cache already."""
        self.port: int = self._sockets[0].getsockname()[1]

    def start(self, receive: Callable[[list[tuple[bytes, Address]]], None]) -> None:
        """Begin to read on the running loop. The callback gets what has come in turn, and must not raise."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.add_reader(sock, self._drain, sock, receive)

    def send(self, octets: bytes, to: Address) -> None:
        """Send a datagram; what the system does not take is counted and lost, as on any network."""
        target = self._targets.get((to.host, to.port))
        if target is None:
            self._send_anywhere(octets, to)
            return
        try:
            target[0].sendto(octets, target[1])
        except OSError as error:
            self._count_failure(error)

    def send_all(self, datagrams: Iterable[tuple[Address, bytes]]) -> None:
        """As `send`, for many."""
        targets = self._targets
        for to, octets in datagrams:
            target = targets.get((to.host, to.port))
            if target is None:
                self._send_anywhere(octets, to)
                continue
            try:
                target[0].sendto(octets, target[1])
            except OSError as error:
                self._count_failure(error)

    def _send_anywhere(self, octets: bytes, to: Address) -> None:
        """To an address that nothing came from, or where several sockets could be the right one."""
        host, _, scope = to.host.partition("%")
        six = ":" in host
        sock = self._routes.get(to) or self._by_family.get(socket.AF_INET6 if six else socket.AF_INET)
        if sock is None:
            self._statistics.count(Event.SEND_FAILED, "EAFNOSUPPORT")
            return
        try:
            sock.sendto(octets, (host, to.port, 0, int(scope or 0)) if six else (host, to.port))
        except OSError as error:
            self._count_failure(error)

    def _count_failure(self, error: OSError) -> None:
        self._statistics.count(Event.SEND_FAILED, errno.errorcode.get(error.errno or 0, "unknown"))

    def position_of(self, source: Address) -> int:
        """Which of the sockets a source was heard on, as its place among them."""
        sock = self._routes.get(source) or self._targets[source.host, source.port][0]
        return self._sockets.index(sock)

    def note(self, source: Address, position: int) -> None:
        """A source was heard by another process, on the socket at that place: answers leave by ours of that place."""
        self._remember_route(source, self._sockets[position])

    def stop(self) -> None:
        """Stop reading; sending is still possible."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)

    def close(self) -> None:
        """Stop reading and close; may be called again."""
        while self._sockets:
            sock = self._sockets.pop()
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _drain(self, sock: socket.socket, receive: Callable[[list[tuple[bytes, Address]]], None]) -> None:
        batch: list[tuple[bytes, Address]] = []
        known, read, buffer = self._addresses.get, sock.recvfrom_into, self._buffer
        for _ in range(DATAGRAMS_A_WAKE_UP):
            try:
                length, source = read(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # An ICMP error of an earlier send; the socket itself is well.
                self._count_failure(error)
                continue
            address = known(source) or self._learn(source, sock)
            if self._ambiguous:
                self._remember_route(address, sock)
            batch.append((bytes(buffer[:length]), address))
        if batch:
            receive(batch)

    def _learn(self, source: _Source, sock: socket.socket) -> Address:
        if len(self._addresses) >= _MAX_ROUTES:
            self._addresses.clear()
            self._targets.clear()
        address = self._addresses[source] = _address(source)
        if not self._ambiguous:
            self._targets[address.host, address.port] = sock, source
        return address

    def _remember_route(self, source: Address, sock: socket.socket) -> None:
        """With several addresses of a family, an answer leaves by the one that the question came to."""
        self._routes.pop(source, None)
        self._routes[source] = sock
        if len(self._routes) > _MAX_ROUTES:
            del self._routes[next(iter(self._routes))]


def bind_all(
    hosts: Sequence[str], port: int, *, receive_buffer_octets: int, shared: bool = False
) -> list[socket.socket]:
    """Bind every host that this machine has to one port.

    Args:
        hosts, port, receive_buffer_octets: as for `DatagramSockets`; with port 0 it is tried again when the port chosen
            first is taken on another host.
        shared: with others that say so, too (SO_REUSEPORT).

    Raises:
        AddressInUseError: an address can't be bound.
    """
    hosts = [host for host in hosts if _usable(host)] or list(hosts)
    for attempt in range(_PORT_ATTEMPTS):
        bound: list[socket.socket] = []
        try:
            for host in hosts:
                chosen = bound[0].getsockname()[1] if bound else port
                bound.append(_bind(host, chosen, receive_buffer_octets, shared))
            return bound
        except OSError as error:
            for sock in bound:
                sock.close()
            if port or attempt == _PORT_ATTEMPTS - 1:
                raise _not_bound(hosts, port, error) from None
    raise AssertionError("unreachable: the last attempt returns or raises")


def _bind(host: str, port: int, receive_buffer_octets: int, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _enlarge(sock, receive_buffer_octets)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _enlarge(sock: socket.socket, octets: int) -> None:
    """As much receive buffer as we may have; the system's default loses the end of a burst."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if granted < octets:
        _log.warning(
            "UDP receive buffer is smaller than wanted; do: sysctl -w net.core.rmem_max=…",
            wanted=octets,
            granted=granted,
        )


def _usable(host: str) -> bool:
    """Whether this machine has the address; a machine without IPv6 still serves IPv4."""
    if ":" not in host:
        return True
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((host.partition("%")[0], 0))
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and ipaddress.ip_address(host).is_loopback:
            _log.warning("no IPv6 on this machine: CoAP is served on IPv4 only", host=host)
            return False
    return True


def _not_bound(hosts: Sequence[str], port: int, error: OSError) -> AddressInUseError:
    return AddressInUseError(
        "the CoAP socket can't be bound",
        evidence=f"{', '.join(hosts)} port {port}: {error.strerror or error}",
        fix="stop the program that holds the port, or choose another: gateway.listen, gateway.port",
    )


def _address(source: _Source) -> Address:
    if len(source) == 4 and source[3]:
        return Address(f"{source[0].partition('%')[0]}%{source[3]}", source[1])
    return Address(source[0], source[1])
