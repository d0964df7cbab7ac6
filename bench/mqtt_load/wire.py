"""A connection to the broker, logged in, and octets of it."""

from __future__ import annotations

import select
import socket
from typing import Final

from bench.mqtt_load.job import Job, LoadError
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Packet,
    PacketStream,
    ProtocolVersion,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    encode,
)

__all__ = ["PATIENCE_S", "RECEIVE_OCTETS", "V311", "Wire", "exactly"]

RECEIVE_OCTETS: Final = 65_536
PATIENCE_S: Final = 20.0
V311: Final = ProtocolVersion.V3_1_1


class Wire:
    """A connected, logged-in, non-blocking socket; octets that the kernel does not take at once wait here."""

    __slots__ = ("_epoll", "_waiting", "fd", "sock")

    def __init__(self, job: Job, client_id: str, *, clean: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", job.port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.sock.fileno()
        self._waiting = b""
        self._epoll: select.epoll | None = None
        password = job.password.encode() if job.password is not None else None
        answer = self.ask(Connect(client_id, V311, clean, 0, None, job.username, password))
        if not isinstance(answer, ConnAck) or answer.reason_code:
            raise LoadError(f"CONNECT was answered by {answer}")

    def ask(self, packet: Packet) -> Packet:
        self.sock.sendall(encode(packet, V311))
        stream = PacketStream(Side.CLIENT, V311)
        while True:
            data = self.sock.recv(RECEIVE_OCTETS)
            if not data:
                raise LoadError("connection closed")
            stream.feed(data)
            for answer in stream.packets():
                return answer

    def subscribe(self, filters: list[str], qos: int) -> None:
        for begin in range(0, len(filters), 200):
            items = tuple(TopicSubscription(text, qos) for text in filters[begin : begin + 200])
            answer = self.ask(Subscribe(begin % 60_000 + 1, items))
            if not isinstance(answer, SubAck) or max(answer.reason_codes) > 2:
                raise LoadError(f"SUBSCRIBE was answered by {answer}")

    def join(self, epoll: select.epoll) -> None:
        self.sock.setblocking(False)
        self._epoll = epoll
        epoll.register(self.fd, select.EPOLLIN)

    def send(self, data: bytes) -> None:
        if self._waiting:
            self._waiting += data
            return
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        if taken < len(data):
            self._waiting = data[taken:]
            self._watch(select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        data, self._waiting = self._waiting, b""
        self._watch(select.EPOLLIN)
        self.send(data)

    def _watch(self, events: int) -> None:
        if self._epoll is not None:
            self._epoll.modify(self.fd, events)


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many octets of a blocking socket."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise LoadError("connection closed")
        data += more
    return data
