"""One message at a time from one socket to another."""

from __future__ import annotations

import socket
import time

from bench.mqtt_load.job import Job, Outcome, processor_s
from bench.mqtt_load.packets import PAYLOAD_OCTETS, publish_packet
from bench.mqtt_load.wire import Wire, exactly

__all__ = ["measure"]


def measure(job: Job) -> Outcome:
    """Round trips, in milliseconds."""
    subscriber, publisher = Wire(job, "sub-0"), Wire(job, "pub-0")
    subscriber.subscribe(["load/read/+"], job.qos)
    packets = [publish_packet(0, index, job.qos) for index in range(256)]
    size = len(packets[0])
    times: list[float] = []
    begin, used = time.perf_counter(), processor_s()
    deadline = begin + job.warm_up_s + job.seconds
    while time.perf_counter() < deadline:
        packet = packets[len(times) & 0xFF]
        sent = time.perf_counter()
        publisher.sock.sendall(packet)
        if job.qos == 2:  # Mosquitto delivers at PUBREL, ours at PUBLISH
            publisher.sock.sendall(b"\x62\x02" + exactly(publisher.sock, 4)[2:])
        got = exactly(subscriber.sock, size)
        times.append(time.perf_counter() - sent)
        _complete(job.qos, publisher.sock, subscriber.sock, got)
    times = sorted(times[len(times) // 5 :])
    elapsed = time.perf_counter() - begin
    p50, p99 = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
    return Outcome(len(times), elapsed, (processor_s() - used) / elapsed, p50, p99)


def _complete(qos: int, publisher: socket.socket, subscriber: socket.socket, got: bytes) -> None:
    """The rest of the handshake, outside of the time taken."""
    packet_id = got[-PAYLOAD_OCTETS - 2 : -PAYLOAD_OCTETS]
    if qos == 1:
        subscriber.sendall(b"\x40\x02" + packet_id)
        exactly(publisher, 4)
    elif qos == 2:
        subscriber.sendall(b"\x50\x02" + packet_id)
        exactly(publisher, 4)
        exactly(subscriber, 4)
        subscriber.sendall(b"\x70\x02" + packet_id)
