"""Direct telemetry: a reading that nobody takes stays with its NIC; one that somebody took is not stored on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from patience import PATIENCE_S, until
from typer.testing import CliRunner

from broker.adapters.connection import BrokerAddress
from broker.addresses.address import Address, AddressType
from broker.addresses.book import AddressBook
from broker.addresses.traffic import Login, Place, receive
from broker.credentials import UsersFile
from broker.server import Broker
from broker.settings import BrokerSettings, ListenerSettings
from gateway.direct_record import FOLLOWED_S, MAX_READINGS, DirectRecord
from gateway.envelope import StoredNotification
from gateway.gateway import Gateway
from gateway.settings import CategoryRule, DirectSettings
from gateway.statistics import Event
from gateway.tools.delivery import explain_app
from meshwire.coap import Message, codes, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
DIRECT = DirectSettings(tenants=["acme"], timeout_s=10.0, retry_after_s=7)
KINDS = (AddressType.ANYCAST, AddressType.MULTICAST)


@contextlib.asynccontextmanager
async def serving(site: Site, *addresses: Address) -> AsyncIterator[Broker]:
    users = UsersFile(site.path("broker", "users.json"), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    users.add("gateway", site.secret("gateway-mqtt"), roles=("GATEWAY",))
    users.add("reader", "reader-password", tenant=TenantId("acme"), roles=("BUBBLE_UP_READ_CONSUMER",))
    book = AddressBook(site.path("broker", "addresses.json"))
    for address in addresses:
        book.put(address)
    settings: dict[str, Any] = {"durability": "memory", "listener": (ListenerSettings(port=0),)}
    broker = Broker(BrokerSettings(**settings), site=site)
    task = asyncio.create_task(broker.run())
    await broker.ready.wait()
    try:
        yield broker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Reader:
    """Receives readings of acme; each is acknowledged when the next one is asked for."""

    def __init__(self, broker: Broker) -> None:
        place = Place(BrokerAddress("127.0.0.1", broker.ports[0]), Login("reader", "reader-password"))
        self._ready = asyncio.Event()
        self._messages = receive(place, "acme/read/#", None, timeout_s=PATIENCE_S, on_ready=self._ready.set)
        self.first = asyncio.create_task(anext(self._messages))

    async def is_there(self) -> None:
        await self._ready.wait()

    async def acknowledge(self) -> None:
        """The one that came, by asking for another."""
        self.first = asyncio.create_task(anext(self._messages))
        await asyncio.sleep(0)

    async def leave(self) -> None:
        self.first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.first
        await self._messages.aclose()


async def connected(gateway: Gateway) -> None:
    """Its direct part is: until then every answer says that the broker is away."""
    lane = gateway._lane
    await until(lambda: lane.direct._connection is not None, lambda: gateway.statistics.by_reason(Event.BRIDGE))


Run = Callable[[Gateway], contextlib.AbstractAsyncContextManager[Gateway]]


async def ask(client: Any, message: Message) -> Message:
    client.send(encode(message))
    answer: Message = await client.receive(PATIENCE_S)
    assert answer.mid == message.mid
    return answer


@pytest.mark.parametrize("kind", [*KINDS, None], ids=str)
async def test_without_a_receiver_the_nic_keeps_its_reading(
    kind: AddressType | None, site: Site, running: Run, settings_for: Any, connect_to: Any, bubble_up: Any
) -> None:
    """On a direct address, and on a plain topic, too."""
    address = [] if kind is None else [Address(tenant="acme", name="telemetry", type=kind, filter="read/#")]
    async with serving(site, *address) as broker:
        gateway = Gateway(settings_for(broker.ports[0], direct=DIRECT), site)
        async with running(gateway):
            nic = connect_to(gateway)
            await connected(gateway)
            answer = await ask(nic, bubble_up(observe=1))
            assert (answer.code, answer.uint(options.MAX_AGE)) == (codes.SERVICE_UNAVAILABLE, 7)
            assert answer.payload == b"gateway: no receiver is there for readings of this tenant"

            reader = Reader(broker)
            await reader.is_there()
            nic.send(encode(bubble_up(observe=1, mid=100)))
            message = await reader.first
            assert message.topic == "acme/read/001350050047dc9a/temp"
            await reader.acknowledge()
            answer = await nic.receive(PATIENCE_S)
            assert (answer.mid, answer.code) == (100, codes.CHANGED)
            again = await ask(nic, bubble_up(observe=1, mid=101))
            assert again.code == codes.CHANGED, "a repetition is known"

            await reader.leave()
            answer = await ask(nic, bubble_up(observe=2))
            assert answer.code == codes.SERVICE_UNAVAILABLE
            outbox = gateway.status()["outbox"]
            assert isinstance(outbox, dict) and outbox["depth"] == 0, "nothing of it was stored"
            assert gateway.statistics.by_reason(Event.REFUSED) == {"no-receiver": 2}


async def test_explain_tells_of_direct_readings(
    site: Site, running: Run, settings_for: Any, connect_to: Any, bubble_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken, refused and under way, by MAC and by key."""
    monkeypatch.setenv("MESHWIRE_STATE", str(site.state_dir))
    address = Address(tenant="acme", name="telemetry", type=AddressType.ANYCAST, filter="read/#")
    async with serving(site, address) as broker:
        gateway = Gateway(settings_for(broker.ports[0], direct=DIRECT, http="127.0.0.1:0"), site)
        async with running(gateway):

            async def explained(what: str, *options: str) -> list[Any]:
                arguments = [what, "--http", f"http://127.0.0.1:{gateway.http_port}", *options]
                shown = await asyncio.to_thread(CliRunner().invoke, explain_app, arguments)
                assert shown.exit_code == 0, shown.output
                return [json.loads(line) if options else line for line in shown.output.splitlines()]

            nic = connect_to(gateway)
            await connected(gateway)
            await ask(nic, bubble_up(observe=1))
            reader = Reader(broker)
            await reader.is_there()
            nic.send(encode(bubble_up(observe=2, mid=2)))
            await reader.first
            refused, *_ = [each for each in await explained(MAC.value, "--json") if each["event"] == "delivery"][::-1]
            (waiting,) = await explained(f"{MAC}/snsr/arduino/temp/1/2", "--json")
            assert (refused["state"], refused["reason"], refused["direct"]) == ("refused", "no-receiver", True)
            assert (waiting["state"], waiting["direct"], waiting["sequence"]) == ("published", True, 0)
            await reader.acknowledge()
            assert (await nic.receive(PATIENCE_S)).code == codes.CHANGED
            (taken,) = await explained(f"{MAC}/snsr/arduino/temp/1/2", "--json")
            assert taken["state"] == "acknowledged" and taken["acknowledged_at"] >= taken["published_at"]
            text = "\n".join(await explained(MAC.value))
            assert "ACKNOWLEDGED" in text and "taken, as the broker says" in text and "outbox" not in text
            assert "refused, the device keeps it: no-receiver" in text
            await reader.leave()


def test_what_is_remembered_of_direct_readings_is_bounded() -> None:
    record = DirectRecord()
    for number in range(MAX_READINGS + 10):
        stored = StoredNotification(TenantId("acme"), Notification(MAC, "a", number, 1, None, b"x", 1.0))
        record.begin(stored, float(number))
    found = list(record.find(MAC.value, None))
    assert len(found) == MAX_READINGS and found[0].received_at == MAX_READINGS + 9
    assert not list(record.find(MAC.value, f"{MAC}/a/1/5")) and not list(record.find(FOREIGN_MAC.value, None))


def test_the_octets_of_direct_readings_are_kept_while_somebody_follows() -> None:
    record, numbers = DirectRecord(), iter(range(9_999))

    def ended(now_s: float, reason: str = "") -> None:
        notification = Notification(MAC, "a", next(numbers), 1, None, b"x", 1.0)
        record.end(record.begin(StoredNotification(TenantId("acme"), notification), now_s), reason, now_s)

    def news(number: int | None, now_s: float) -> tuple[object, object, list[tuple[Any, ...]]]:
        told: Any = record.since(number, 3, now_s)
        items = [(each["key"][-1], each["state"], each["reason"], each["payload"]) for each in told["notifications"]]
        return told["last"], told["skipped"], items

    ended(1.0)
    assert news(None, 2.0) == (0, 0, []), "nobody followed"
    ended(3.0)
    ended(3.0, "no-receiver")
    assert news(0, 4.0) == (2, 0, [("1", "acknowledged", None, "78"), ("2", "refused", "no-receiver", "78")])
    assert news(2, 4.0) == (2, 0, [])
    for _ in range(5):
        ended(5.0)
    last, skipped, items = news(2, 5.0)
    assert (last, skipped, [key for key, *_ in items]) == (7, 2, ["5", "6", "7"])
    ended(5.0 + FOLLOWED_S)
    assert news(2, 20.0) == (7, 5, []), "nobody has followed for a while"
    assert all(not reading.payload for reading in record.find(MAC.value, None))


async def test_direct_readings_are_live_events(
    site: Site, running: Run, settings_for: Any, connect_to: Any, bubble_up: Any
) -> None:
    async with serving(site) as broker:
        gateway = Gateway(settings_for(broker.ports[0], direct=DIRECT, http="127.0.0.1:0"), site)
        async with running(gateway):
            token = site.signing_keys().issue(TenantId("acme"), [], now=time.time())
            await connected(gateway)
            headers = f"Host: x\r\nAuthorization: Bearer {token}\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.http_port)
            writer.write(f"GET /api/events?kind=direct HTTP/1.1\r\n{headers}\r\n".encode())
            await reader.readuntil(b":\n\n")
            nic, observe = connect_to(gateway), 0
            told = asyncio.ensure_future(reader.readuntil(b"}\n\n"))
            async with asyncio.timeout(PATIENCE_S):
                while not told.done():  # the first look only notes where it begins
                    observe += 1
                    await ask(nic, bubble_up(observe=observe, mid=observe))
                    await asyncio.wait({told}, timeout=0.1)
            event = told.result().decode()
            data = json.loads(event.split("data: ")[1])
            assert "event: direct" in event and data["device"] == MAC.value
            assert (data["state"], data["reason"]) == ("refused", "no-receiver") and data["payload"] and data["values"]
            writer.close()


async def test_a_receiver_that_never_acknowledges_is_none(
    site: Site, running: Run, settings_for: Any, connect_to: Any, bubble_up: Any
) -> None:
    address = Address(tenant="acme", name="telemetry", type=AddressType.ANYCAST, filter="read/#")
    async with serving(site, address) as broker:
        direct = DirectSettings(tenants=["acme"], timeout_s=0.2)
        gateway = Gateway(settings_for(broker.ports[0], direct=direct), site)
        async with running(gateway):
            await connected(gateway)
            reader, nic = Reader(broker), connect_to(gateway)
            await reader.is_there()
            answer = await ask(nic, bubble_up())
            assert answer.payload == b"gateway: no receiver has taken it in time"
            await reader.leave()


async def test_alarms_and_other_tenants_are_stored(
    site: Site, running: Run, settings_for: Any, connect_to: Any, bubble_up: Any
) -> None:
    async with serving(site) as broker:
        settings = settings_for(broker.ports[0], direct=DIRECT)
        settings.bridge.categories["ncmth1"] = CategoryRule.ALERT
        gateway = Gateway(settings, site)
        async with running(gateway):
            nic = connect_to(gateway)
            await connected(gateway)
            alarm = bytes.fromhex("a200666e636d7468310165 31323334 35".replace(" ", ""))
            assert (await ask(nic, bubble_up(payload=alarm))).code == codes.CHANGED
            assert (await ask(nic, bubble_up(FOREIGN_MAC, observe=2))).code == codes.CHANGED


async def test_while_the_broker_is_away_the_nic_keeps_everything(
    site: Site, running: Run, settings_for: Any, connect_to: Any, bubble_up: Any, tmp_path: Path
) -> None:
    gateway = Gateway(settings_for(1, direct=DIRECT), site)
    async with running(gateway):
        answer = await ask(connect_to(gateway), bubble_up())
        assert (answer.code, answer.payload) == (codes.SERVICE_UNAVAILABLE, b"gateway: the broker is away")
