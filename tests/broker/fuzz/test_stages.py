"""Stages of ill treatment against the broker as a process of its own: it serves on, its memory stays bounded, nothing
fails inside. The normal run has a tenth of each stage; `-m slow` runs them whole.
"""

import contextlib
import random
import resource
import socket
import threading
import time
from collections.abc import Iterator
from statistics import median

import pytest
from patience import PATIENCE_S

from bench.brokers import PASSWORD, USER, Contender, ours
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Packet,
    PacketStream,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    Publish,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    encode,
)

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
SETTINGS = 'durability = "memory"\nsys_interval_s = 0.2\n[broker.limits]\nmax_session_expiry_s = 0\n'
TENTH = pytest.param(10, id="tenth")
WHOLE = pytest.param(1, id="whole", marks=pytest.mark.slow)
BY_SIZE = pytest.mark.parametrize("part", [TENTH, WHOLE])


def connect_packet(client_id: str, version: ProtocolVersion, **rest: object) -> bytes:
    return encode(Connect(client_id, version, username=USER, password=PASSWORD.encode(), **rest), version)  # type: ignore[arg-type]


class Client:
    """A client that behaves."""

    def __init__(self, port: int, client_id: str, version: ProtocolVersion = V311) -> None:
        self.version = version
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = PacketStream(Side.CLIENT, version)
        self._ready: list[Packet] = []
        self.sock.sendall(connect_packet(client_id, version))
        assert isinstance(self.next(), ConnAck)

    def next(self) -> Packet:
        while not self._ready:
            data = self.sock.recv(65_536)
            assert data, "closed"
            self._stream.feed(data)
            self._ready.extend(self._stream.packets())
        return self._ready.pop(0)

    def send(self, *packets: Packet) -> None:
        self.sock.sendall(b"".join(encode(packet, self.version) for packet in packets))

    def ask(self, packet: Packet) -> Packet:
        self.send(packet)
        return self.next()


class Patient:
    """The broker under treatment, its $SYS tree, and how big it was when it had warmed up."""

    def __init__(self, broker: Contender) -> None:
        self.broker = broker
        self.port = broker.port
        self._watch = Client(self.port, "watch")
        self._watch.ask(Subscribe(1, (TopicSubscription("$SYS/broker/#", 0),)))
        self._figures: dict[str, str] = {}
        self._client = Client(self.port, "legitimate")
        self._size_kb = 0

    def figure(self, name: str) -> int:
        return int(self._figures.get(f"$SYS/broker/{name}", "0"))

    def look(self) -> None:
        """Reads one whole round of what the broker tells about itself, from now on."""
        self._watch.sock.settimeout(PATIENCE_S)
        self._watch.send(PingReq())
        while self._watch.next() != PingResp():
            pass  # told before
        self._figures.clear()
        end = time.monotonic() + PATIENCE_S
        self._watch.sock.settimeout(0.2)
        while time.monotonic() < end:
            try:
                packet = self._watch.next()
            except TimeoutError:
                if "$SYS/broker/connections/open" in self._figures:
                    return
                continue
            if isinstance(packet, Publish):
                self._figures[packet.topic] = packet.payload.decode()
        raise AssertionError("the broker tells nothing of itself")

    def is_well(self, most_kb: int) -> None:
        """Serves old and new clients, closed what it should, had no fault of its own, grew by no more than `most_kb`
        since the first look."""
        assert self._client.ask(PingReq()) == PingResp()
        Client(self.port, "another").sock.close()
        end = time.monotonic() + PATIENCE_S
        self.look()
        while self.figure("connections/open") > 2 and time.monotonic() < end:
            self.look()
        assert self.figure("connections/open") == 2
        assert self.figure("connections/ended/internal-error") == 0
        assert self.broker.resident_kb - (self._size_kb or self.broker.resident_kb) <= most_kb

    def warmed_up(self) -> None:
        self._size_kb = self.broker.resident_kb

    def throw(self, data: bytes) -> None:
        """One connection that says `data`, ends its side, and waits for the broker to end its own."""
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as sock,
        ):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass


@pytest.fixture(scope="module")
def patient() -> Iterator[Patient]:
    with ours(SETTINGS) as broker:
        patient = Patient(broker)
        source = random.Random(1)
        for _ in range(100):
            patient.throw(damaged(source))
        patient.warmed_up()
        yield patient


def damaged(source: random.Random) -> bytes:
    """A conversation of valid packets with some bits turned over, behind a CONNECT that holds."""
    version = source.choice((V311, V5))
    properties = Properties(content_type="x", user_properties=(("a", "b"),)) if version is V5 else Properties()
    packets: list[Packet] = [
        Subscribe(1, (TopicSubscription("fuzz/+", 2), TopicSubscription("$share/g/fuzz/#", 1))),
        Publish("fuzz/b", source.randbytes(20), 1, packet_id=2, properties=properties),
        Publish("fuzz/b", source.randbytes(20), 2, True, packet_id=3),
        PingReq(),
    ]
    octets = bytearray(b"".join(encode(packet, version) for packet in packets))
    for _ in range(source.randint(1, 4)):
        octets[source.randrange(len(octets))] ^= 1 << source.randrange(8)
    return connect_packet(f"fuzz-{source.randrange(20)}", version) + bytes(octets)


@BY_SIZE
def test_random_octets(patient: Patient, part: int) -> None:
    source = random.Random(2)
    for _ in range(2_000 // part):
        patient.throw(source.randbytes(source.randint(1, 300)))
    patient.is_well(8_192)
    assert patient.figure("connections/ended/protocol-error") > 100 // part


@BY_SIZE
def test_random_octets_behind_connect(patient: Patient, part: int) -> None:
    source = random.Random(3)
    for number in range(2_000 // part):
        version = (V311, V5)[number % 2]
        patient.throw(connect_packet(f"fuzz-{number % 50}", version) + source.randbytes(source.randint(1, 300)))
    patient.is_well(8_192)


@BY_SIZE
def test_every_beginning_of_a_connect(patient: Patient, part: int) -> None:
    for version in (V311, V5):
        whole = connect_packet("beginning", version)
        for _ in range(10 // part):
            for length in range(len(whole)):
                patient.throw(whole[:length])
    patient.is_well(8_192)


@BY_SIZE
def test_packets_with_turned_bits(patient: Patient, part: int) -> None:
    source = random.Random(4)
    for _ in range(3_000 // part):
        patient.throw(damaged(source))
    patient.is_well(16_384)


@BY_SIZE
def test_lengths_that_are_only_announced(patient: Patient, part: int) -> None:
    """268 MB announced before CONNECT, 256 KB sent: refused at the header; so is a length of five octets."""
    before = patient.broker.resident_kb
    socks = []
    for _ in range(200 // part):
        sock = socket.create_connection(("127.0.0.1", patient.port), 5)
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"\x10\xff\xff\xff\x7f" + bytes(262_144))
        socks.append(sock)
    assert patient.broker.resident_kb - before < 32_768
    for sock in socks:
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""
        sock.close()
    patient.throw(b"\x10\xff\xff\xff\xff\x01")
    patient.is_well(16_384)


@BY_SIZE
def test_topics_of_very_many_levels(patient: Patient, part: int) -> None:
    """They are refused, by name where the version has words for it, and cost nobody anything."""
    for levels in (201, 15_000 // part, 30_000 // part):
        deep = "/".join("a" * levels)
        for version in (V311, V5):
            client = Client(patient.port, "deep", version)
            answer = client.ask(Subscribe(1, (TopicSubscription(deep, 0), TopicSubscription(deep[:-1] + "#", 0))))
            assert isinstance(answer, SubAck) and min(answer.reason_codes) >= 0x80
            client.ask(Publish(deep, b"x", 1, packet_id=1))
            assert client.ask(PingReq()) == PingResp()
            client.sock.close()
    patient.is_well(16_384)


@BY_SIZE
def test_a_stalled_subscriber_of_a_flood(patient: Patient, part: int) -> None:
    """200 MB of QoS 0 messages for a client that reads nothing: dropped above a bound."""
    stalled = Client(patient.port, "stalled")
    stalled.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    assert stalled.ask(Subscribe(1, (TopicSubscription("flood", 0),))) == SubAck(1, (0,))
    sender = Client(patient.port, "sender")
    before, peak = patient.broker.resident_kb, 0
    block = encode(Publish("flood", bytes(10_000)), V311) * 20
    for _ in range(200_000_000 // part // len(block)):
        sender.sock.sendall(block)
        peak = max(peak, patient.broker.resident_kb)
    assert sender.ask(PingReq()) == PingResp()
    assert peak - before < 32_768
    stalled.sock.close()
    sender.sock.close()
    patient.is_well(32_768)


@BY_SIZE
def test_very_many_subscriptions_of_one_client(part: int) -> None:
    """50,000 filters, in an own broker that allows them; taken back, they leave nothing."""
    limits = 'durability = "memory"\n[broker.limits]\nmax_subscriptions = 50000\n'
    with ours(limits) as broker:
        client, count = Client(broker.port, "many"), 50_000 // part
        before = broker.resident_kb
        for begin in range(0, count, 500):
            items = tuple(TopicSubscription(f"many/{number}/+/x", 1) for number in range(begin, begin + 500))
            assert client.ask(Subscribe(begin // 500 + 1, items)) == SubAck(begin // 500 + 1, (1,) * 500)
        client.send(Publish("many/77/a/x", b"x"))
        assert isinstance(client.next(), Publish)
        assert broker.resident_kb - before < 2.5 * count + 8_192
        client.sock.close()
        other = Client(broker.port, "other")
        assert other.ask(PingReq()) == PingResp()


@BY_SIZE
def test_silent_connections_are_shed_while_a_client_gets_in(part: int) -> None:
    """10,000 connections that never say CONNECT, from 20 addresses; a legitimate client connects all the while,
    in < 100 ms where the machine is idle. A fresh broker, so that nothing before it counts."""
    count = 10_000 // part
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        pytest.skip("this process may not open so many sockets")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 2_000)), hard))
    try:
        with ours('durability = "memory"\n[broker.limits]\nunauthenticated_per_address = 200\n') as broker:
            Client(broker.port, "first").sock.close()
            before = broker.resident_kb
            flood = _Flood(broker.port, count)
            meanwhile, afterwards = flood.measured_against(broker.port)
            assert flood.opened == count
            print(f"{count} silent connections: connect p50 {median(meanwhile):.1f} ms, max {max(meanwhile):.1f}")
            assert median(meanwhile) < 100 + 10 * median(afterwards)
            assert broker.resident_kb - before < 65_536
            flood.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Flood:
    """Silent connections, opened by a thread as fast as it goes."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._socks: list[socket.socket] = []
        self.opened = 0
        self._clients = 0

    def _open(self) -> None:
        for number in range(self._count):
            source = (f"127.0.0.{number % 20 + 1}", 0)
            self._socks.append(socket.create_connection(("127.0.0.1", self._port), PATIENCE_S, source))
            self.opened += 1

    def measured_against(self, port: int) -> tuple[list[float], list[float]]:
        """Times in ms from connecting to CONNACK, one client after the other: while the flood comes, and afterwards."""
        thread = threading.Thread(target=self._open)
        thread.start()
        meanwhile, afterwards = [self._connect(port)], list[float]()
        while thread.is_alive():
            meanwhile.append(self._connect(port))
        thread.join()
        while len(afterwards) < 20:
            afterwards.append(self._connect(port))
        return meanwhile, afterwards

    def _connect(self, port: int) -> float:
        self._clients += 1
        begin = time.perf_counter()
        client = Client(port, f"legitimate-{self._clients}")
        took_ms = (time.perf_counter() - begin) * 1_000
        client.sock.close()
        time.sleep(0.005)
        return took_ms

    def close(self) -> None:
        for sock in self._socks:
            sock.close()
