"""The fleet's UDP socket: one for all NICs, each with an address of its own, by IPV6_PKTINFO (RFC 3542 section 6).

Does: send from any address that is ours, say to which one a datagram came, drain many a wake-up. It hears the loopback
interface only. Does not: look into a datagram. `PortSockets` is for systems without such addresses: a socket and a port
for each NIC, on one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

from nic_sim.errors import ListenError

__all__ = ["PacketSocket", "PortSockets", "Receive", "SocketAddress", "Transport", "routes_to_us"]

SocketAddress = tuple[str, int, int, int]
"""Of family AF_INET6; IPv4 in the mapped spelling."""
Receive = Callable[[bytes, bytes, SocketAddress], None]
"""Told of a datagram: octets, our address (16 octets), who sent it."""

DATAGRAMS_A_WAKE_UP: Final = 256
RECEIVE_BUFFER_OCTETS: Final = 8 << 20
_SO_RCVBUFFORCE: Final = 33
_IPV6_FREEBIND: Final = 78
"""Linux: a source address that is routed to us and not assigned (ipv6(7)); missing in Python's socket module."""
_PACKET_INFO: Final = struct.Struct("=16sI")
_LONGEST_OCTETS: Final = 2048


class Transport(Protocol):
    """What carries the fleet's datagrams."""

    sent: int
    received: int
    send_failures: int

    def start(self, receive: Receive) -> None:
        """Begin to read on the running loop."""
        ...

    def send(self, octets: bytes, source: bytes, to: SocketAddress) -> None:
        """Send from one of our addresses; what the system does not take is counted and lost."""
        ...

    def close(self) -> None:
        """Stop and let go of the sockets; may be called again."""
        ...


class PacketSocket:
    """See the module's text.

    Args:
        port: UDP port of all NICs; 0: the system chooses.

    Raises:
        ListenError: the port is taken, or the system has no IPv6 sockets.
    """

    def __init__(self, port: int = 0) -> None:
        self.sent = self.received = self.send_failures = 0
        try:
            self._socket = _bound(port)
        except OSError as error:
            raise ListenError(
                "the fleet's socket can't be bound",
                evidence=f"port {port}: {error.strerror or error}",
                fix="choose another --port, or 0",
            ) from None
        self.port: int = self._socket.getsockname()[1]
        self._reading = False

    def start(self, receive: Receive) -> None:
        """See `Transport`."""
        asyncio.get_running_loop().add_reader(self._socket, self._drain, receive)
        self._reading = True

    def send(self, octets: bytes, source: bytes, to: SocketAddress) -> None:
        """See `Transport`."""
        self.sent += 1
        info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PACKET_INFO.pack(source, 0))
        try:
            self._socket.sendmsg((octets,), (info,), 0, to)
        except OSError:
            self.send_failures += 1

    def close(self) -> None:
        """See `Transport`."""
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._reading = False
        self._socket.close()

    def _drain(self, receive: Receive) -> None:
        receive_message = self._socket.recvmsg
        for _ in range(DATAGRAMS_A_WAKE_UP):
            try:
                octets, ancillary, _, source = receive_message(_LONGEST_OCTETS, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of an earlier send
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                    self.received += 1
                    receive(octets, data[:16], source)


class PortSockets:
    """A socket for each NIC, on one address; NIC n's "address" is its number.

    Args:
        host: address of all of them.
        count: how many.

    Raises:
        ListenError: the system has not so many sockets for us.
    """

    def __init__(self, host: str, count: int) -> None:
        self.sent = self.received = self.send_failures = 0
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                self._sockets.append(sock)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.setblocking(False)
                sock.bind((host, 0))
        except OSError as error:
            self.close()
            raise ListenError(
                f"there are sockets for {len(self._sockets)} of {count} NICs",
                evidence=error.strerror or str(error),
                fix="ulimit -n, fewer --nics, or --addresses loopback, which needs one socket",
            ) from None

    def start(self, receive: Receive) -> None:
        """See `Transport`."""
        loop = asyncio.get_running_loop()
        for number, sock in enumerate(self._sockets):
            loop.add_reader(sock, self._read, sock, number.to_bytes(16, "big"), receive)

    def send(self, octets: bytes, source: bytes, to: SocketAddress) -> None:
        """See `Transport`."""
        self.sent += 1
        try:
            self._sockets[int.from_bytes(source, "big")].sendto(octets, to)
        except OSError:
            self.send_failures += 1

    def close(self) -> None:
        """See `Transport`."""
        while self._sockets:
            sock = self._sockets.pop()
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _read(self, sock: socket.socket, address: bytes, receive: Receive) -> None:
        with contextlib.suppress(OSError):
            octets, source = sock.recvfrom(_LONGEST_OCTETS)
            self.received += 1
            receive(octets, address, source)


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        # Before bind: the wildcard address must not be heard from outside.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER_OCTETS)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
        sock.setblocking(False)
        sock.bind(("::", port))
    except OSError:
        sock.close()
        raise
    return sock


def routes_to_us(address: bytes) -> bool:
    """Whether a datagram to this address comes back to this machine, and may leave from it: tried with one datagram."""
    try:
        with contextlib.closing(_bound(0)) as sock:
            own = (socket.inet_ntop(socket.AF_INET6, address), sock.getsockname()[1], 0, 0)
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PACKET_INFO.pack(address, 0))
            sock.sendmsg((b"?",), (info,), 0, own)
            return bool(select.select([sock], [], [], 0.2)[0])
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return False
