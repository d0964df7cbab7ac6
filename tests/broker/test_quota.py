"""Plans of tenants and the bounds of the whole broker: who is above them is told why, and nobody else notices."""

import asyncio
from typing import Any

import pytest

from broker.settings import Limits
from broker.statistics import Drop
from broker.tenants import LONGEST_PAUSE_S, Plan, Tenant, Tenants
from meshwire.identity import TenantId
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    PubRec,
    Subscribe,
    TopicSubscription,
    Will,
)

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
MAC = "001350050047dd92"
REQUEST, ANSWERS = f"acme/cmd/{MAC}/req/1", "acme/cmd/+/res/+"


def hello(running: Any, client_id: str, tenant: str = "acme", version: ProtocolVersion = V5, **more: Any) -> Connect:
    token = running.token(tenant, "COMMAND_CLIENT").encode()
    return Connect(client_id, version, username="x", password=token, **more)


# --- bookkeeping ------------------------------------------------------------------------------------------------------


def test_the_rate_is_a_bucket_of_one_second() -> None:
    tenant = Tenant(Plan(max_messages_per_s=10))
    assert tenant.pause_s(0.0) == 0.0
    for _ in range(10):
        tenant.published()
    assert tenant.pause_s(0.0) == 0.0
    for _ in range(5):
        tenant.published()
    assert tenant.pause_s(0.0) == pytest.approx(0.5)
    assert tenant.pause_s(0.5) == pytest.approx(0.0)
    for _ in range(1_000):
        tenant.published()
    assert tenant.pause_s(0.5) == LONGEST_PAUSE_S
    assert tenant.pause_s(200.0) == 0.0


def test_queues_are_counted_for_the_tenant_and_the_broker() -> None:
    tenants = Tenants(Plan(max_queued_messages=2), {"big": Plan(max_queued_octets=100)}, max_queued_octets=120)
    small, big = tenants.of("small"), tenants.of("big")
    assert tenants.of("small") is small
    small.queued(2, 20)
    assert small.refusal(1) is Drop.TENANT_QUEUE_FULL
    assert big.refusal(100) is None
    assert big.refusal(101) is Drop.TENANT_QUEUE_FULL
    big.queued(1, 99)
    assert (tenants.total.queued_messages, tenants.total.queued_octets) == (3, 119)
    assert tenants.of("third").refusal(2) is Drop.BROKER_FULL
    assert tenants.is_full
    small.queued(-2, -20)
    assert not tenants.is_full
    assert tenants.level == pytest.approx(99 / 120)


# --- through the door -------------------------------------------------------------------------------------------------


async def test_connections_above_the_plan_are_refused_with_the_reason(start: Any, dial: Any) -> None:
    running = await start(plan={"acme": Plan(max_connections=2)})
    first, second = await dial(running), await dial(running)
    for number, client in enumerate((first, second)):
        assert (await client.ask(hello(running, f"c{number}"))).reason_code == 0
    refused = await (await dial(running)).ask(hello(running, "c2"))
    assert refused == ConnAck(False, 0x97, Properties(reason_string="the tenant's plan allows 2 connections"))
    old = await dial(running, V311)
    assert await old.ask(hello(running, "c3", version=V311)) == ConnAck(False, 3)
    small = hello(running, "c3", properties=Properties(maximum_packet_size=30))
    assert await (await dial(running)).ask(small) == ConnAck(False, 0x97), "the code without the words"
    assert (await (await dial(running)).ask(hello(running, "c2", "other"))).reason_code == 0
    again = await dial(running)
    assert (await again.ask(hello(running, "c1"))).reason_code == 0, "taking over is no further connection"
    await first.close()
    await again.ask(PingReq())
    assert (await (await dial(running)).ask(hello(running, "c4"))).reason_code == 0
    assert running.broker.statistics.logins_refused == {"connections-above-plan": 3}
    assert running.broker.engine.tenants.of("acme").connections == 2


async def test_payloads_above_the_plan_are_refused_with_the_reason(start: Any, dial: Any) -> None:
    running = await start(default_plan=Plan(max_payload_octets=10))
    client = await dial(running)
    await client.ask(hello(running, "c"))
    words = Properties(reason_string="payload of 11 octets, the tenant's plan allows 10")
    assert await client.ask(Publish(REQUEST, b"x" * 11, 1, packet_id=1)) == PubAck(1, 0x97, words)
    assert await client.ask(Publish(REQUEST, b"x" * 11, 2, packet_id=2)) == PubRec(2, 0x97, words)
    client.send(Publish(REQUEST, b"x" * 11))
    assert (await client.ask(Publish(REQUEST, b"x" * 10, 1, packet_id=3))).reason_code == 0x10
    old = await dial(running, V311)
    await old.ask(hello(running, "o", version=V311))
    assert await old.ask(Publish(REQUEST, b"x" * 11, 1, packet_id=1)) == PubAck(1)
    assert running.broker.statistics.drops[Drop.PAYLOAD_ABOVE_PLAN] == 4
    will = Will(REQUEST, b"x" * 11)
    refused = await (await dial(running)).ask(hello(running, "w", will=will))
    assert (refused.reason_code, running.broker.statistics.logins_refused) == (0x97, {"will-above-plan": 1})


async def test_the_queues_of_a_tenant_are_bounded_together(start: Any, dial: Any, eventually: Any) -> None:
    running = await start(plan={"acme": Plan(max_queued_messages=5)})
    for name in ("a", "b"):
        away = await dial(running)
        await away.ask(hello(running, name, properties=Properties(session_expiry_interval=60)))
        await away.ask(Subscribe(1, (TopicSubscription(ANSWERS, 1),)))
        await away.close()
    gateway = await dial(running)
    await gateway.ask(Connect("g", V5, username="gateway", password=running.gateway_password.encode()))
    await eventually(lambda: running.broker.statistics.clients_connected == 1)
    for number in range(1, 5):
        await gateway.ask(Publish(f"acme/cmd/{MAC}/res/{number}", b"x", 1, packet_id=number))
    assert running.broker.statistics.drops == {Drop.TENANT_QUEUE_FULL: 3}
    account = running.broker.engine.tenants.of("acme")
    assert account.queued_messages == 5
    back = await dial(running)
    resume = Properties(session_expiry_interval=60)
    await back.ask(hello(running, "a", clean_start=False, properties=resume))
    for _ in range(3):
        assert isinstance(await back.next(), Publish)
    assert account.queued_messages == 2


async def test_a_publisher_above_its_rate_is_read_more_slowly_and_loses_nothing(
    start: Any, dial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(plan={"acme": Plan(max_messages_per_s=200)})
    client = await dial(running)
    await client.ask(hello(running, "fast", keep_alive=1))
    begin = asyncio.get_running_loop().time()
    client.send(*[Publish(REQUEST, b"x", 1, packet_id=number) for number in range(1, 301)])
    client.send(PingReq())
    for _ in range(300):
        assert isinstance(await client.next(), PubAck)
    assert await client.next() == PingResp()
    assert asyncio.get_running_loop().time() - begin > 0.3
    assert running.broker.statistics.pauses >= 1
    assert TenantId("acme")


async def test_others_are_not_slowed_by_a_publisher_above_its_rate(start: Any, dial: Any) -> None:
    running = await start(plan={"acme": Plan(max_messages_per_s=1)})
    client, other = await dial(running), await dial(running)
    await client.ask(hello(running, "fast"))
    await other.ask(hello(running, "else", "other"))
    client.send(*[Publish(REQUEST, b"x", 1, packet_id=number) for number in range(1, 301)])
    await client.next()
    assert await other.ask(PingReq()) == PingResp()
    assert sum(running.broker.statistics.messages_received) < 300, "minutes before it is heard to its end"


async def test_one_segment_of_many_messages_is_no_way_around_the_rate(start: Any, dial: Any) -> None:
    running = await start(plan={"acme": Plan(max_messages_per_s=20)})
    clients = [await dial(running), await dial(running)]
    for number, client in enumerate(clients):
        await client.ask(hello(running, f"c{number}"))
    clients[0].send(*[Publish(REQUEST, b"x", 1, packet_id=number) for number in range(1, 1_001)])
    begin = asyncio.get_running_loop().time()
    for _ in range(30):
        assert isinstance(await clients[0].next(), PubAck)
    passed_s = asyncio.get_running_loop().time() - begin
    assert sum(running.broker.statistics.messages_received) <= 21 + 20 * passed_s, "a second's worth at once, no more"
    clients[1].send(Publish(REQUEST, b"x", 1, packet_id=1))
    assert isinstance(await clients[1].next(), PubAck), "others of the tenant have their turn"


async def test_a_client_that_leaves_ahead_of_its_rate_is_heard_to_its_end(
    start: Any, dial: Any, eventually: Any
) -> None:
    running = await start(plan={"acme": Plan(max_messages_per_s=20)})
    client = await dial(running)
    await client.ask(hello(running, "c"))
    client.send(*[Publish(REQUEST, b"x") for _ in range(26)], Disconnect())
    await eventually(lambda: not running.broker.statistics.clients_connected)
    assert sum(running.broker.statistics.messages_received) == 26
    assert running.broker.statistics.protocol_errors == {}
    await eventually(lambda: not running.broker._connections)


async def test_full_queues_of_the_broker_slow_publishers_down(start: Any, join: Any, eventually: Any) -> None:
    running = await start(limits=Limits(max_total_queued_octets=100))
    away = await join(running, Connect("away", V5, properties=Properties(session_expiry_interval=60)))
    await away.ask(Subscribe(1, (TopicSubscription("t", 1),)))
    await away.close()
    await eventually(lambda: not running.broker.statistics.clients_connected)
    publisher = await join(running, Connect("p", V5))
    for number in range(1, 4):
        await publisher.ask(Publish("t", b"x" * 99, 1, packet_id=number))
    assert running.broker.statistics.drops == {Drop.BROKER_FULL: 2}
    assert running.broker.statistics.pauses >= 1


async def test_publishers_wait_for_a_store_that_is_behind(start: Any, join: Any, eventually: Any) -> None:
    running = await start(durability="os", limits=Limits(max_uncommitted_octets=1_000))
    away = await join(running, Connect("away", V5, properties=Properties(session_expiry_interval=60)))
    await away.ask(Subscribe(1, (TopicSubscription("t", 1),)))
    await away.close()
    publisher = await join(running, Connect("p", V5))
    publisher.send(*[Publish("t", b"x" * 99, 1, packet_id=number) for number in range(1, 1_001)])
    for _ in range(1_000):
        assert isinstance(await publisher.next(), PubAck)
    assert running.broker.statistics.pauses >= 1
