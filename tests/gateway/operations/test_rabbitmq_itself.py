"""RabbitMQ of Debian with the management plugin as our configuration has it: a connection, and its end; the load that
the rule for scaling looks at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import pytest
from free_ports import free_port
from patience import PATIENCE_S

from broker.adapters.errors import EngineError
from broker.adapters.rabbitmq import nodes
from broker.adapters.rabbitmq.load import read_load
from broker.adapters.rabbitmq.node import LaunchedNode
from broker.adapters.rabbitmq.nodes import PrivateCluster
from broker.adapters.rabbitmq.scaling import Load
from broker.attack.embedded import PASSWORD as USERS_PASSWORD
from broker.attack.embedded import make_users
from broker.attack.external import running_authority
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings
from broker.settings import BrokerSettings
from gateway.operations.desk import Page
from gateway.operations.rabbitmq import RabbitMQDesk
from meshwire.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.server]

PASSWORD = "a-long-password"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[tuple[RabbitMQDesk, LaunchedNode]]:
    if nodes.server_program() is None:
        pytest.skip("RabbitMQ is not installed")
    cluster = PrivateCluster(tmp_path / "rabbit", "http://127.0.0.1:1/nobody-decides", management=True)
    await asyncio.to_thread(cluster.start)
    (node,) = cluster.nodes
    try:
        for command in (
            ("add_user", "console", PASSWORD),
            ("set_user_tags", "console", "administrator"),
            ("set_permissions", "console", ".*", ".*", ".*"),
        ):
            await asyncio.to_thread(cluster._tool, "rabbitmqctl", node, *command)
        yield RabbitMQDesk(f"http://127.0.0.1:{node.management_port}", "console", lambda: PASSWORD), node
    finally:
        await asyncio.to_thread(cluster.stop)


async def seen(desk: RabbitMQDesk, count: int) -> Page:
    """The list, when it has so many; it lags by up to 5 s."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        page = await desk.clients(None, "")
        if page.total == count and all(each.client == "meter-7" for each in page.clients):
            return page
        await asyncio.sleep(0.2)
    raise AssertionError(f"not {count} connections: {page}")


async def is_told(node: LaunchedNode, condition: Callable[[Load, int], bool], meter: aiomqtt.Client) -> None:
    """The load becomes so while the meter publishes; it lags by up to 5 s."""
    url = f"http://127.0.0.1:{node.management_port}"
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for _ in range(10):
            await meter.publish("acme/read/x", b"1", qos=1)
        load, nodes = await asyncio.to_thread(read_load, url, "console", PASSWORD)
        if condition(load, nodes):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(load)


async def test_a_connection_is_shown_and_ended(desk: tuple[RabbitMQDesk, LaunchedNode]) -> None:
    rabbit, node = desk
    listeners = {each.kind: each.port for each in await rabbit.listeners()}
    assert listeners == {"mqtt": node.mqtt_port, "ws": node.web_mqtt_port}
    async with aiomqtt.Client(
        "127.0.0.1",
        node.mqtt_port,
        username="console",
        password=PASSWORD,
        identifier="meter-7",
        protocol=aiomqtt.ProtocolVersion.V311,
    ) as meter:
        (client,) = (await seen(rabbit, 1)).clients
        assert (client.user, client.version, client.listener, client.protection, client.address) == (
            "console",
            "3.1.1",
            "mqtt",
            "plain",
            "127.0.0.1",
        )
        assert client.since > 1e9
        await is_told(node, lambda load, nodes: (load.connections, nodes) == (1, 1) and 0 < load.memory < 1, meter)
        await is_told(node, lambda load, nodes: load.messages_per_s > 0, meter)
        await rabbit.kick(client)
        with pytest.raises(aiomqtt.MqttError):
            async with asyncio.timeout(PATIENCE_S):
                async for _ in meter.messages:
                    raise AssertionError("nothing was published")
    await seen(rabbit, 0)


async def test_users_of_the_authority_are_not_let_into_the_management_plugin(tmp_path: Path) -> None:
    if nodes.server_program() is None:
        pytest.skip("RabbitMQ is not installed")
    site = Site(tmp_path / "site")
    make_users(site.path("broker", "users.json"))
    port = free_port()
    url = f"http://127.0.0.1:{port}/{site.secret('broker-authority')}"
    cluster = PrivateCluster(tmp_path / "rabbit", url, management=True)
    async with running_authority(Authority(AuthoritySettings(port=port), BrokerSettings(), site=site)):
        await asyncio.to_thread(cluster.start)
        try:
            (node,) = cluster.nodes
            login = {"username": "gateway", "password": USERS_PASSWORD, "protocol": aiomqtt.ProtocolVersion.V311}
            async with aiomqtt.Client("127.0.0.1", node.mqtt_port, **login):
                pass  # the same user over MQTT
            management = f"http://127.0.0.1:{node.management_port}"
            for name in ("gateway", "victim", "guest"):
                password = "guest" if name == "guest" else USERS_PASSWORD
                with pytest.raises(EngineError, match="HTTP 401"):
                    await asyncio.to_thread(read_load, management, name, password)
        finally:
            await asyncio.to_thread(cluster.stop)
