"""The two scripts of the reference card, `send -m 10` and `receive -m 10`, with every type; and `kill -9` meanwhile."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from free_ports import free_port
from patience import PATIENCE_S
from typer.testing import CliRunner

from broker.adapters.connection import BrokerAddress
from broker.addresses.address import Address, AddressType
from broker.addresses.book import AddressBook
from broker.addresses.control import CONTROL_TOPIC, RESPONSE_TOPIC
from broker.addresses.traffic import Login, Place, receive, request, send
from broker.addresses.traffic_command import send_app
from broker.certificates import TrialAuthority
from broker.credentials import UsersFile
from broker.errors import BrokerNotReachable, SendError, SendTimedOut
from broker.settings import InstanceSettings, ListenerKind, ListenerSettings
from meshwire.identity import TenantId
from meshwire.mqtt import ProtocolVersion
from meshwire.site import Site

if TYPE_CHECKING:
    from tests.broker.conftest import Running

TYPES = ("queue", "topic", "anycast", "multicast")
BODIES = [b"%d" % number for number in range(1, 11)]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "MESHWIRE_STATE": str(folder), "MESHWIRE_TENANT": "acme"}


async def command(folder: Path, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("meshwire"), *arguments, env=environment(folder), stdout=PIPE, stderr=PIPE
    )


async def output(process: Process, code: int = 0) -> str:
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == code, err.decode()
    return (out if code == 0 else err).decode()


class Server:
    """A broker process that keeps its store and its port from one life to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        users = UsersFile(
            Site(folder).path("broker", "users.json"), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        )
        users.add("admin", "admin-password", roles=("ADMIN",))
        (folder / "site.toml").write_text(f'[broker]\ndurability = "os"\n[[broker.listener]]\nport = {self.port}\n')

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broker", "--config", str(self.folder / "site.toml")),
            env=environment(self.folder),
            stdout=DEVNULL,
            stderr=PIPE,
        )
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.process.stderr.readline():
                if b"broker ready" in line:
                    break
        self.reader = asyncio.create_task(self._swallow(self.process.stderr))

    @staticmethod
    async def _swallow(stream: asyncio.StreamReader) -> None:
        while await stream.readline():
            pass

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self.reader

    @property
    def place(self) -> Place:
        return Place(BrokerAddress("127.0.0.1", self.port), Login("admin", "admin-password"))


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def test_ten_messages_through_each_type_of_address(running: "Running") -> None:
    """Whoever comes first waits: senders of queues need not, receivers always may. Addresses appear while the broker
    runs.
    """
    book = AddressBook(running.site.path("broker", "addresses.json"))
    for kind in TYPES:
        book.put(Address(tenant="acme", name=kind, type=AddressType(kind)))
    await are_known(running, len(TYPES))
    place = Place(BrokerAddress("127.0.0.1", running.port), Login("admin", "admin-password"))
    sending = [asyncio.create_task(_send(place, f"acme/address/{kind}")) for kind in ("queue", "anycast", "multicast")]
    assert await sending[0] == 10, "a queue has room without a receiver"
    ready = asyncio.Event()
    receiving = [asyncio.create_task(_collect(place, f"acme/address/{kind}", 10, ready.set)) for kind in TYPES[::-1]]
    for kind, got in zip(TYPES[::-1], receiving, strict=True):
        if kind == "topic":
            await ready.wait()
            sending.append(asyncio.create_task(_send(place, "acme/address/topic")))
        assert await got == BODIES, kind
    assert [await task for task in sending] == [10] * 4


async def test_the_two_commands(running: "Running", tmp_path: Path) -> None:
    """As the card shows them: the receiver blocks until it has ten messages, the sender until they are taken."""
    AddressBook(running.site.path("broker", "addresses.json")).put(
        Address(tenant="acme", name="anycast", type=AddressType.ANYCAST)
    )
    await are_known(running, 1)
    port = ("--port", str(running.port))
    receiver = await command(tmp_path, "receive", "-m", "10", "anycast", *port)
    await is_receiving(receiver)
    sender = await command(tmp_path, "send", "-m", "10", "anycast", *port)
    lines = (await output(receiver)).splitlines()
    assert [json.loads(line) for line in lines] == [{"sequence": number} for number in range(1, 11)]
    await output(sender)
    # Operators look at it as the site's own gateway does, unless they name somebody else.
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    users = UsersFile(running.site.path("broker", "users.json"), cheap)
    users.add("gateway", running.site.secret("gateway-mqtt"), roles=("OPERATOR",))
    seen = json.loads(await output(await command(tmp_path, "address", "status", *port)))
    assert (seen["name"], seen["received"], seen["delivered"]) == ("anycast", 10, 10)


async def test_the_two_commands_over_mutual_tls(start: Callable[..., Any], tmp_path: Path) -> None:
    """With a certificate to show; and whoever trusts another authority sends nothing."""
    own, foreign = (TrialAuthority.in_folder(tmp_path / name) for name in ("own", "foreign"))
    certificate, key = own.server(("127.0.0.1",))
    ca = own.folder / "ca.crt"
    shown, shown_key = own.client("any", TenantId("acme"))
    listener = ListenerSettings(
        kind=ListenerKind.MQTTS,
        port=0,
        certificate_file=certificate,
        key_file=key,
        client_ca_file=ca,
        enable_client_cert_validation=True,
    )
    running: Running = await start(listener=(listener,))
    book = AddressBook(running.site.path("broker", "addresses.json"))
    book.put(Address(tenant="acme", name="orders", type=AddressType.QUEUE))
    await are_known(running, 1)
    ours = ("--port", str(running.port), "--certificate", str(shown), "--key", str(shown_key))
    refused = await command(tmp_path, "send", "orders", *ours, "--ca-file", str(foreign.folder / "ca.crt"))
    assert "certificate verify failed" in await output(refused, int(BrokerNotReachable.exit_code))
    await output(await command(tmp_path, "send", "orders", "-b", "safe", *ours, "--ca-file", str(ca)))
    receiver = await command(tmp_path, "receive", "-m", "1", "orders", *ours, "--ca-file", str(ca))
    assert await output(receiver) == "safe\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--certificate", "c.pem"), "needs --ca-file"),
        (("--ca-file", "absent.pem"), "MW-BRK-011"),
    ],
)
def test_tls_options_that_do_not_fit_are_refused(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(send_app, ["orders", "--tenant", "acme", *options], env=environment(tmp_path))
    assert done.exit_code
    assert words in done.output + str(done.exception)


async def are_known(running: "Running", count: int) -> None:
    """The broker has read its file of addresses again."""
    async with asyncio.timeout(PATIENCE_S):
        while len(running.broker.engine.addresses) < count:  # noqa: ASYNC110 - the file is looked at by the clock
            await asyncio.sleep(0.01)


async def is_receiving(process: Process) -> None:
    """It says so when it is subscribed: what a topic or multicast receiver misses nobody keeps."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        assert (await process.stderr.readline()).startswith(b"receiving from")


async def test_a_queue_survives_kill_9(tmp_path: Path) -> None:
    """What was acknowledged to the sender and not by a receiver is there after the crash, in order, once."""
    book = AddressBook(Site(tmp_path).path("broker", "addresses.json"))
    book.put(Address(tenant="acme", name="orders", type=AddressType.QUEUE))
    async with serving(tmp_path) as server:
        topic = "acme/address/orders"
        bodies = [str(number).encode() for number in range(1, 301)]
        assert [n async for n in send(server.place, topic, bodies, timeout_s=PATIENCE_S)] == list(range(1, 301))
        first = [item.payload async for item in receive(server.place, topic, 100, timeout_s=PATIENCE_S)]
        assert first == bodies[:100]
        # Commits what was acknowledged before.
        [_ async for _ in send(server.place, topic, [b"last"], timeout_s=PATIENCE_S)]
        await server.kill()
        await server.start()
        assert await stored(server) == 201
        rest = [item.payload async for item in receive(server.place, topic, 201, timeout_s=PATIENCE_S)]
        assert rest == [*bodies[100:], b"last"]
        assert await stored(server) == 0


async def stored(server: Server) -> int:
    asked = json.dumps({"command": "list"}).encode()
    reply = await request(server.place, CONTROL_TOPIC, asked, RESPONSE_TOPIC, timeout_s=PATIENCE_S)
    (item,) = json.loads(reply)["addresses"]
    return int(item["stored"])


async def test_what_goes_wrong_has_its_words(running: "Running") -> None:
    place = Place(BrokerAddress("127.0.0.1", running.port), Login("admin", "admin-password"))
    with pytest.raises(SendTimedOut, match="not done in time"):
        [_ async for _ in send(place, "acme/address/nobody", [b"x"], timeout_s=0.01)]
    with pytest.raises(SendTimedOut):
        [_ async for _ in receive(place, "acme/address/nobody", 1, timeout_s=0.01)]
    with pytest.raises(SendError, match="refused the login"):
        wrong = Place(place.broker, Login("admin", "wrong"))
        [_ async for _ in send(wrong, "acme/address/nobody", [b"x"], timeout_s=PATIENCE_S)]
    token = Place(place.broker, Login("notused", running.token("acme", "ADDRESS_RECEIVER")))
    with pytest.raises(SendError, match="refused a message"):
        [_ async for _ in send(token, "acme/address/orders", [b"x"], timeout_s=PATIENCE_S)]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = Place(BrokerAddress("127.0.0.1", unused.getsockname()[1]), place.login)
        with pytest.raises(BrokerNotReachable):
            [_ async for _ in send(nowhere, "a", [b""], timeout_s=PATIENCE_S)]


async def test_another_service_on_the_port_is_told_from_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.addresses.traffic.CONNECT_TIMEOUT_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = Place(BrokerAddress("127.0.0.1", silent.getsockname()[1]), Login("admin", "x"))
        with pytest.raises(BrokerNotReachable, match="has not answered a login"):
            await request(place, CONTROL_TOPIC, b"{}", RESPONSE_TOPIC, timeout_s=PATIENCE_S)


async def test_a_sender_hears_why_its_account_is_not_served(start: Callable[..., Any]) -> None:
    running = await start(instance=InstanceSettings(name="main", node="one"))
    place = Place(BrokerAddress("127.0.0.1", running.port), Login("x", running.token("acme", "ADDRESS_SENDER")))
    with pytest.raises(SendError, match="has not told this instance which accounts it serves"):
        [_ async for _ in send(place, "acme/address/orders", [b"x"], timeout_s=PATIENCE_S)]


async def test_a_3_1_1_pair(running: "Running") -> None:
    place = Place(BrokerAddress("127.0.0.1", running.port), Login("admin", "admin-password"))
    old = Place(place.broker, place.login, ProtocolVersion.V3_1_1)
    ready = asyncio.Event()
    got = asyncio.create_task(_collect(old, "acme/address/plain", 10, ready.set))
    await ready.wait()
    assert (await _send(old, "acme/address/plain"), await got) == (10, BODIES)


async def _send(place: Place, topic: str) -> int:
    return len([n async for n in send(place, topic, BODIES, timeout_s=PATIENCE_S)])


async def _collect(place: Place, topic: str, count: int, on_ready: Callable[[], None]) -> list[bytes]:
    got = receive(place, topic, count, timeout_s=PATIENCE_S, on_ready=on_ready)
    return [item.payload async for item in got]
