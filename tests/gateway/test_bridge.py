"""The bridge against a scripted broker and against mosquitto: order, verdicts, outages, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from descriptors import open_descriptors, opened_since
from patience import PATIENCE_S, until
from scripted_broker import ScriptedBroker, working

from gateway.addresses import Address
from gateway.bridge import Bridge
from gateway.envelope import StoredNotification, pack
from gateway.gateway import Gateway
from gateway.mqtt import Login, client_id
from gateway.outbox import Outbox
from gateway.settings import BridgeSettings, CategoryRule, Qos
from gateway.statistics import Event, Statistics
from gateway.storage import FileStorage, MemoryStorage
from meshwire.coap import codes, decode, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")


class Bench:
    """A bridge on an outbox in memory."""

    def __init__(self, port: int, folder: Path | None = None, **settings: Any) -> None:
        self.statistics = Statistics()
        self.storage = MemoryStorage() if folder is None else FileStorage(folder)
        self.outbox = Outbox(self.storage, max_octets=1 << 24, segment_octets=1 << 16)
        name = client_id("gw-coap-mqtt-bridge", "7-")
        login = Login("127.0.0.1", port, name, "gateway", "secret", is_lasting=folder is not None)
        self.bridge = Bridge(self.outbox, BridgeSettings(port=port, **settings), login, self.statistics)

    def store(self, *numbers: int) -> None:
        for number in numbers:
            notification = Notification(MAC, "snsr/arduino/temp", number, 1, 60, b"%06d" % number, 1_700_000_000.5)
            self.outbox.append(pack(StoredNotification(TenantId("acme"), notification)), 1000)
        commit = self.outbox.begin_commit()
        assert commit is not None
        commit.write(sync=False)
        self.outbox.finish_commit(commit)
        self.bridge.stored()

    async def until_empty(self) -> None:
        await until(lambda: self.outbox.status(0).depth == 0)


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker()
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.reconnecting.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("gateway.reconnecting.LONGEST_PAUSE_S", 0.1)


@pytest.mark.parametrize("qos", list(Qos))
async def test_everything_arrives_in_order_and_frees_the_outbox(broker: ScriptedBroker, qos: Qos) -> None:
    bench = Bench(broker.port, default_message_qos=qos)
    bench.store(*range(300))
    async with working(bench.bridge.run):
        await bench.until_empty()
        bench.store(300)
        # The broker's answer is still on its way when it has taken the last one; at QoS 0 it is the other way round.
        await until(lambda: len(broker.taken) == 301 and bench.statistics.total(Event.PUBLISHED) == 301)
    assert broker.taken == [b"%06d" % n for n in range(301)]
    assert {publish.qos for publish in broker.seen} == {qos.level}
    assert not bench.bridge.is_connected


async def test_topic_and_properties(broker: ScriptedBroker) -> None:
    bench = Bench(broker.port, categories={"temp": CategoryRule.BOTH})
    bench.store(5)
    async with working(bench.bridge.run):
        await bench.until_empty()
    # The payload of this bench is no CBOR record: the type is the path's last segment.
    assert [publish.topic for publish in broker.seen] == [f"acme/read/{MAC}/temp", f"acme/alert/{MAC}/temp"]
    properties = broker.seen[0].properties
    assert properties.content_type == "application/cbor"
    assert dict(properties.user_properties) == {
        "device": MAC.value,
        "path": "snsr/arduino/temp",
        "observe": "5",
        "time": "1700000000.500",
        "key": f"{MAC}/snsr/arduino/temp/1/5",
    }


async def test_client_id_is_padded_to_23(broker: ScriptedBroker) -> None:
    async with working(Bench(broker.port).bridge.run):
        await until(lambda: bool(broker.client_ids))
    assert broker.client_ids[0].startswith("gw-coap-mqtt-bridge-7") and len(broker.client_ids[0]) == 23


async def test_a_broker_without_mqtt_5_gets_3_1_1(broker: ScriptedBroker) -> None:
    broker.versions_known = {4}
    bench = Bench(broker.port)
    bench.store(1, 2, 3)
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert broker.versions[0] == 5 and broker.versions[-1] == 4
    assert len(broker.taken) == 3


async def test_the_window_is_bounded(broker: ScriptedBroker) -> None:
    broker.verdict = lambda publish: None
    bench = Bench(broker.port, window=8)
    bench.store(*range(50))
    async with working(bench.bridge.run):
        await until(lambda: len(broker.seen) >= 8)
        await asyncio.sleep(0.1)
        assert len(broker.seen) == 8


async def test_lost_connections_lose_nothing_and_keep_the_order(broker: ScriptedBroker) -> None:
    rng = random.Random(11)
    broker.verdict = lambda publish: None if rng.random() < 0.01 else 0
    bench = Bench(broker.port, acknowledge_timeout_s=0.2)
    bench.store(*range(200))
    async with working(bench.bridge.run):
        for cuts in range(1, 13):
            await until(lambda: bench.bridge.is_connected)
            await asyncio.sleep(rng.random() * 0.03)
            broker.hang_up()
            await until(lambda cuts=cuts: bench.statistics.total(Event.BRIDGE, "disconnected") >= cuts)
        await bench.until_empty()
    first_seen = list(dict.fromkeys(publish.payload for publish in broker.seen))
    assert first_seen == sorted(set(broker.taken)) == [b"%06d" % n for n in range(200)]
    assert bench.statistics.total(Event.LOST) == 0


async def test_an_absent_broker_is_found_when_it_comes(broker: ScriptedBroker) -> None:
    port = broker.port
    await broker.stop()
    bench = Bench(port)
    bench.store(*range(20))
    async with working(bench.bridge.run):
        await until(lambda: bench.statistics.total(Event.BRIDGE, "failed") >= 3)
        assert bench.outbox.status(0).depth == 20
        await broker.start()
        await bench.until_empty()
        await broker.stop()
        bench.store(*range(20, 40))
        await asyncio.sleep(0.1)
        await broker.start()
        await bench.until_empty()
    assert list(dict.fromkeys(broker.taken)) == [b"%06d" % n for n in range(40)]


async def test_a_broker_that_does_not_acknowledge_is_left(broker: ScriptedBroker) -> None:
    broker.verdict = lambda publish: None if len(broker.versions) == 1 else 0
    bench = Bench(broker.port, acknowledge_timeout_s=0.2)
    bench.store(1, 2, 3)
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert broker.taken == [b"000001", b"000002", b"000003"]


async def test_can_be_stopped_at_any_moment(broker: ScriptedBroker, caplog: pytest.LogCaptureFixture) -> None:
    """aiomqtt swallows a cancellation that comes together with CONNACK."""
    for turns in range(60):
        bench = Bench(broker.port)
        bench.store(1)
        task = asyncio.ensure_future(bench.bridge.run())
        for _ in range(turns):
            await asyncio.sleep(0.0001)
        task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("code", [0x86, None])
async def test_a_broker_that_refuses_us_is_tried_again_and_costs_nothing(
    broker: ScriptedBroker, code: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.mqtt_publisher.CONNECT_TIMEOUT_S", 0.05)
    broker.welcome = lambda: code if len(broker.versions) < 10 else 0
    bench = Bench(broker.port)
    bench.store(1)
    async with working(bench.bridge.run):
        await until(lambda: len(broker.versions) == 3)
        before = open_descriptors()
        await bench.until_empty()
        assert len(opened_since(before)) <= 4, "seven attempts later"
    assert broker.taken == [b"000001"]
    assert [record for record in caplog.records if record.name == "asyncio"] == []


class Killed:
    """A bridge at QoS 2 whose process is killed by the end of the block, and the next one on the same outbox."""

    def __init__(self, broker: ScriptedBroker, folder: Path, **settings: Any) -> None:
        self._make = lambda: Bench(broker.port, folder, default_message_qos=Qos.EXACTLY_ONCE, **settings)
        self.bench = self._make()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[Bench]:
        async with working(self.bench.bridge.run):
            yield self.bench
            # As after SIGKILL: no goodbye, no cursor written.
            self.bench.storage.close()
            self.bench.storage = MemoryStorage()
            self.bench.outbox._storage = MemoryStorage()
        self.bench = self._make()


@pytest.mark.parametrize("rule", list(CategoryRule))
async def test_a_new_process_goes_on_at_pubrel(broker: ScriptedBroker, tmp_path: Path, rule: CategoryRule) -> None:
    """The broker has everything, its PUBCOMP has not come: nothing may be published again."""
    broker.completes = False
    killed = Killed(broker, tmp_path, default_category=rule)
    messages = 12 if rule is CategoryRule.BOTH else 6
    async with killed.working() as bench:
        bench.store(*range(6))
        await until(lambda: len(broker.released) == messages)
    assert len(broker.taken) == messages
    broker.keeps_session, broker.completes = True, True
    async with working(killed.bench.bridge.run):
        await killed.bench.until_empty()
        killed.bench.store(6)
        await killed.bench.until_empty()
    assert len(broker.seen) == messages + messages // 6
    assert broker.released[messages : 2 * messages] == broker.released[:messages]


async def test_a_new_process_publishes_by_the_identifiers_of_the_last_one(
    broker: ScriptedBroker, tmp_path: Path
) -> None:
    """The broker has some and its answers have not come: it recognises them."""
    killed = Killed(broker, tmp_path)
    broker.verdict = lambda publish: 0 if len(broker.seen) > 3 else None
    broker._held = {1 + 4 * number for number in (1, 2, 3)}
    broker.keeps_session = True
    async with killed.working() as bench:
        bench.store(*range(6))
        await until(lambda: len(broker.seen) == 6)
    broker.verdict = lambda publish: 0
    async with working(killed.bench.bridge.run):
        await killed.bench.until_empty()
    assert broker.taken == [b"%06d" % number for number in range(3, 6)], "the first three it had already"
    again = broker.seen[6:]
    assert [publish.packet_id for publish in again] == [publish.packet_id for publish in broker.seen[: len(again)]]
    assert all(publish.dup for publish in again)


async def test_on_a_session_that_the_broker_has_lost_everything_is_published_anew(
    broker: ScriptedBroker, tmp_path: Path
) -> None:
    """And once more when we are killed again: the old mark must not pass for the new session."""
    broker.completes = False
    killed = Killed(broker, tmp_path)
    async with killed.working() as bench:
        bench.store(*range(6))
        await until(lambda: len(broker.released) == 6)
    broker.verdict = lambda publish: None
    async with killed.working():
        await until(lambda: len(broker.seen) == 12)
    broker.keeps_session, broker.completes, broker.verdict = True, True, lambda publish: 0
    async with working(killed.bench.bridge.run):
        await killed.bench.until_empty()
    assert broker.taken == [b"%06d" % number for number in range(6)] * 2


async def test_a_window_of_one_takes_records_of_several_messages(broker: ScriptedBroker) -> None:
    bench = Bench(broker.port, window=1, default_message_qos=Qos.EXACTLY_ONCE, default_category=CategoryRule.BOTH)
    bench.store(*range(5))
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert len(broker.taken) == 10 and broker.max_underway == 1


@pytest.mark.parametrize(
    ("qos", "code", "reason"),
    [(1, 0x87, "not-authorized"), (2, 0x87, "not-authorized"), (1, 0x90, "topic-name-invalid")],
)
async def test_a_refused_message_is_lost_with_its_reason_and_not_tried_again(
    broker: ScriptedBroker, qos: int, code: int, reason: str
) -> None:
    broker.verdict = lambda publish: code if publish.payload == b"000005" else 0
    bench = Bench(broker.port, default_message_qos=list(Qos)[qos])
    bench.store(*range(10))
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert len(broker.taken) == 9 and sum(publish.payload == b"000005" for publish in broker.seen) == 1
    assert bench.statistics.by_reason(Event.LOST) == {reason: 1}


async def test_a_busy_broker_is_tried_again(broker: ScriptedBroker) -> None:
    broker.verdict = lambda publish: 0x97 if len(broker.versions) < 3 else 0
    bench = Bench(broker.port)
    bench.store(*range(5))
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert len(broker.taken) == 5 and bench.statistics.total(Event.LOST) == 0


async def test_a_message_for_which_the_broker_hangs_up_is_found_and_given_up(broker: ScriptedBroker) -> None:
    broker.verdict = lambda publish: -0x95 if publish.payload == b"000013" else 0
    bench = Bench(broker.port)
    bench.store(*range(30))
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert set(broker.taken) == {b"%06d" % n for n in range(30) if n != 13}
    assert bench.statistics.by_reason(Event.LOST) == {"packet-too-large": 1}


async def test_an_unreadable_record_is_lost_with_its_reason(broker: ScriptedBroker) -> None:
    bench = Bench(broker.port)
    bench.outbox.append(b"\xff\x00rubbish", 1000)
    bench.store(1)
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert broker.taken == [b"000001"]
    assert bench.statistics.by_reason(Event.LOST) == {"unreadable": 1}


# --- with mosquitto


@pytest.mark.server
async def test_from_the_nics_datagram_to_a_foreign_subscriber(
    mosquitto: Any, site: Site, settings_for: Any, running: Any, bubble_up: Any
) -> None:
    loop = asyncio.get_running_loop()
    settings = settings_for(mosquitto.port)
    version = aiomqtt.ProtocolVersion.V5
    async with (
        aiomqtt.Client("127.0.0.1", mosquitto.port, protocol=version) as subscriber,
        running(Gateway(settings, site)) as gateway,
    ):
        await subscriber.subscribe("acme/#", qos=2)
        nic = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        nic.setblocking(False)
        nic.connect(("::1", gateway.coap_port))
        for number in range(3):
            request = bubble_up(observe=number, mid=number)
            nic.send(encode(request))
            answer = decode(await loop.sock_recv(nic, 2048))
            assert (answer.code, answer.mid) == (codes.CHANGED, number)
        nic.close()
        received = []
        async with asyncio.timeout(PATIENCE_S):
            async for message in subscriber.messages:
                if "/read/" in str(message.topic):
                    received.append(message)
                if len(received) == 3:
                    break
        assert {str(message.topic) for message in received} == {f"acme/read/{MAC}/temp"}
        assert [message.payload for message in received] == [request.payload] * 3
        assert {message.qos for message in received} == {1}
        keys = [dict(message.properties.UserProperty)["key"] for message in received]  # type: ignore[union-attr]
        assert keys == [f"{MAC}/snsr/arduino/temp/1/{n}" for n in range(3)]


@pytest.mark.server
async def test_mosquitto_restarted_under_load_loses_nothing(
    mosquitto: Any, tmp_path: Path, site: Site, settings_for: Any, running: Any, bubble_up: Any
) -> None:
    """The subscriber's session lies on mosquitto's disk; what a NIC got 2.04 for must arrive there."""
    await mosquitto.kill()
    mosquitto.configure(
        f"allow_anonymous true\npersistence true\npersistence_location {tmp_path}/\nmax_queued_messages 0\nuser root"
    )
    await mosquitto.start()
    loop = asyncio.get_running_loop()
    acknowledged: set[bytes] = set()
    received: list[bytes] = []

    async def subscribe() -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1", mosquitto.port, identifier="back-office", clean_session=False
                ) as client:
                    await client.subscribe("acme/read/#", qos=1)
                    async for message in client.messages:
                        received.append(bytes(message.payload))
            await asyncio.sleep(0.05)

    async def report(gateway: Gateway) -> None:
        nic = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        nic.setblocking(False)
        nic.connect(("127.0.0.1", gateway.coap_port))
        for number in range(600):
            payload = b"%06d" % number
            nic.send(encode(bubble_up(observe=number, mid=number, payload=payload)))
            answer = decode(await loop.sock_recv(nic, 2048))
            assert answer.code == codes.CHANGED
            acknowledged.add(payload)
            await asyncio.sleep(0.003)
        nic.close()

    async with working(subscribe), running(Gateway(settings_for(mosquitto.port), site)) as gateway:
        reporting = asyncio.ensure_future(report(gateway))
        for _ in range(2):
            await asyncio.sleep(0.4)
            mosquitto._process.send_signal(signal.SIGTERM)
            await mosquitto._process.wait()
            await asyncio.sleep(0.3)
            await mosquitto.start()
        await reporting
        await until(lambda: acknowledged <= set(received))
    assert len(acknowledged) == 600
    assert list(dict.fromkeys(received)) == sorted(acknowledged)


@pytest.mark.server
async def test_mosquitto_says_not_authorized(mosquitto: Any, tmp_path: Path) -> None:
    await mosquitto.kill()
    (tmp_path / "acl").write_text("topic write acme/alert/#\n")
    mosquitto.configure(f"allow_anonymous true\nacl_file {tmp_path}/acl\nuser root")
    await mosquitto.start()
    bench = Bench(mosquitto.port, categories={"temp": CategoryRule.READ})
    bench.store(1, 2)
    async with working(bench.bridge.run):
        await bench.until_empty()
    assert bench.statistics.by_reason(Event.LOST) == {"not-authorized": 2}


@pytest.mark.server
async def test_presence_is_retained_and_the_will_is_kept(
    mosquitto: Any, site: Site, settings_for: Any, running: Any
) -> None:
    states: dict[str, str] = {}
    is_watching = asyncio.Event()

    async def watch() -> None:
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
            await client.subscribe("+/presence/#", qos=1)
            is_watching.set()
            async for message in client.messages:
                states[str(message.topic)] = bytes(message.payload).decode()

    settings = settings_for(mosquitto.port, presence={"interval_s": 600, "missed": 2})
    async with working(watch):
        await is_watching.wait()
        async with running(Gateway(settings, site)) as gateway:
            gateway.registry.seen(MAC, Address("::1", 4849), time.time())
            await until(lambda: states.get(f"acme/presence/{MAC}") == "online")
            assert states["ssni/presence/gateway"] == "online"
            gateway.registry.seen(MAC, Address("::1", 4849), time.time() - 1201)
            await until(lambda: states.get(f"acme/presence/{MAC}") == "offline")
        await until(lambda: states["ssni/presence/gateway"] == "offline")
