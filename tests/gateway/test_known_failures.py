"""The failures that other Python gateways are known for: none of them happens here.

The first seconds of an outage lost; the buffer destroyed at reconnect; forwarding that stays stopped after a long
outage. (That nobody can size the buffer: `test_delivery.py`.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from patience import until
from scripted_broker import ScriptedBroker

from gateway.gateway import Gateway
from gateway.statistics import Event
from meshwire.coap import codes, encode
from meshwire.mqtt import ProtocolVersion
from meshwire.site import Site


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


async def report(client: Any, bubble_up: Any, numbers: range) -> None:
    for number in numbers:
        client.send(encode(bubble_up(observe=number, mid=number, payload=b"%06d" % number)))
        assert (await client.receive()).code == codes.CHANGED


def readings(broker: ScriptedBroker) -> list[bytes]:
    return [payload for payload in dict.fromkeys(broker.taken) if payload.isdigit()]


def expected(count: int) -> list[bytes]:
    return [b"%06d" % number for number in range(count)]


def is_connected(gateway: Gateway) -> bool:
    status: dict[str, Any] = gateway.status()
    return bool(status["bridge"]["connected"])


async def test_the_first_seconds_of_an_outage_are_not_lost(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    """The broker has stopped answering and nobody has noticed: what is written into the dead connection comes again."""
    settings = settings_for(broker.port)
    settings.bridge.acknowledge_timeout_s = 0.4
    async with running(Gateway(settings, site)) as gateway:
        client = raw_client(gateway.coap_port)
        await until(lambda: is_connected(gateway))
        await report(client, bubble_up, range(10))
        await until(lambda: readings(broker) == expected(10))
        broker.verdict = lambda publish: None
        await report(client, bubble_up, range(10, 60))
        await until(lambda: {publish.payload for publish in broker.seen} >= set(expected(10 + settings.bridge.window)))
        assert readings(broker) == expected(10), "written into the dead connection"
        await until(lambda: gateway.statistics.total(Event.BRIDGE, "disconnected") >= 1)
        broker.verdict = lambda publish: 0
        await until(lambda: readings(broker) == expected(60))
        assert gateway.status()["losses"] == {}


async def test_the_buffer_outlives_reconnecting_and_failing_again(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    """Each time the broker comes back it takes three messages and hangs up: what waits behind them stays."""
    await broker.stop()
    async with running(Gateway(settings_for(broker.port), site)) as gateway:
        client = raw_client(gateway.coap_port)
        await report(client, bubble_up, range(60))
        broker.verdict = lambda publish: -0x8B if len(broker.seen) % 4 == 3 else 0
        await broker.start()
        await until(lambda: len(broker.versions) >= 12)
        depth = gateway.status()["outbox"]["depth"]  # type: ignore[index]
        assert len(set(readings(broker))) + depth >= 60
        broker.verdict = lambda publish: 0
        await until(lambda: set(readings(broker)) == set(expected(60)))
        await until(lambda: gateway.status()["outbox"]["depth"] == 0)  # type: ignore[index]
        assert gateway.status()["losses"] == {}


async def test_forwarding_goes_on_after_a_long_outage(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    """Tried again and again for as long as it takes, by itself; and what comes in afterwards flows, too."""
    await broker.stop()
    async with running(Gateway(settings_for(broker.port), site)) as gateway:
        client = raw_client(gateway.coap_port)
        await report(client, bubble_up, range(30))
        await until(lambda: gateway.statistics.total(Event.BRIDGE, "failed") > 20)
        await broker.start()
        await until(lambda: readings(broker) == expected(30))
        await report(client, bubble_up, range(30, 60))
        await until(lambda: readings(broker) == expected(60))
        await until(lambda: gateway.status()["outbox"]["depth"] == 0)  # type: ignore[index]


async def test_a_relay_that_hangs_up_does_not_cost_the_session(
    site: Site, settings_for: Any, running: Any, broker: ScriptedBroker
) -> None:
    """The broker behind it is away: going down to 3.1.1 for that would end the MQTT 5 session, and exact QoS 2."""
    for _ in range(2):
        async with running(Gateway(settings_for(broker.port), site)) as gateway:
            await until(lambda: is_connected(gateway))
    broker.versions.clear()
    broker.welcome = lambda: None
    hung_up, broker._answer = broker._answer, lambda packet, writer, version: False  # type: ignore[method-assign]
    async with running(Gateway(settings_for(broker.port), site)) as gateway:
        await until(lambda: gateway.statistics.total(Event.BRIDGE, "failed") >= 6)
        broker.welcome, broker._answer = lambda: 0, hung_up  # type: ignore[method-assign]
        await until(lambda: is_connected(gateway))
    bridges = [
        v
        for v, name in zip(broker.versions, broker.client_ids[-len(broker.versions) :], strict=True)
        if "bridge" in name
    ]
    assert bridges == [5]


async def test_a_broker_that_has_forgotten_mqtt_5_is_found_out(
    site: Site, settings_for: Any, running: Any, broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.reconnecting._DOUBTS", 3)
    async with running(Gateway(settings_for(broker.port), site)) as gateway:
        await until(lambda: is_connected(gateway))
    inner = broker._answer
    broker._answer = lambda packet, writer, version: (
        version is not ProtocolVersion.V5 and inner(packet, writer, version)
    )  # type: ignore[method-assign]
    async with running(Gateway(settings_for(broker.port), site)) as gateway:
        await until(lambda: is_connected(gateway))


async def test_a_full_buffer_is_told_to_the_nic_and_drops_nothing(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    broker.welcome = lambda: 0x88
    settings = settings_for(broker.port, outbox={"max_octets": 4096, "segment_octets": 1024, "retry_after_s": 7})
    async with running(Gateway(settings, site)) as gateway:
        client = raw_client(gateway.coap_port)
        stored = 0
        while True:
            client.send(encode(bubble_up(observe=stored, mid=stored, payload=b"%06d" % stored)))
            answer = await client.receive()
            if answer.code != codes.CHANGED:
                break
            stored += 1
        assert answer.code == codes.SERVICE_UNAVAILABLE and answer.uint(14) == 7
        broker.welcome = lambda: 0
        await until(lambda: readings(broker) == expected(stored))
        client.send(encode(bubble_up(observe=stored, mid=0x7000, payload=b"%06d" % stored)))
        assert (await client.receive()).code == codes.CHANGED, "the NIC has kept it and comes again"
        await until(lambda: readings(broker) == expected(stored + 1))
