"""Commands over MQTT, with mosquitto as the broker and aiomqtt as the client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import pytest
from command_parts import ACME, FOREIGN_MAC, MAC, order, party
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from patience import PATIENCE_S
from udp_nic import UdpNic, closing

from gateway.addresses import Address
from gateway.commands.mqtt_channel import is_own_response_topic
from gateway.gateway import Gateway
from gateway.statistics import Event
from meshwire.site import Site

pytestmark = pytest.mark.server

BODY: dict[str, Any] = {"method": "PUT", "path": "snsr/arduino/temp?cfg=C", "mode": "stored", "ttl": 60}


class Client:
    """A command client of tenant acme: it orders, and gathers what it hears."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.heard: list[tuple[str, dict[str, Any], Any]] = []

    async def order(self, id: str, body: object = BODY, mac: Any = MAC, **properties: Any) -> None:
        made = Properties(PacketTypes.PUBLISH)
        retain = properties.pop("retain", False)
        for name, value in properties.items():
            setattr(made, name, value)
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self._client.publish(f"acme/cmd/{mac}/req/{id}", payload, 1, retain, properties=made)

    async def until_final(self, count: int = 1, seconds: float = PATIENCE_S) -> list[dict[str, Any]]:
        """What is heard until so many final events have come."""
        async with asyncio.timeout(seconds):
            while sum(document["final"] for _, document, _ in self.heard) < count:
                await self.next()
        return [document for _, document, _ in self.heard]

    async def next(self, seconds: float = PATIENCE_S) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            message = await anext(self._client.messages)
        assert isinstance(message.payload, bytes)
        self.heard.append((str(message.topic), json.loads(message.payload), message.properties))
        return self.heard[-1][1]


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any, mosquitto: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(broker_port=mosquitto.port), site)) as gateway:
        yield gateway


@pytest.fixture
async def nic(gateway: Gateway) -> AsyncIterator[UdpNic]:
    nic = UdpNic()
    await nic.open()
    with closing(nic):
        yield nic


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as inner:
        await inner.subscribe("+/cmd/+/res/+", 1)
        await inner.subscribe("acme/read/#", 1)
        client = Client(inner)
        await until_heard(client)
        yield client


async def until_heard(client: Client) -> None:
    """Orders go nowhere until the gateway has subscribed; one that is refused is answered and leaves nothing."""
    async with asyncio.timeout(PATIENCE_S):
        while not client.heard:
            await client.order("probe", b"{}")
            with contextlib.suppress(TimeoutError):
                await client.next(0.3)
        # Answers to several probes may be under way; this one's is the last.
        await client.order("last-probe", b"{}")
        while (await wait_for(client, "failed"))["id"] != "last-probe":
            pass
    client.heard.clear()


@pytest.fixture
async def client(gateway: Gateway, mosquitto: Any) -> AsyncIterator[Client]:
    async with connected(mosquitto.port) as client:
        yield client


def appear(gateway: Gateway, nic: UdpNic) -> None:
    gateway.registry.registered(MAC, Address("127.0.0.1", nic.port), time.time(), 60.0)


async def test_a_command_and_its_life_on_the_response_topic(gateway: Gateway, nic: UdpNic, client: Client) -> None:
    await client.order("my-1")
    await wait_for(client, "queued")
    appear(gateway, nic)
    await wait_for(client, "answered")
    events = [document for topic, document, _ in client.heard if topic == f"acme/cmd/{MAC}/res/my-1"]
    assert [event["event"] for event in events] == ["accepted", "queued", "sent", "delivered", "answered"]
    assert [event["number"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["final"] for event in events] == [False, False, False, False, True]
    assert (events[-1]["code"], events[-1]["payload"], events[-1]["success"]) == ("2.04", "did it", True)
    assert all((event["id"], event["device"]) == ("my-1", MAC.value) for event in events)
    assert client.heard[0][2].ContentType == "application/json"
    assert nic.executed[0][0].query() == ("cfg=C",)


async def wait_for(client: Client, event: str) -> dict[str, Any]:
    while True:
        document = await client.next()
        if document.get("event") == event:
            return document


async def test_response_topic_and_correlation_data(gateway: Gateway, nic: UdpNic, client: Client) -> None:
    appear(gateway, nic)
    topic = "acme/cmd/my-app/res/inbox"
    await client.order("my-2", ResponseTopic=topic, CorrelationData=b"\0x")
    async with asyncio.timeout(PATIENCE_S):
        while sum(document["final"] for _, document, _ in client.heard) < 2:
            await client.next()
    places = {where for where, _, _ in client.heard}
    assert places == {topic, f"acme/cmd/{MAC}/res/my-2"}
    assert all(properties.CorrelationData == b"\0x" for _, _, properties in client.heard)


@pytest.mark.parametrize(
    "topic", ["other/cmd/x/res/1", "acme/read/x/y", f"acme/cmd/{MAC}/req/loop", "acme/cmd/x/res", "$SYS/x", "acme"]
)
async def test_a_response_topic_elsewhere_is_refused(gateway: Gateway, client: Client, topic: str) -> None:
    await client.order("my-3", ResponseTopic=topic)
    event = await wait_for(client, "failed")
    assert event["final"] and "response topic" in event["reason"]
    assert len(gateway._commands.queue) == 0  # type: ignore[union-attr]
    assert {where for where, _, _ in client.heard} == {f"acme/cmd/{MAC}/res/my-3"}


def test_which_response_topics_are_the_tenants() -> None:
    assert is_own_response_topic("acme/cmd/x/res/1", ACME)
    for topic in ("acme/cmd/+/res/1", "acme/cmd/x/res/#", "other/cmd/x/res/1", "acme/cmd/x/res/1/2", ""):
        assert not is_own_response_topic(topic, ACME), topic


async def test_message_expiry_is_a_ttl(gateway: Gateway, client: Client) -> None:
    body = {key: value for key, value in BODY.items() if key != "ttl"}
    await client.order("a", body, MessageExpiryInterval=50)
    await client.order("b", BODY | {"ttl": 5}, MessageExpiryInterval=50)
    await client.order("c", body)
    await client.order("d", BODY, MessageExpiryInterval=1)
    async with asyncio.timeout(PATIENCE_S):
        while {document["id"] for _, document, _ in client.heard if document.get("final")} < {"c", "d"}:
            try:
                await client.next(3.0)
            except TimeoutError:
                await client.order("d", BODY, MessageExpiryInterval=1)  # its second was over before it was here
    lives = {d["id"]: d["expires"] - d["time"] for _, d, _ in client.heard if d["event"] == "accepted"}
    assert 45 < lives["a"] <= 50 and 4 < lives["b"] <= 5 and 0 < lives["d"] <= 1
    ends = {d["id"]: (d["event"], d.get("reason", "")) for _, d, _ in client.heard if d["final"]}
    assert ends["d"] == ("expired", "") and ends["c"][0] == "failed" and "ttl" in ends["c"][1]


async def test_unknown_equals_foreign(gateway: Gateway, client: Client) -> None:
    answers = []
    for number, mac in enumerate((FOREIGN_MAC, "0000000000000001")):
        await client.order(f"x{number}", mac=mac)
        event = await wait_for(client, "failed")
        answers.append({key: value for key, value in event.items() if key not in ("id", "device", "time")})
    assert answers[0] == answers[1] and "no such device" in answers[0]["reason"]


async def test_the_same_id_is_taken_once_and_told_again(gateway: Gateway, nic: UdpNic, client: Client) -> None:
    appear(gateway, nic)
    await client.order("once", BODY | {"mode": "direct", "ttl": None})
    await wait_for(client, "answered")
    await client.order("once", BODY | {"mode": "direct", "ttl": None})
    again = await wait_for(client, "answered")
    assert again["number"] == client.heard[-2][1]["number"]
    await client.order("once", BODY | {"path": "something/else"})
    assert "another command" in (await wait_for(client, "failed"))["reason"]
    assert len(nic.executed) == 1


async def test_an_order_that_is_published_again_at_once_is_no_second_one(
    gateway: Gateway, nic: UdpNic, client: Client
) -> None:
    appear(gateway, nic)
    for _ in range(5):
        await client.order("again")
    await wait_for(client, "answered")
    await client.order("fence", b"{}")
    while (await wait_for(client, "failed"))["id"] != "fence":
        pass
    assert [document["event"] for _, document, _ in client.heard if document["id"] == "again"].count("failed") == 0
    assert len(nic.executed) == 1


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", json.dumps(BODY | {"id": "else"}).encode(), b'{"a":"' + b"x" * 20_000 + b'"}']
)
async def test_a_body_that_is_no_order_is_answered(gateway: Gateway, client: Client, body: bytes) -> None:
    await client.order("bad", body)
    assert (await wait_for(client, "failed"))["final"]


async def test_retained_orders_and_odd_ids_are_not_taken(
    gateway: Gateway, client: Client, mosquitto: Any, running: Any, settings_for: Any, tmp_path: Any
) -> None:
    await client.order("kept", retain=True)
    await wait_for(client, "queued")
    await client.order("a b")
    await client.order("fence", b"{}")
    await wait_for(client, "failed")
    assert [each.key.id for each in gateway._commands.queue.waiting(MAC)] == ["kept"]  # type: ignore[union-attr]
    # Another gateway that subscribes now gets the retained one, and it is none of its business.
    async with running(Gateway(settings_for(broker_port=mosquitto.port), Site(tmp_path / "second"))) as second:
        async with asyncio.timeout(PATIENCE_S):
            while not second.statistics.total(Event.COMMAND, "dropped"):  # noqa: ASYNC110 - a counter tells no events
                await asyncio.sleep(0.01)
        assert len(second._commands.queue) == 0


async def test_events_that_the_broker_missed_are_told_when_it_is_back(
    gateway: Gateway, nic: UdpNic, mosquitto: Any, client: Client
) -> None:
    await mosquitto.kill()
    desk = gateway._commands.desk  # type: ignore[union-attr]
    appear(gateway, nic)
    submission = await desk.submit(order(id="meanwhile"), MAC, party(), "http")
    async for _ in desk.follow(submission.command):
        pass
    await mosquitto.start()
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as inner:
        await inner.subscribe(f"acme/cmd/{MAC}/res/meanwhile", 1)
        late = Client(inner)
        heard = await late.until_final()
    assert [event["event"] for event in heard] == ["accepted", "queued", "sent", "delivered", "answered"]
