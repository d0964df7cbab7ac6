"""A gateway on loopback, clients that speak raw CoAP, a device that answers, and a broker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_nic import FakeNic, serving
from free_ports import free_port
from patience import PATIENCE_S
from servers import serving as serving_server

from gateway.addresses import Address
from gateway.gateway import Gateway
from gateway.settings import BridgeSettings, GatewaySettings, OutboxSettings, ProxySettings
from meshwire.coap import ACK, CON, Message, codes, decode, encode, options
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.notification import Notification, uplink_request
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
TENANT = TenantId("acme")
FOREIGN_TENANT = TenantId("other")
RECORD = bytes.fromhex("a2006474656d7001723137303030303030 30352c37322e35302c46".replace(" ", ""))


SO_RCVBUFFORCE = 33


class RawClient:
    """A UDP socket that speaks CoAP by the pure codec, octet for octet; nothing is repeated or acknowledged for you."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        self.socket.connect((host, port))
        self._mids = itertools.count(0x1000)

    def send(self, octets: bytes) -> None:
        self.socket.send(octets)

    async def receive(self, timeout_s: float = PATIENCE_S) -> Message:
        async with asyncio.timeout(timeout_s):
            return decode(await asyncio.get_running_loop().sock_recv(self.socket, 65_535))

    def waiting(self) -> list[Message]:
        """What has come so far, without waiting."""
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(decode(self.socket.recv(65_535)))
        return messages

    async def silence(self, for_s: float = 0.1) -> None:
        with pytest.raises(TimeoutError):
            await self.receive(for_s)

    async def request(
        self,
        code: int,
        *pairs: tuple[int, bytes],
        path: str = "",
        payload: bytes = b"",
        mtype: int = CON,
        token: bytes = b"tk",
        timeout_s: float = PATIENCE_S,
    ) -> Message:
        """Send one request and give the first datagram that comes back."""
        segments = tuple((options.URI_PATH, part.encode()) for part in path.split("/") if part)
        message = Message(mtype, code, next(self._mids) & 0xFFFF, token, (), payload).with_options((*segments, *pairs))
        self.send(encode(message))
        return await self.receive(timeout_s)

    async def answer_to(self, code: int, *pairs: tuple[int, bytes], **details: Any) -> Message:
        """Send one request and give its answer, piggybacked or separate."""
        answer = await self.request(code, *pairs, **details)
        if answer.code == codes.EMPTY:
            answer = await self.receive()
            self.send(encode(Message(ACK, codes.EMPTY, answer.mid)))
        return answer

    async def open_session(self, token: str) -> None:
        answer = await self.request(codes.POST, path="sessions", payload=token.encode())
        assert answer.code == codes.CREATED, str(answer)

    def close(self) -> None:
        self.socket.close()


def make_bubble_up(
    mac: DeviceId = MAC,
    *,
    observe: int = 1,
    epoch: int = 1,
    payload: bytes = RECORD,
    mid: int | None = None,
    mtype: int = CON,
    path: str = "snsr/arduino/temp",
    token: bytes = b"up",
) -> Message:
    """The request of a NIC."""
    notification = Notification(mac, path, observe, epoch, options.CBOR, payload, 1_700_000_000.25)
    segments, queries = uplink_request(notification)
    pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
    pairs.append((options.CONTENT_FORMAT, options.encode_uint(options.CBOR)))
    pairs += [(options.URI_QUERY, query.encode()) for query in queries]
    return Message(mtype, codes.POST, observe & 0xFFFF if mid is None else mid, token, tuple(pairs), payload)


@pytest.fixture
def bubble_up() -> Callable[..., Message]:
    return make_bubble_up


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "state")


PATIENT = ProxySettings(empty_ack_s=PATIENCE_S, timeout_s=PATIENCE_S)
"""No device is late, however busy the machine: answers come with the acknowledgement."""


def make_settings(broker_port: int | None = None, **changes: Any) -> GatewaySettings:
    values: dict[str, Any] = {
        "listen": ["127.0.0.1", "::1"],
        "port": 0,
        "http": "",
        "bridge": BridgeSettings(enabled=broker_port is not None, port=broker_port or 1),
        "outbox": OutboxSettings(segment_octets=65_536),
        "proxy": PATIENT,
    }
    return GatewaySettings(**(values | changes))


@pytest.fixture
def settings_for() -> Callable[..., GatewaySettings]:
    return make_settings


@contextlib.asynccontextmanager
async def run_gateway(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway at work; two tenants with a device each."""
    gateway.registry.add_device(MAC, TENANT)
    gateway.registry.add_device(FOREIGN_MAC, FOREIGN_TENANT)
    async with serving_server(gateway):
        yield gateway


@pytest.fixture
def running() -> Callable[[Gateway], contextlib.AbstractAsyncContextManager[Gateway]]:
    return run_gateway


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> ProxySettings:
    """Of `gateway`; tests of late devices give their own as a parameter."""
    given: ProxySettings = getattr(request, "param", PATIENT)
    return given


@pytest.fixture
async def gateway(site: Site, proxy: ProxySettings) -> AsyncIterator[Gateway]:
    async with run_gateway(Gateway(make_settings(proxy=proxy), site)) as gateway:
        yield gateway


@pytest.fixture
async def connect_to() -> AsyncIterator[Callable[[Gateway], RawClient]]:
    clients: list[RawClient] = []

    def make(gateway: Gateway, host: str = "127.0.0.1", port: int | None = None) -> RawClient:
        clients.append(RawClient(port or gateway.coap_port, host))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def connect(gateway: Gateway, connect_to: Callable[..., RawClient]) -> Callable[..., RawClient]:
    return partial(connect_to, gateway)


@pytest.fixture
async def nic(gateway: Gateway) -> AsyncIterator[FakeNic]:
    async with serving(FakeNic()) as nic:
        gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        yield nic


@pytest.fixture
def token(site: Site) -> str:
    return site.signing_keys().issue(TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time())


@pytest.fixture
async def client(connect: Any, token: str) -> Any:
    client = connect()
    await client.open_session(token)
    return client


class Mosquitto:
    """Debian's mosquitto on a port of its own; may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        self.configure("allow_anonymous true")
        self._process: asyncio.subprocess.Process | None = None

    def configure(self, text: str) -> None:
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{text}\n")

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(mosquitto_path()), "-c", str(self._config), stderr=log
            )
        # It opens one listener after the other.
        for port in re.findall(r"^listener (\d+)", self._config.read_text(), re.MULTILINE):
            await self._listens(self._process, int(port))

    async def _listens(self, process: asyncio.subprocess.Process, port: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while process.returncode is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)
        said = self._log.read_text(errors="replace")
        raise AssertionError(f"mosquitto does not listen on {port}, exit status {process.returncode}:\n{said}")

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


def mosquitto_path() -> str | None:
    return shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(tmp_path)
    await broker.start()
    yield broker
    await broker.kill()


@pytest.fixture
def raw_client() -> Iterator[Callable[..., RawClient]]:
    """Makes clients of any port; they are closed at the end."""
    clients: list[RawClient] = []

    def make(port: int, host: str = "127.0.0.1") -> RawClient:
        clients.append(RawClient(port, host))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
