"""A broker on a free port of the loopback, its keys and users, and a client made of our codec and a plain socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from patience import PATIENCE_S

from broker.credentials import UsersFile
from broker.plugins import BrokerHook
from broker.server import Broker
from broker.settings import BrokerSettings, Limits, ListenerSettings
from meshwire.identity import TenantId
from meshwire.mqtt import ConnAck, Connect, Packet, PacketStream, ProtocolVersion, Side, encode
from meshwire.site import Site
from meshwire.tokens import SigningKeys

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""How long a test waits for something that must come."""


@dataclass
class Running:
    """A broker that serves, and what a test needs to talk to it."""

    broker: Broker
    site: Site
    keys: SigningKeys
    task: asyncio.Task[None]

    @property
    def port(self) -> int:
        return self.broker.ports[0]

    def token(self, tenant: str, *roles: str, ttl_s: float = 3_600.0, now: float | None = None) -> str:
        issued = time.time() if now is None else now
        return self.keys.issue(TenantId(tenant), roles, now=issued, ttl_s=ttl_s)

    @property
    def gateway_password(self) -> str:
        return self.site.secret("gateway-mqtt")


class Client:
    """One connection: writes packets or octets, reads packets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: ProtocolVersion) -> None:
        self.version = version
        self._reader = reader
        self._writer = writer
        self._stream = PacketStream(Side.CLIENT, version)
        self._ready: list[Packet] = []

    def send(self, *packets: Packet) -> None:
        self.send_octets(b"".join(encode(packet, self.version) for packet in packets))

    def send_octets(self, data: bytes) -> None:
        self._writer.write(data)

    async def next(self) -> Packet | None:
        """The next packet; None when the broker closed the connection."""
        while not self._ready:
            try:
                data = await asyncio.wait_for(self._reader.read(65_536), PATIENCE_S)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._stream.feed(data)
            self._ready.extend(self._stream.packets())
        return self._ready.pop(0)

    async def ask(self, packet: Packet) -> Packet | None:
        self.send(packet)
        return await self.next()

    async def close(self) -> None:
        """Leaves without DISCONNECT."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()


Start = Callable[..., Awaitable[Running]]
Open = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def serving(broker: Broker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(broker.run())
    ready = asyncio.create_task(broker.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def durability() -> str:
    """Of the brokers of a test; a test file may say otherwise."""
    return "memory"


@pytest.fixture
async def start(tmp_path: Path, durability: str) -> AsyncIterator[Start]:
    """Starts brokers with the given limits or settings; all end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(
            *,
            limits: Limits | None = None,
            wall_clock: Callable[[], float] = time.time,
            hooks: Mapping[str, BrokerHook] | None = None,
            **settings: object,
        ) -> Running:
            site = Site(tmp_path)
            keys = site.signing_keys()
            users = UsersFile(site.path("broker", "users.json"), CHEAP)
            users.add("gateway", site.secret("gateway-mqtt"), roles=("GATEWAY",))
            users.add("admin", "admin-password", roles=("ADMIN",))
            settings = {"durability": durability, "listener": (ListenerSettings(port=0),), **settings}
            broker = Broker(
                BrokerSettings(limits=limits or Limits(), **settings),  # type: ignore[arg-type]
                site=site,
                hasher=CHEAP,
                wall_clock=wall_clock,
                hooks=hooks,
            )
            task = await stack.enter_async_context(serving(broker))
            return Running(broker, site, keys, task)

        yield begin


@pytest.fixture
async def running(start: Start) -> Running:
    """A broker with default settings."""
    return await start()


@pytest.fixture
async def dial() -> AsyncIterator[Open]:
    """Opens connections that have not said anything yet."""
    clients: list[Client] = []

    async def open_one(running: Running, version: ProtocolVersion = ProtocolVersion.V5) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        clients.append(Client(reader, writer, version))
        return clients[-1]

    yield open_one
    for client in clients:
        await client.close()


@pytest.fixture
async def join(dial: Open) -> Open:
    """Opens a connection and logs in as admin, unless the Connect says otherwise; returns (client, its CONNACK)."""

    async def join_one(running: Running, connect: Connect, *, anonymous: bool = False) -> Client:
        client = await dial(running, connect.version)
        if connect.password is None and not anonymous:
            fields = {name: getattr(connect, name) for name in connect.__slots__}
            connect = Connect(**{**fields, "username": "admin", "password": b"admin-password"})
        answer = await client.ask(connect)
        assert isinstance(answer, ConnAck), answer
        client.connack = answer  # type: ignore[attr-defined]
        return client

    return join_one


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits, turn by turn, for something another task of this loop brings about."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not come about"
        await asyncio.sleep(0.002)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return eventually
