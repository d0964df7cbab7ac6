"""One subscriber: counts, checks the order of a single publisher's messages, acknowledges."""

from __future__ import annotations

from collections import Counter
from typing import Final

from bench.mqtt_load.job import Job, LoadError
from bench.mqtt_load.packets import PAYLOAD_OCTETS, answers, publish_packet
from bench.mqtt_load.wire import Wire

__all__ = ["Subscriber"]

CYCLE: Final = bytes(range(256)) * 64


class Subscriber:
    """See the module."""

    __slots__ = ("_alone", "_left", "_order", "_payload_at", "_size", "by_publisher", "qos", "received", "wire")

    def __init__(self, wire: Wire, job: Job) -> None:
        self.wire = wire
        self.qos = job.qos
        sample = publish_packet(0, 0, job.qos)
        self._size = len(sample)
        self._payload_at = self._size - PAYLOAD_OCTETS
        self._left = b""
        self._order = 0
        self._alone = job.publishers == 1
        self.received = 0
        self.by_publisher: Counter[int] = Counter()

    def on_data(self, data: bytes) -> None:
        if self._left:
            data = self._left + data
        size, at = self._size, self._payload_at
        if self.qos == 2:
            self._mixed(data)
            return
        count = len(data) // size
        whole = count * size
        self._left = data[whole:]
        if not count:
            return
        body = data[:whole]
        if self.qos == 1:
            self.wire.send(answers(0x40, body[at - 2 :: size], body[at - 1 :: size]))
        self._count(body[at::size], body[at + 1 :: size])

    def _mixed(self, data: bytes) -> None:
        """QoS 2: PUBLISH and PUBREL in turns."""
        size, at, end = self._size, self._payload_at, len(data)
        position = 0
        replies: list[bytes] = []
        orders, numbers = bytearray(), bytearray()
        while position + 4 <= end:
            if data[position] == 0x62:
                replies.append(b"\x70\x02" + data[position + 2 : position + 4])
                position += 4
            elif position + size <= end:
                payload = position + at
                replies.append(b"\x50\x02" + data[payload - 2 : payload])
                orders.append(data[payload])
                numbers.append(data[payload + 1])
                position += size
            else:
                break
        self._left = data[position:]
        if replies:
            self.wire.send(b"".join(replies))
        if orders:
            self._count(bytes(orders), bytes(numbers))

    def _count(self, orders: bytes, publishers: bytes) -> None:
        count = len(orders)
        if self._alone:
            begin = self._order
            if orders != CYCLE[begin : begin + count]:
                raise LoadError("a message was lost, repeated or reordered")
            self._order = (begin + count) & 0xFF
        else:
            self.by_publisher.update(publishers)
        self.received += count
