"""A store of aliases, the service at work beside an outbox, brokers with TLS, and mosquitto_sub as a witness."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port
from patience import PATIENCE_S

from broker.certificates import TrialAuthority
from gateway.aliases.actions import ActionFailed, DeviceRequest
from gateway.aliases.catalogue import Kind
from gateway.aliases.service import AliasService
from gateway.aliases.store import AliasStore, build
from gateway.envelope import StoredNotification, pack
from gateway.outbox import Outbox
from gateway.settings import BridgeSettings, OutboxSettings
from gateway.storage import MemoryStorage
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification
from meshwire.site import Site

FORMAT = r"%t\t%q\t%r\t%x\t%C\t%P"
RECORD = bytes.fromhex("a2006474656d70017231373030303030303030352c37322e35302c46")


@pytest.fixture
def store(site: Site) -> AliasStore:
    return AliasStore(site, environment={})


@pytest.fixture
def authority(tmp_path: Path) -> TrialAuthority:
    made = TrialAuthority.in_folder(tmp_path / "certs")
    made.server(("127.0.0.1", "localhost"))
    return made


@dataclass
class Commands:
    """Stands where requests to devices go."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    failing: int = 0

    async def __call__(self, request: DeviceRequest) -> None:
        asked = (request.tenant.value, request.device.value, request.method, request.path, request.payload.decode())
        self.asked.append(asked)
        if len(self.asked) <= self.failing:
            raise ActionFailed("device is asleep")


class Site_:
    """The service with an outbox whose notifications nobody else takes."""

    def __init__(self, store: AliasStore) -> None:
        self.store = store
        self.commands = Commands()
        self.service = AliasService(
            store, BridgeSettings(categories={"alarm": "alert", "twice": "both"}), OutboxSettings(), self.commands
        )
        self.outbox = Outbox(MemoryStorage(), max_octets=1 << 20, segment_octets=1 << 16)
        self.tee = self.service.tee(self.outbox)
        self._task: asyncio.Task[None] | None = None
        self._observe = 0

    async def start(self) -> None:
        await self.service.apply()
        self._task = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self.service.stop()

    def notify(self, *, tenant: str = "acme", kind: str = "temp", payload: bytes | None = None) -> None:
        """A notification is stored, as the endpoint does it."""
        self._observe += 1
        text = f"{kind[0:0]}{self._observe}".encode()
        record = b"\xa2\0" + bytes((0x60 + len(kind),)) + kind.encode() + b"\1" + bytes((0x60 + len(text),)) + text
        notification = Notification(
            DeviceId("001350050047dc9a"), "snsr/arduino/temp", self._observe, 1, 60, payload or record, 1_700_000_000.5
        )
        self.outbox.append(pack(StoredNotification(TenantId(tenant), notification)), 1_700_000_000_000)
        commit = self.tee.begin_commit()
        assert commit is not None
        commit.write(sync=False)
        self.tee.finish_commit(commit)

    def add(self, name: str, host: str, *, enabled: bool = True, **fields: Any) -> None:
        self.store.add(build(Kind.ALIAS, {"name": name, "host": host, **fields}))
        if enabled:
            self.store.set_enabled(Kind.ALIAS, name, enabled=True)
        self.service.wake()

    def add_trigger(self, name: str, alias: str, filter: str, qos: int = 1, **fields: Any) -> None:
        values = {"name": name, "alias": alias, "subscriptions": [{"filter": filter, "qos": qos}], **fields}
        self.store.add(build(Kind.TRIGGER, values))
        self.store.set_enabled(Kind.TRIGGER, name, enabled=True)
        self.service.wake()

    def state(self, name: str, kind: Kind = Kind.ALIAS) -> dict[str, Any]:
        return self.service.state(kind, name)

    async def connected(self, name: str, kind: Kind = Kind.ALIAS) -> None:
        await eventually(lambda: self.state(name, kind)["state"] == "connected", lambda: str(self.state(name, kind)))


async def eventually(condition: Callable[[], bool], why: Callable[[], str] = lambda: "") -> None:
    """Wait, turn by turn, for something that another task brings about."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"it did not come about {why()}"
        await asyncio.sleep(0.005)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Any:
    return eventually


@pytest.fixture
async def works(store: AliasStore) -> AsyncIterator[Site_]:
    site = Site_(store)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def works_on() -> AsyncIterator[Callable[[AliasStore], Site_]]:
    """More of them; the caller starts, all are stopped."""
    made: list[Site_] = []

    def make(store: AliasStore) -> Site_:
        made.append(Site_(store))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


class Witness:
    """mosquitto_sub: what a foreign client sees."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.passed: list[dict[str, Any]] = []
        """What came before the subscription was known to stand: retained messages."""

    async def next(self, *, with_marker: bool = False) -> dict[str, Any]:
        while True:
            message = await self._line()
            if message["topic"].startswith("marker/") is with_marker:
                return message
            self.passed.append(message)

    async def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self.process.stdout.readline()
        assert line, "mosquitto_sub has ended"
        topic, qos, retain, octets, content_type, properties = line.decode().rstrip("\n").split("\t")
        return {
            "topic": topic,
            "qos": int(qos),
            "retain": int(retain),
            "payload": bytes.fromhex(octets).decode("latin-1"),
            "content_type": content_type,
            "properties": properties,
        }

    async def summary(self) -> tuple[str, str, int, int]:
        """(topic, payload, QoS, retained) of the next message."""
        message = await self.next()
        return message["topic"], message["payload"], message["qos"], message["retain"]


@pytest.fixture
async def witness() -> AsyncIterator[Any]:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto-clients is not installed")
    processes: list[asyncio.subprocess.Process] = []

    async def watch(port: int, *filters: str, options: tuple[str, ...] = ()) -> Witness:
        """Returns when the subscription stands: a retained marker is seen, the last filter's."""
        # A server with several ports opens them one after the other.
        await listening(port)
        marker = f"marker/{len(processes)}"
        topics = [part for text in (*filters, marker) for part in ("-t", text)]
        process = await asyncio.create_subprocess_exec(
            "mosquitto_sub", "-p", str(port), "-h", "127.0.0.1", "-q", "2", "-V", "5", "-F", FORMAT, *topics, *options,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        await publish(port, marker, "here", "-r", *options)
        seen = Witness(process)
        await seen.next(with_marker=True)
        return seen

    yield watch
    for process in processes:
        process.kill()
        await process.wait()


async def listening(port: int) -> None:
    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    await eventually(answers)


async def publish(port: int, topic: str, payload: str, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-m", payload, *options
    )
    assert await process.wait() == 0


@pytest.fixture(name="publish")
def publish_fixture() -> Any:
    return publish


@pytest.fixture(name="free_port")
def free_port_fixture() -> int:
    return free_port()
