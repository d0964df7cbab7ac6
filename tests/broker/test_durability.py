"""What the broker acknowledged survives `kill -9`: a real process, killed at random moments under load."""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from free_ports import free_port
from patience import PATIENCE_S

from broker.credentials import UsersFile
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Packet,
    PacketStream,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    encode,
)
from meshwire.site import Site

V311 = ProtocolVersion.V3_1_1
WINDOW = 50
LOAD = 500
"""Messages of each publisher at least, over all rounds."""


@dataclass
class Process:
    """A broker that keeps its store and its port from one life to the next."""

    folder: Path
    durability: str = "os"
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    def prepare(self) -> None:
        users = UsersFile(
            Site(self.folder).path("broker", "users.json"), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        )
        users.add("admin", "admin-password", roles=("ADMIN",))
        (self.folder / "site.toml").write_text(
            f'[broker]\ndurability = "{self.durability}"\n[[broker.listener]]\nport = {self.port}\n'
        )

    async def start(self) -> None:
        environment = {**os.environ, "MESHWIRE_STATE": str(self.folder)}
        arguments = ("-m", "broker", "--config", str(self.folder / "site.toml"))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=environment, stdout=DEVNULL, stderr=PIPE, limit=1_048_576
        )
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.process.stderr.readline():
                if b"broker ready" in line:
                    break
        assert line, "the broker did not start"
        self._reader = asyncio.create_task(self._swallow(self.process.stderr))

    @staticmethod
    async def _swallow(stream: asyncio.StreamReader) -> None:
        while await stream.read(65_536):
            pass

    async def kill(self) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self._reader

    def resident_octets(self) -> int:
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def broker_process(folder: Path, durability: str = "os") -> AsyncIterator[Process]:
    process = Process(folder, durability)
    process.prepare()
    await process.start()
    try:
        yield process
    finally:
        await process.kill()


class Peer:
    """A client with a session of its own: what it must remember is here and outlives its connections."""

    def __init__(self, process: Process, client_id: str) -> None:
        self._process = process
        self.client_id = client_id
        self.is_connected = False
        self._writer: asyncio.StreamWriter | None = None

    def send(self, *packets: Packet) -> None:
        assert self._writer is not None
        self._writer.write(b"".join(encode(packet, V311) for packet in packets))

    async def run(self) -> None:
        """Connects again and again."""
        while True:
            with suppress(ConnectionError, TimeoutError):
                await self._one_connection()
            self.is_connected = False
            await asyncio.sleep(0.01)

    async def _one_connection(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._process.port)
        stream = PacketStream(Side.CLIENT, V311)
        try:
            self.send(Connect(self.client_id, V311, False, 0, username="admin", password=b"admin-password"))
            while data := await reader.read(262_144):
                stream.feed(data)
                for packet in stream.packets():
                    if isinstance(packet, ConnAck):
                        self.is_connected = True
                        self.on_connected(packet.session_present)
                    else:
                        self.on_packet(packet)
        finally:
            self._writer.close()

    def on_connected(self, present: bool) -> None: ...

    def on_packet(self, packet: Packet) -> None: ...


class Publisher(Peer):
    """Sends whole numbers; never has more than WINDOW of them unacknowledged; repeats those after each loss."""

    def __init__(self, process: Process, client_id: str, qos: int, topic: str) -> None:
        super().__init__(process, client_id)
        self.qos, self.topic = qos, topic
        self.last = 0
        self.limit: int | None = None
        self.open: dict[int, Packet] = {}
        self.acknowledged: list[int] = []
        self._numbers: dict[int, int] = {}

    def on_connected(self, present: bool) -> None:
        for packet in self.open.values():
            if isinstance(packet, Publish):
                packet = Publish(packet.topic, packet.payload, packet.qos, False, True, packet.packet_id)
            self.send(packet)
        self._fill()

    def _fill(self) -> None:
        while len(self.open) < WINDOW and (self.limit is None or self.last < self.limit):
            self.last += 1
            packet_id = (self.last - 1) % 60_000 + 1
            packet = Publish(self.topic, b"%d" % self.last, self.qos, packet_id=packet_id)
            self.open[packet_id], self._numbers[packet_id] = packet, self.last
            self.send(packet)

    def on_packet(self, packet: Packet) -> None:
        if isinstance(packet, PubRec):
            assert packet.packet_id in self.open
            self.open[packet.packet_id] = PubRel(packet.packet_id)
            self.send(PubRel(packet.packet_id))
        elif isinstance(packet, PubAck | PubComp):
            del self.open[packet.packet_id]
            self.acknowledged.append(self._numbers.pop(packet.packet_id))
            self._fill()


class Subscriber(Peer):
    """Receives; a QoS 2 message is taken when it comes first, and known by its identifier until PUBREL."""

    def __init__(self, process: Process, client_id: str, *filters: tuple[str, int]) -> None:
        super().__init__(process, client_id)
        self.filters = filters
        self.received: dict[str, list[int]] = {}
        self.is_subscribed = False
        self.present: list[bool] = []
        self._open: set[int] = set()

    def on_connected(self, present: bool) -> None:
        self.present.append(present)
        if not self.is_subscribed:
            self.send(Subscribe(1, tuple(TopicSubscription(text, qos) for text, qos in self.filters)))

    def on_packet(self, packet: Packet) -> None:
        match packet:
            case SubAck():
                self.is_subscribed = True
            case Publish(qos=2):
                if packet.packet_id not in self._open:
                    self._open.add(packet.packet_id)
                    self._take(packet)
                self.send(PubRec(packet.packet_id))
            case Publish():
                self._take(packet)
                if packet.qos:
                    self.send(PubAck(packet.packet_id))
            case PubRel():
                self._open.discard(packet.packet_id)
                self.send(PubComp(packet.packet_id))

    def _take(self, packet: Publish) -> None:
        self.received.setdefault(packet.topic, []).append(int(packet.payload))


async def until(condition: Callable[[], bool]) -> None:
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not come about"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def living(*peers: Peer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(peer.run()) for peer in peers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def kill_rounds(folder: Path, rounds: int, durability: str, seed: int) -> tuple[Subscriber, list[Publisher]]:
    """Both flows at once; the broker is killed at a random moment of each round."""
    moments = random.Random(seed)
    async with broker_process(folder, durability) as process:
        subscriber = Subscriber(process, "sub", ("k/1", 1), ("k/2", 2))
        async with living(subscriber):
            await until(lambda: subscriber.is_subscribed)
            publishers = [Publisher(process, f"pub{qos}", qos, f"k/{qos}") for qos in (1, 2)]
            async with living(*publishers):
                for number in range(1, rounds + 1):
                    await until(lambda: all(each.last * rounds > LOAD * number for each in publishers))  # noqa: B023
                    await asyncio.sleep(moments.uniform(0.0, 0.3))
                    await process.kill()
                    await process.start()
                for publisher in publishers:
                    publisher.limit = publisher.last
                await until(lambda: not any(publisher.open for publisher in publishers))
                ends = [publisher.last for publisher in publishers]
                await until(
                    lambda: all(
                        subscriber.received.get(f"k/{qos}", [0])[-1] == end for qos, end in enumerate(ends, start=1)
                    )
                )
    return subscriber, publishers


def check(subscriber: Subscriber, publishers: list[Publisher]) -> None:
    at_least_once, exactly_once = subscriber.received["k/1"], subscriber.received["k/2"]
    assert exactly_once == list(range(1, publishers[1].last + 1)), "QoS 2: each once, in order"
    firsts = list(dict.fromkeys(at_least_once))
    assert firsts == list(range(1, publishers[0].last + 1)), "QoS 1: none lost, first copies in order"
    assert sorted(publishers[0].acknowledged) == sorted(set(at_least_once))
    assert subscriber.present == [False] + [True] * (len(subscriber.present) - 1)
    assert all(publisher.last > LOAD for publisher in publishers), "there was load"


@pytest.mark.parametrize("durability", ["os", "fsync"])
async def test_nothing_acknowledged_is_lost_and_qos_2_comes_once(tmp_path: Path, durability: str) -> None:
    check(*await kill_rounds(tmp_path, 3, durability, seed=11))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_hundred_rounds(tmp_path: Path) -> None:
    check(*await kill_rounds(tmp_path, 100, "os", seed=5))


@pytest.mark.timeout(90)
async def test_a_long_queue_survives_and_drains_in_order(tmp_path: Path) -> None:
    total = 50_000
    async with broker_process(tmp_path) as process:
        subscriber = Subscriber(process, "away", ("q/#", 1))
        async with living(subscriber):
            await until(lambda: subscriber.is_subscribed)
        before = process.resident_octets()
        publisher = Publisher(process, "pub", 1, "q/a")
        publisher.limit = total + 1
        async with living(publisher):
            await until(lambda: len(publisher.acknowledged) == total + 1)
        grown = process.resident_octets() - before
        await process.kill()
        await process.start()
        async with living(subscriber):
            await until(lambda: len(subscriber.received.get("q/a", ())) >= total)
        assert process.resident_octets() - before < 90_000_000
    assert subscriber.present == [False, True]
    assert subscriber.received["q/a"] == list(range(1, total + 1)), "the one above the limit is the one dropped"
    assert grown <= 60_000_000, f"{grown / 1e6:.1f} MB"


async def test_retained_messages_survive(tmp_path: Path) -> None:
    async with broker_process(tmp_path) as process:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        hello = Connect("r", V311, True, 0, username="admin", password=b"admin-password")
        for packet in (
            hello,
            Publish("kept/a", b"1", 1, True, packet_id=1),
            Publish("kept/b", b"2", 1, True, packet_id=2),
            Publish("kept/a", b"", 1, True, packet_id=3),
        ):
            writer.write(encode(packet, V311))
        await reader.readexactly(4 + 3 * 4)
        writer.close()
        await process.kill()
        await process.start()
        subscriber = Subscriber(process, "s", ("kept/#", 1))
        async with living(subscriber):
            await until(lambda: bool(subscriber.received))
    assert subscriber.received == {"kept/b": [2]}
