"""Messages over HTTP go in the caller's name: rights, tenants, bounds and ends are those of MQTT."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from message_site import RECEIVER, SENDER, Client, Place
from patience import PATIENCE_S

from broker.settings import Plan
from gateway.gateway import Gateway
from gateway.settings import MessageSettings
from meshwire.coap import encode
from meshwire.identity import Role

pytestmark = pytest.mark.server


async def refused(client: Client, method: str, path: str, **query: object) -> tuple[int, str]:
    answer = await client.ask(method, path, *(["-d", "x"] if method == "POST" else []), **query)
    return answer.status, answer.body.get("code", "")


async def test_rights_are_those_of_the_token_at_the_broker(place: Place) -> None:
    denied = (403, "MW-MSH-003")
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    assert await refused(sender, "GET", "/api/messages", address="a-queue") == denied
    assert await refused(receiver, "POST", "/api/messages", address="a-queue") == denied
    assert await refused(sender, "POST", "/api/messages", topic="other/address/x") == denied
    assert await refused(receiver, "GET", "/api/messages", filter="+/address/#") == denied
    assert await refused(receiver, "GET", "/api/messages/events", filter="#") == denied
    for admin in (place.client(), place.client(Role.ADMIN), place.client(Role.GATEWAY, tenant="ssni")):
        assert await refused(admin, "POST", "/api/messages", topic="acme/read/001350050047dc9a/temp") == denied
        assert await refused(admin, "GET", "/api/messages", filter="acme/#") == denied
    nobody = Client(sender.base, "")
    assert await refused(nobody, "POST", "/api/messages", address="a-queue") == (401, "")
    expired = place.client(SENDER, ttl_s=-10)
    assert await refused(expired, "POST", "/api/messages", address="a-queue") == (401, "")


async def test_what_does_not_fit_is_told(place: Place) -> None:
    client = place.client(SENDER, RECEIVER)
    unfit = (422, "MW-MSH-001")
    assert await refused(client, "POST", "/api/messages") == unfit
    assert await refused(client, "POST", "/api/messages", topic="a", address="b") == unfit
    assert await refused(client, "POST", "/api/messages", topic="acme/#") == unfit
    assert await refused(client, "GET", "/api/messages", filter="acme/#/x") == unfit
    assert await refused(client, "POST", "/api/messages", address="a-queue", qos=2) == (422, "")
    assert await refused(client, "GET", "/api/consumers/nothing/messages") == (404, "MW-MSH-007")
    answer = await client.ask(
        "POST", "/api/consumers", "-H", "Content-Type: application/json", "-d", '{"address":"a-queue","keep":9}'
    )
    assert (answer.status, answer.body["code"]) == unfit


async def test_a_consumer_is_its_token_s_own(place: Place) -> None:
    client = place.client(RECEIVER)
    id = await client.open(address="a-queue")
    for other in (place.client(RECEIVER), place.client(RECEIVER, tenant="other")):
        assert await refused(other, "GET", f"/api/consumers/{id}/messages", wait=0) == (404, "MW-MSH-007")
        assert (await other.settle(id, accepted=[1])).status == 404
        assert (await other.ask("DELETE", f"/api/consumers/{id}")).status == 404
    assert (await client.ask("DELETE", f"/api/consumers/{id}")).status == 204


async def test_events_of_a_consumer_go_on_where_they_were(place: Place) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    id = await receiver.open(address="a-queue")
    for number in range(3):
        await sender.publish(str(number), address="a-queue")
    async with asyncio.timeout(PATIENCE_S):
        async with receiver.stream(f"/api/consumers/{id}/events") as events:
            assert [(await anext(events))["data"]["payload"] for _ in range(2)] == ["0", "1"]
        async with receiver.stream(f"/api/consumers/{id}/events", "-H", "Last-Event-ID: 2") as events:
            assert (await anext(events))["data"]["payload"] == "2"
            assert (await receiver.settle(id, accepted=[1, 2, 3])).body == {"settled": 3}
            assert (await receiver.ask("DELETE", f"/api/consumers/{id}")).status == 204
            assert (await anext(events))["event"] == "end"


async def test_bounds_are_the_plan_s_and_the_gateway_s(make_place: Any) -> None:
    plan = {"acme": Plan(max_connections=2, max_queued_messages=1)}
    async with make_place(MessageSettings(max_consumers_per_tenant=1), plan=plan) as place:
        sender, receiver = place.client(SENDER), place.client(RECEIVER)
        assert (await sender.publish("one", address="a-queue")).status == 200
        assert await refused(sender, "POST", "/api/messages", address="a-queue") == (429, "MW-MSH-005")
        id = await receiver.open(address="a-queue")
        assert await refused(receiver, "GET", "/api/messages", address="a-queue") == (429, "MW-MSH-005")
        other = place.client(SENDER)
        assert await refused(other, "POST", "/api/messages", address="a-topic") == (429, "MW-MSH-005"), "connections"
        assert (await receiver.ask("DELETE", f"/api/consumers/{id}")).status == 204
        assert (await other.publish("x", address="a-topic")).status in (200, 503)


async def test_a_consumer_that_nobody_uses_ends_and_its_messages_go_back(make_place: Any) -> None:
    async with make_place(MessageSettings(idle_s=0.2)) as place:
        sender, receiver = place.client(SENDER), place.client(RECEIVER)
        await sender.publish("kept", address="a-queue")
        id = await receiver.open(address="a-queue")
        await place.receivers("a-queue", 0)
        assert await refused(receiver, "GET", f"/api/consumers/{id}/messages") == (404, "MW-MSH-007")
        assert [each["payload"] for each in await receiver.take(address="a-queue")] == ["kept"]


async def test_readings_over_http(place: Place, connect_to: Any, bubble_up: Any) -> None:
    reader = place.client(Role.BUBBLE_UP_READ_CONSUMER)
    async with asyncio.timeout(PATIENCE_S), reader.stream("/api/messages/events", filter="acme/read/#") as events:
        nic = connect_to(place.gateway)
        first = asyncio.create_task(anext(events))
        number = 0
        while not first.done():  # the subscription stands in a moment
            number += 1
            nic.send(encode(bubble_up(observe=number, mid=number)))
            await nic.receive()
            await asyncio.wait({first}, timeout=0.2)
        reading = first.result()["data"]
    assert reading["topic"] == "acme/read/001350050047dc9a/temp" and reading["payloadHex"].startswith("a200")
    assert ["device", "001350050047dc9a"] in reading["userProperties"]


async def test_without_a_broker_everything_says_so(site: Any, settings_for: Any, running: Any) -> None:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        client = Client(f"http://127.0.0.1:{gateway.http_port}", Place(None, gateway, site).token(SENDER))  # type: ignore[arg-type]
        assert await refused(client, "POST", "/api/messages", address="a") == (503, "MW-MSH-002")
