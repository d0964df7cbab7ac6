"""An administrator, the gateway's HTTP API, and a broker that is an instance: it appears; assign, un-assign."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from console_site import serving
from patience import PATIENCE_S

from broker.server import Broker
from broker.settings import BrokerSettings, InstanceSettings, ListenerSettings
from gateway.gateway import Gateway
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from gateway.settings import BridgeSettings, GatewaySettings
from meshwire.identity import Role, TenantId
from meshwire.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_two_brokers_are_one_instance(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its account is served by both, and un-assigning holds at both."""
    monkeypatch.setattr("broker.server.TICK_S", 0.05)
    token = site.signing_keys().issue(TenantId("acme"), (Role.BUBBLE_UP_READ_CONSUMER,), now=time.time())

    def node(name: str) -> Broker:
        settings = BrokerSettings(
            listener=(ListenerSettings(port=0),),
            instance=InstanceSettings(name="main", node=name),
            durability="memory",
            store_file=site.path("broker", f"{name}.db"),
        )
        return Broker(settings, site=site)

    async def is_let_in(broker: Broker) -> bool:
        try:
            async with aiomqtt.Client("127.0.0.1", broker.ports[0], username="notused", password=token):
                return True
        except aiomqtt.MqttError:
            return False

    async def until(wanted: bool, broker: Broker) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await is_let_in(broker) is not wanted:  # noqa: ASYNC110 - brokers look at their next tick
                await asyncio.sleep(0.02)

    one, two = node("one"), node("two")
    service = MessagingService(Registry(None), site)
    async with serving(one), serving(two):
        async with asyncio.timeout(PATIENCE_S):
            while [len(state.nodes) for state in service.instance_states()] != [2]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        service.keep()
        service.add_account(TenantId("acme"))
        assert not await is_let_in(one) and not await is_let_in(two)
        service.assign("acme", "main")
        await until(True, one)
        await until(True, two)
        service.unassign("acme")
        await until(False, one)
        await until(False, two)


async def test_un_assigned_is_out_and_assigned_is_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.server.TICK_S", 0.05)
    monkeypatch.setattr("gateway.gateway.HOUSEKEEPING_S", 0.1)
    listener = ListenerSettings(port=0)
    broker = Broker(
        BrokerSettings(listener=(listener,), instance=InstanceSettings(name="main", node="one"), durability="memory"),
        site=site,
    )
    async with serving(broker):
        mqtt_port = broker.ports[0]
        bridge = BridgeSettings(port=mqtt_port)
        gateway = Gateway(GatewaySettings(port=0, http="127.0.0.1:0", bridge=bridge), site)
        async with serving(gateway):
            keys = site.signing_keys()
            admin = keys.issue(TenantId("ssni"), (), now=time.time(), scope="api admin", client="cli:ann")
            token = keys.issue(TenantId("acme"), (Role.BUBBLE_UP_READ_CONSUMER,), now=time.time())

            def call(method: str, path: str, body: object = None) -> Any:
                connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=PATIENCE_S)
                headers = {"Authorization": admin, "Content-Type": "application/json"}
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                response = connection.getresponse()
                octets = response.read()
                connection.close()
                assert response.status < 300, octets
                return json.loads(octets)

            async def ask(method: str, path: str, body: object = None) -> Any:
                return await asyncio.to_thread(call, method, path, body)

            def client() -> aiomqtt.Client:
                return aiomqtt.Client(
                    "127.0.0.1", mqtt_port, username="notused", password=token, protocol=aiomqtt.ProtocolVersion.V5
                )

            async def is_let_in() -> bool:
                try:
                    async with client():
                        return True
                except aiomqtt.MqttError:
                    return False

            async def until_let_in() -> None:
                async with asyncio.timeout(PATIENCE_S):
                    while not await is_let_in():  # noqa: ASYNC110 - only a connection tells
                        await asyncio.sleep(0.01)

            instances = (await ask("GET", "/api/messaging/instances"))["instances"]
            assert [(each["name"], each["state"]) for each in instances] == [("main", "running")]
            await ask("POST", "/api/accounts", {"id": "acme"})
            assert not await is_let_in(), "not assigned"
            await ask("PUT", "/api/accounts/acme/assignment", {"instance": "main"})
            await until_let_in()
            with pytest.raises(aiomqtt.MqttError):
                async with client() as subscriber:
                    await subscriber.subscribe("acme/read/#")
                    await ask("DELETE", "/api/accounts/acme/assignment")
                    async with asyncio.timeout(PATIENCE_S):
                        async for _ in subscriber.messages:
                            raise AssertionError("nothing was published")
            assert not await is_let_in()
            status = await ask("GET", "/api/status")
            assert status["bridge"]["connected"], "the gateway itself is served all the while"
            lines = (await ask("GET", "/api/audit?tenant=acme&action=account."))["entries"]
            assert [(line["action"], line["by"]) for line in lines] == [
                ("account.unassign", "cli:ann"),
                ("account.assign", "cli:ann"),
                ("account.add", "cli:ann"),
            ]
