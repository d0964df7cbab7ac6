"""The load client of `meshwire bench broker`: one process, sockets and epoll, no MQTT library in the hot path.

All PUBLISH packets of a job have one length, so a segment is counted, checked for order and acknowledged by slicing and
not packet by packet: the client must not be what is measured. The loop is closed: no publisher has more than `window`
messages on the way that are not both acknowledged and delivered, so shedding messages does not flatter a broker.

`python -m bench.mqtt_load JOB` takes a Job as JSON and prints an Outcome as JSON.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

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

__all__ = ["Job", "Outcome", "run"]

PAYLOAD_OCTETS: Final = 100
RING: Final = 5_120
"""Packets made beforehand by one publisher; a multiple of 256 and above every window."""
RECEIVE_OCTETS: Final = 65_536
CYCLE: Final = bytes(range(256)) * 64
HANDSHAKES_AT_ONCE: Final = 20
PATIENCE_S: Final = 20.0
PACE_S: Final = 0.000_1
"""Rest between two looks at the sockets. A client that wakes up for every single packet slows a broker that writes
packet by packet down, and is then itself what is measured.
"""
V311: Final = ProtocolVersion.V3_1_1


class LoadError(Exception):
    """The broker lost, repeated or reordered a message, or stopped."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do to the broker at 127.0.0.1:`port`.

    Args:
        publishers: each to a topic of its own.
        subscribers: each to all topics.
        window: messages one publisher has on the way at most.
        seconds: duration of the measurement, after `warm_up_s`.
        foreign_filters: subscriptions of one more client that match nothing.
        idle: clients that only stay connected; then nothing is published and `seconds` is how long they stay.
        keep_session: the subscriber connects with Clean Session 0.
        ping: one message at a time, its round trips are reported in ms.
        certificates: folder with `ca.crt`, `client.crt` and `client.key`; then connections with mutual TLS are made and
            ended, `HANDSHAKES_AT_ONCE` at a time, and `messages` counts them.
    """

    port: int
    qos: int = 0
    publishers: int = 1
    subscribers: int = 1
    window: int = 1_000
    seconds: float = 1.0
    warm_up_s: float = 0.3
    foreign_filters: int = 0
    idle: int = 0
    keep_session: bool = False
    ping: bool = False
    certificates: str | None = None
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Args:
        messages: delivered during the measurement, over all subscribers.
        seconds: how long it was.
        client_load: share of its core this process used.
        p50_ms, p99_ms: of the round trips of a ping job.
    """

    messages: int
    seconds: float
    client_load: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0


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


class Publisher:
    """One publisher with its ring of packets."""

    __slots__ = ("_position", "_ring", "_size", "acknowledged", "delivered", "qos", "sent", "window", "wire")

    def __init__(self, wire: Wire, number: int, job: Job) -> None:
        self.wire = wire
        self.qos = job.qos
        self.window = job.window
        packets = [_packet(number, index, job.qos) for index in range(RING if job.publishers < 100 else 256)]
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
            self.wire.send(_answers(0x62, data[2::4], data[3::4]))
        elif received:
            places = [index for index, kind in enumerate(kinds) if kind == 0x50]
            high, low = data[2::4], data[3::4]
            self.wire.send(_answers(0x62, bytes(high[i] for i in places), bytes(low[i] for i in places)))


class Subscriber:
    """One subscriber: counts, checks the order of a single publisher's messages, acknowledges."""

    __slots__ = ("_alone", "_left", "_order", "_payload_at", "_size", "by_publisher", "qos", "received", "wire")

    def __init__(self, wire: Wire, job: Job) -> None:
        self.wire = wire
        self.qos = job.qos
        sample = _packet(0, 0, job.qos)
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
            self.wire.send(_answers(0x40, body[at - 2 :: size], body[at - 1 :: size]))
        self._count(body[at::size], body[at + 1 :: size])

    def _mixed(self, data: bytes) -> None:
        """QoS 2: PUBLISH and PUBREL in turns."""
        size, at, end = self._size, self._payload_at, len(data)
        position = 0
        answers: list[bytes] = []
        orders, numbers = bytearray(), bytearray()
        while position + 4 <= end:
            if data[position] == 0x62:
                answers.append(b"\x70\x02" + data[position + 2 : position + 4])
                position += 4
            elif position + size <= end:
                payload = position + at
                answers.append(b"\x50\x02" + data[payload - 2 : payload])
                orders.append(data[payload])
                numbers.append(data[payload + 1])
                position += size
            else:
                break
        self._left = data[position:]
        if answers:
            self.wire.send(b"".join(answers))
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


def _packet(publisher: int, index: int, qos: int) -> bytes:
    """PUBLISH number `index` of a publisher's ring; the payload begins with its order and its publisher, modulo 256."""
    payload = bytes((index & 0xFF, publisher & 0xFF)) + bytes(PAYLOAD_OCTETS - 2)
    topic = _topic(publisher).encode()
    packet_id = (index + 1).to_bytes(2, "big") if qos else b""
    body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
    return bytes((0x30 | qos << 1, len(body))) + body


def _topic(publisher: int) -> str:
    return f"load/read/{publisher:03}"


def _answers(first: int, high: bytes, low: bytes) -> bytes:
    """Acknowledgements of the packet identifiers given as their upper and lower octets."""
    octets = bytearray((first, 2, 0, 0)) * len(high)
    octets[2::4] = high
    octets[3::4] = low
    return bytes(octets)


class Load:
    """A whole job of publishers and subscribers."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._epoll = select.epoll()
        self._foreign = self._subscribe_foreign()
        self._subscribers = [Subscriber(self._listener(f"sub-{number}"), job) for number in range(job.subscribers)]
        for subscriber in self._subscribers:
            subscriber.wire.subscribe(["load/read/+"], job.qos)
        self._publishers = [Publisher(Wire(job, f"pub-{number}"), number, job) for number in range(job.publishers)]
        self._ends: dict[int, Publisher | Subscriber] = {}
        ends: list[Publisher | Subscriber] = [*self._subscribers, *self._publishers]
        for end in ends:
            end.wire.join(self._epoll)
            self._ends[end.wire.fd] = end

    def _subscribe_foreign(self) -> list[Wire]:
        count = self._job.foreign_filters
        if not count:
            return []
        wire = Wire(self._job, "foreign")
        wire.subscribe([f"load/other/{number}/+/x" for number in range(count)], 0)
        return [wire]

    def _listener(self, client_id: str) -> Wire:
        """With a session to keep: what an earlier job left of it is thrown away first."""
        wire = Wire(self._job, client_id)
        if not self._job.keep_session:
            return wire
        wire.sock.close()
        return Wire(self._job, client_id, clean=False)

    @property
    def received(self) -> int:
        return sum(subscriber.received for subscriber in self._subscribers)

    def measure(self) -> Outcome:
        for publisher in self._publishers:
            publisher.advance()
        self._turn_until(time.perf_counter() + self._job.warm_up_s)
        begin, before, used = time.perf_counter(), self.received, _processor_s()
        self._turn_until(begin + self._job.seconds)
        end = time.perf_counter()
        return Outcome(self.received - before, end - begin, (_processor_s() - used) / (end - begin))

    def _turn_until(self, deadline: float) -> None:
        quiet_since = time.perf_counter()
        while (now := time.perf_counter()) < deadline:
            if self._turn():
                quiet_since = now
            elif now - quiet_since > PATIENCE_S:
                raise LoadError("nothing comes any more")

    def _turn(self) -> bool:
        """One look at all sockets; True when there was something."""
        events = self._epoll.poll(0.1)
        ends = self._ends
        heard: list[Publisher] = []
        delivered = False
        for fd, event in events:
            end = ends[fd]
            if event & select.EPOLLOUT:
                end.wire.flush()
            if not event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                continue
            data = end.wire.sock.recv(RECEIVE_OCTETS)
            if not data:
                raise LoadError("connection closed")
            end.on_data(data)
            if isinstance(end, Publisher):
                heard.append(end)
            else:
                delivered = True
        if delivered:
            heard = self._credit(heard)
        for publisher in heard:
            publisher.advance()
        time.sleep(PACE_S)
        return bool(events)

    def _credit(self, heard: list[Publisher]) -> list[Publisher]:
        """Tells publishers what was delivered; returns those that may have room now."""
        publishers = self._publishers
        if len(publishers) == 1:
            publishers[0].delivered = min(subscriber.received for subscriber in self._subscribers)
            return publishers
        if len(publishers) > 256:  # one message in flight each: its acknowledgement is credit enough
            for publisher in publishers:
                publisher.delivered = publisher.sent
            return heard
        counts = self._subscribers[0].by_publisher
        touched = set(heard)
        for number, count in counts.items():
            publisher = publishers[number]
            publisher.delivered += count
            touched.add(publisher)
        counts.clear()
        return list(touched)


def _ping(job: Job) -> Outcome:
    """One message at a time from one socket to another."""
    subscriber, publisher = Wire(job, "sub-0"), Wire(job, "pub-0")
    subscriber.subscribe(["load/read/+"], job.qos)
    packets = [_packet(0, index, job.qos) for index in range(256)]
    size = len(packets[0])
    times: list[float] = []
    begin, used = time.perf_counter(), _processor_s()
    deadline = begin + job.warm_up_s + job.seconds
    while time.perf_counter() < deadline:
        packet = packets[len(times) & 0xFF]
        sent = time.perf_counter()
        publisher.sock.sendall(packet)
        if job.qos == 2:  # Mosquitto delivers at PUBREL, ours at PUBLISH
            publisher.sock.sendall(b"\x62\x02" + _exactly(publisher.sock, 4)[2:])
        got = _exactly(subscriber.sock, size)
        times.append(time.perf_counter() - sent)
        _complete(job.qos, publisher.sock, subscriber.sock, got)
    times = sorted(times[len(times) // 5 :])
    elapsed = time.perf_counter() - begin
    p50, p99 = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
    return Outcome(len(times), elapsed, (_processor_s() - used) / elapsed, p50, p99)


def _complete(qos: int, publisher: socket.socket, subscriber: socket.socket, got: bytes) -> None:
    """The rest of the handshake, outside of the time taken."""
    packet_id = got[-PAYLOAD_OCTETS - 2 : -PAYLOAD_OCTETS]
    if qos == 1:
        subscriber.sendall(b"\x40\x02" + packet_id)
        _exactly(publisher, 4)
    elif qos == 2:
        subscriber.sendall(b"\x50\x02" + packet_id)
        _exactly(publisher, 4)
        _exactly(subscriber, 4)
        subscriber.sendall(b"\x70\x02" + packet_id)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise LoadError("connection closed")
        data += more
    return data


def _stay(job: Job) -> Outcome:
    """Connects `idle` clients, says so on stdout, and leaves when stdin ends."""
    begin = time.perf_counter()
    wires = [Wire(job, f"idle-{number}") for number in range(job.idle)]
    elapsed = time.perf_counter() - begin
    print(json.dumps({"connected": len(wires)}), flush=True)
    sys.stdin.read()
    return Outcome(len(wires), elapsed, 0.0)


def _handshakes(job: Job) -> Outcome:
    """Whole logins with a client certificate: TCP, TLS 1.3 without resumption, CONNECT, CONNACK, good-bye.

    The server's certificate is not verified here: this costs the client, not the server.
    """
    folder = Path(job.certificates or "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    connect = encode(Connect("", V311), V311)
    counts = [0] * HANDSHAKES_AT_ONCE
    stopping = threading.Event()

    def come_and_go(number: int) -> None:
        while not stopping.is_set():
            with (
                socket.create_connection(("127.0.0.1", job.port), PATIENCE_S) as plain,
                context.wrap_socket(plain) as secure,
            ):
                secure.sendall(connect)
                if secure.recv(4) != b"\x20\x02\x00\x00":
                    raise LoadError("the certificate was refused")
            counts[number] += 1

    with ThreadPoolExecutor(HANDSHAKES_AT_ONCE) as pool:
        running = [pool.submit(come_and_go, number) for number in range(HANDSHAKES_AT_ONCE)]
        time.sleep(job.warm_up_s)
        begin, before, used = time.perf_counter(), sum(counts), _processor_s()
        time.sleep(job.seconds)
        elapsed, count, used = time.perf_counter() - begin, sum(counts) - before, _processor_s() - used
        stopping.set()
        for each in running:
            each.result()
    return Outcome(count, elapsed, used / elapsed)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(job: Job) -> Outcome:
    """Does the job.

    Raises:
        LoadError: a message was lost, repeated or reordered, or the broker went silent.
    """
    if job.idle:
        return _stay(job)
    if job.certificates:
        return _handshakes(job)
    return _ping(job) if job.ping else Load(job).measure()


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job(**json.loads(sys.argv[1]))))))
