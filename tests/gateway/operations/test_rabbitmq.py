"""RabbitMQ asked by its management API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from patience import PATIENCE_S
from rabbit_management import Management, managing

from gateway.operations.errors import NotOffered, NotReached, RequestRefused
from gateway.operations.rabbitmq import REASON, RabbitMQDesk


@pytest.fixture
def management() -> Iterator[Management]:
    with managing() as server:
        yield server


@pytest.fixture
async def desk(management: Management) -> AsyncIterator[RabbitMQDesk]:
    yield RabbitMQDesk(f"http://127.0.0.1:{management.server_port}", "op", lambda: "secret")


async def test_mqtt_connections_are_told_with_what_waits_for_them(desk: RabbitMQDesk) -> None:
    page = await desk.clients(None, "")
    assert page.total == 2, "AMQP has no part in it"
    another, meter = page.clients
    assert (meter.client, meter.version, meter.listener, meter.protection, meter.queued) == (
        "meter-7",
        "3.1.1",
        "mqtt",
        "plain",
        4,
    )
    assert (another.listener, another.protection, another.since, another.queued) == (
        "mqtts",
        "mutual",
        1_700_000_005.0,
        0,
    )
    assert meter.received is None and meter.subscription_count is None and meter.tenant is None
    assert [each.client for each in (await desk.clients(None, "METER")).clients] == ["meter-7"]


async def test_whose_a_connection_is_it_does_not_know(desk: RabbitMQDesk) -> None:
    with pytest.raises(NotOffered, match="does not tell whose tenant"):
        await desk.clients("acme", "")


async def test_a_connection_is_ended_with_a_reason(desk: RabbitMQDesk, management: Management) -> None:
    another, meter = (await desk.clients(None, "")).clients
    await desk.kick(meter)
    assert management.deleted == [("/api/connections/127.0.0.1%3A40000%20-%3E%20127.0.0.1%3A1883", REASON)]
    with pytest.raises(RequestRefused, match="no such connection"):
        await desk.kick(another)


async def test_listeners_of_mqtt(desk: RabbitMQDesk) -> None:
    assert [(each.kind, each.port) for each in await desk.listeners()] == [("mqtt", 1883), ("ws", 15675)]


async def test_what_can_not_be_had_is_said(desk: RabbitMQDesk, management: Management) -> None:
    for asked in (desk.topics("acme", ""), desk.addresses(None), desk.plan("acme"), desk.browse("acme", "x", 0, 1)):
        with pytest.raises(NotOffered, match=r"^rabbitmq .*MW-OPS-003"):
            await asked
    wrong = RabbitMQDesk(f"http://127.0.0.1:{management.server_port}", "op", lambda: "wrong")
    with pytest.raises(NotReached, match="HTTP 401"):
        await wrong.clients(None, "")
    nowhere = RabbitMQDesk("http://127.0.0.1:1", "op", lambda: "secret")
    with pytest.raises(NotReached, match="can't be reached"):
        await asyncio.wait_for(nowhere.listeners(), PATIENCE_S)
