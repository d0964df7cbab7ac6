"""The load of `meshwire bench bridge`: many light NICs and one subscriber, in one process on one core, without asyncio.

The loop is closed: each NIC has `outstanding` confirmable notifications on the way and sends the next one when it gets
a 2.04. What counts is what the subscriber gets from the broker; all its packets have one length, so that counting and
acknowledging are slicing. `python -m bench.bridge_load JOB` takes a Job as JSON and prints an Outcome as JSON.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from meshwire.coap import CON, Message, codes, options
from meshwire.coap import encode as encode_message
from meshwire.identity import DeviceId
from meshwire.mqtt import Connect, PacketStream, ProtocolVersion, Side, Subscribe, TopicSubscription, encode
from meshwire.notification import Notification, uplink_request

__all__ = ["DEVICE_TYPE", "TENANT", "Job", "Outcome", "device_id", "run"]

TENANT: Final = "acme"
DEVICE_TYPE: Final = "temp"
RESOURCE: Final = "snsr/arduino/temp"
PAYLOAD: Final = bytes.fromhex("a2006474656d70017836") + b"1700000000,72.50,F".ljust(54, b" ")
"""A device record of 64 octets."""
FIRST_OBSERVE: Final = 1_000_000
CHANGED: Final = 0x44
RECEIVE_OCTETS: Final = 262_144
PATIENCE_S: Final = 1.0
V311: Final = ProtocolVersion.V3_1_1


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Args:
        gateway_port: CoAP port of the bridge at 127.0.0.1.
        broker_port: TCP port of the broker at 127.0.0.1.
        qos: of the subscription.
        nics: light NICs, each with a source port of its own.
        outstanding: notifications that one NIC has on the way.
        seconds: duration of the measurement, after `warm_up_s`.
        rate: notifications a second, evenly; 0: as fast as the answers come.
        epoch: told in the envelope; a new one for each run, so that nothing is a repetition.
        watch: processes whose processor time is wanted.
    """

    gateway_port: int
    broker_port: int
    qos: int = 1
    nics: int = 16
    outstanding: int = 4
    seconds: float = 1.0
    warm_up_s: float = 0.3
    rate: float = 0.0
    epoch: int = 1
    username: str | None = None
    password: str | None = None
    watch: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, in the time of the measurement."""

    seconds: float
    acknowledged: int
    delivered: int
    p50_ms: float
    """From the request to its 2.04."""
    p99_ms: float
    repeated: int
    """Requests that had to be sent again."""
    processor_s: tuple[float, ...] = ()
    """Of the processes watched, in their order."""
    resident_kb: tuple[int, ...] = field(default=())


def device_id(number: int) -> DeviceId:
    """The MAC of a NIC of the load."""
    return DeviceId(f"{0x0013500500470000 + number:016x}")


class _Nic:
    """One light NIC: a connected socket and what it has on the way."""

    def __init__(self, number: int, job: Job) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", job.gateway_port))
        notification = Notification(device_id(number), RESOURCE, FIRST_OBSERVE, job.epoch, 60, PAYLOAD, 1.7e9)
        segments, queries = uplink_request(notification)
        pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
        pairs.append((options.CONTENT_FORMAT, b"\x3c"))
        pairs += [(options.URI_QUERY, query.encode()) for query in queries]
        octets = encode_message(Message(CON, codes.POST, 0, b"up", tuple(pairs), PAYLOAD))
        before, _, self._after = octets.partition(b"%d" % FIRST_OBSERVE)
        self._head, self._before = before[:2], before[4:]
        self._number = 0
        self.waiting: dict[bytes, tuple[float, bytes]] = {}

    def send(self, now: float) -> None:
        self._number += 1
        mid = (self._number & 0xFFFF).to_bytes(2, "big")
        octets = b"%b%b%b%d%b" % (self._head, mid, self._before, FIRST_OBSERVE + self._number, self._after)
        self.waiting[mid] = (now, octets)
        self.socket.send(octets)

    def repeat(self, before: float) -> int:
        late = [octets for sent_at, octets in self.waiting.values() if sent_at < before]
        for octets in late:
            self.socket.send(octets)
        return len(late)


class _Subscriber:
    """Counts what the broker delivers and acknowledges it."""

    def __init__(self, job: Job) -> None:
        self.delivered = 0
        self._qos = job.qos
        self._rest = b""
        self.socket = socket.create_connection(("127.0.0.1", job.broker_port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        password = None if job.password is None else job.password.encode()
        connect = Connect(f"bench-{os.getpid()}", V311, username=job.username, password=password)
        subscribe = Subscribe(1, (TopicSubscription(f"{TENANT}/read/#", job.qos),))
        self.socket.sendall(encode(connect, V311) + encode(subscribe, V311))
        stream = PacketStream(Side.CLIENT)
        answers = 0
        while answers < 2:
            stream.feed(self.socket.recv(4096))
            answers += len(list(stream.packets()))
        topic = 2 + len(f"{TENANT}/read/{device_id(0)}/{DEVICE_TYPE}")
        body = topic + (2 if job.qos else 0) + len(PAYLOAD)
        self._length = body + (2 if body < 128 else 3)
        self._id_at = self._length - len(PAYLOAD) - 2

    def read(self) -> None:
        octets = self._rest + self.socket.recv(RECEIVE_OCTETS)
        if self._qos == 2:
            self._read_qos2(octets)
            return
        count, rest = divmod(len(octets), self._length)
        self._rest = octets[-rest:] if rest else b""
        self.delivered += count
        if self._qos and count:
            self._answer(octets, count, 0x40)

    def _answer(self, octets: bytes, count: int, first: int) -> None:
        answers = bytearray(bytes((first, 2, 0, 0)) * count)
        end = count * self._length
        answers[2::4] = octets[self._id_at : end : self._length]
        answers[3::4] = octets[self._id_at + 1 : end : self._length]
        self.socket.sendall(answers)

    def _read_qos2(self, octets: bytes) -> None:
        """PUBLISH and PUBREL in any mixture."""
        position, end, answers = 0, len(octets), []
        while position < end:
            if octets[position] == 0x62:
                if position + 4 > end:
                    break
                answers.append(b"\x70\x02" + octets[position + 2 : position + 4])
                position += 4
                continue
            if position + self._length > end:
                break
            at = position + self._id_at
            answers.append(b"\x50\x02" + octets[at : at + 2])
            position += self._length
            self.delivered += 1
        self._rest = octets[position:]
        if answers:
            self.socket.sendall(b"".join(answers))


class _Load:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._subscriber = _Subscriber(job)
        self._nics = [_Nic(number, job) for number in range(job.nics)]
        self._epoll = select.epoll()
        self._by_file = {nic.socket.fileno(): nic for nic in self._nics}
        for file in (*self._by_file, self._subscriber.socket.fileno()):
            self._epoll.register(file, select.EPOLLIN)
        self._acknowledged = self._repeated = 0
        self._times: list[float] = []
        self._due = 0.0
        self._turn = 0

    def run(self) -> Outcome:
        job, now = self._job, time.perf_counter()
        self._due = now
        if not job.rate:
            for nic in self._nics * job.outstanding:
                nic.send(now)
        self._serve(now + job.warm_up_s)
        self._times.clear()
        before, begin = self._figures(), time.perf_counter()
        self._serve(begin + job.seconds)
        after, seconds = self._figures(), time.perf_counter() - begin
        acknowledged, delivered, repeated, *processor = (b - a for a, b in zip(before, after, strict=True))
        times = sorted(self._times) or [0.0]
        return Outcome(
            seconds,
            int(acknowledged),
            int(delivered),
            times[len(times) // 2] * 1000,
            times[len(times) * 99 // 100] * 1000,
            int(repeated),
            tuple(processor),
            tuple(map(_resident_kb, job.watch)),
        )

    def _figures(self) -> tuple[float, ...]:
        return (
            self._acknowledged,
            self._subscriber.delivered,
            self._repeated,
            *map(_processor_s, self._job.watch),
        )

    def _serve(self, until: float) -> None:
        subscriber, checked = self._subscriber, time.perf_counter()
        while (now := time.perf_counter()) < until:
            for file, _ in self._epoll.poll(0.001 if self._job.rate else 0.1):
                nic = self._by_file.get(file)
                if nic is None:
                    subscriber.read()
                else:
                    self._answers(nic)
            if self._job.rate:
                self._send_due(now)
            if now - checked > PATIENCE_S / 2:
                checked = now
                self._repeated += sum(nic.repeat(now - PATIENCE_S) for nic in self._nics)

    def _answers(self, nic: _Nic) -> None:
        now, paced = time.perf_counter(), self._job.rate
        receive, waiting = nic.socket.recv, nic.waiting
        try:
            while True:
                octets = receive(64)
                if octets[1] != CHANGED:
                    if octets[1] == 0:
                        continue
                    raise SystemExit(f"the bridge answered {octets.hex()}")
                sent = waiting.pop(octets[2:4], None)
                if sent is None:
                    continue
                self._acknowledged += 1
                self._times.append(now - sent[0])
                if not paced:
                    nic.send(now)
        except BlockingIOError:
            return

    def _send_due(self, now: float) -> None:
        step = 1 / self._job.rate
        while self._due <= now:
            self._nics[self._turn % len(self._nics)].send(now)
            self._turn += 1
            self._due += step


def _processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_kb(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def run(job: Job) -> Outcome:
    """Do it here."""
    return _Load(job).run()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(run(Job(**json.loads(sys.argv[1]))))))
