"""One publisher: sends what its window allows, and takes acknowledgements."""

from __future__ import annotations

from typing import Final

from bench.mqtt_load.job import Job, LoadError
from bench.mqtt_load.packets import answers, publish_packet
from bench.mqtt_load.wire import Wire

__all__ = ["Publisher"]

RING: Final = 5_120
"""Packets made beforehand by one publisher; a multiple of 256 and above every window."""


class Publisher:
    """One publisher with its ring of packets."""

    __slots__ = ("_position", "_ring", "_size", "acknowledged", "delivered", "qos", "sent", "window", "wire")

    def __init__(self, wire: Wire, number: int, job: Job) -> None:
        self.wire = wire
        self.qos = job.qos
        self.window = job.window
        packets = [publish_packet(number, index, job.qos) for index in range(RING if job.publishers < 100 else 256)]
        self._size = len(packets[0])
        self._ring = b"".join(packets)
        self._position = 0
        self.sent = self.acknowledged = self.delivered = 0

    def advance(self) -> None:
        """Sends what the window allows."""
        done = self.delivered if self.qos == 0 or self.delivered < self.acknowledged else self.acknowledged
        room = self.window - self.sent + done
        if room <= 0:
            return
        self.sent += room
        begin, end = self._position, self._position + room * self._size
        ring = self._ring
        if end < len(ring):
            self.wire.send(ring[begin:end])
            self._position = end
        else:
            self._position = end - len(ring)
            self.wire.send(ring[begin:] + ring[: self._position])

    def on_data(self, data: bytes) -> None:
        """PUBACK, PUBREC and PUBCOMP are four octets each; a broker sends them whole."""
        if len(data) & 3:
            raise LoadError("acknowledgements came in pieces")
        if self.qos == 1:
            self.acknowledged += len(data) >> 2
            return
        kinds = data[::4]
        received = kinds.count(0x50)
        self.acknowledged += len(kinds) - received
        if received == len(kinds):
            self.wire.send(answers(0x62, data[2::4], data[3::4]))
        elif received:
            places = [index for index, kind in enumerate(kinds) if kind == 0x50]
            high, low = data[2::4], data[3::4]
            self.wire.send(answers(0x62, bytes(high[i] for i in places), bytes(low[i] for i in places)))
