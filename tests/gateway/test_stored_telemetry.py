"""Readings that come while no service runs are stored: in a queue for whoever comes, in a topic for each service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest
from embedded_broker import embedded_broker
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from patience import PATIENCE_S

from broker.addresses.address import Address, AddressType
from broker.server import Broker
from gateway.gateway import Gateway
from meshwire.coap import codes, encode
from meshwire.identity import Role, TenantId
from meshwire.site import Site

READINGS = [b"reading-%d" % number for number in range(6)]
SERVICES = ("dashboard", "learning")


def services_at(broker: Broker, site: Site) -> Callable[[str], aiomqtt.Client]:
    """Clients of acme that may read, by name; their sessions outlive their connections."""
    token = site.signing_keys().issue(TenantId("acme"), (Role.BUBBLE_UP_READ_CONSUMER,), now=time.time())
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 600

    def service(name: str) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            broker.ports[0],
            identifier=name,
            username="notused",
            password=token,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
        )

    return service


async def report(gateway: Gateway, nic: Any, bubble_up: Any) -> None:
    """All readings, until the broker has them."""
    for number, payload in enumerate(READINGS, 1):
        nic.send(encode(bubble_up(observe=number, mid=number, payload=payload)))
        assert (await nic.receive()).code == codes.CHANGED, "taken, though nobody listens"
    async with asyncio.timeout(PATIENCE_S):
        while gateway.status()["outbox"]["depth"]:  # type: ignore[index] # noqa: ASYNC110 - the bridge's doing
            await asyncio.sleep(0.01)


async def take(client: aiomqtt.Client) -> list[object]:
    """As many as were reported."""
    async with asyncio.timeout(PATIENCE_S):
        return [(await anext(client.messages)).payload for _ in READINGS]


@pytest.mark.parametrize("kind", [AddressType.QUEUE, AddressType.TOPIC], ids=str)
async def test_readings_wait_for_services_that_are_away(
    kind: AddressType, site: Site, settings_for: Any, running: Any, connect_to: Any, bubble_up: Any
) -> None:
    telemetry = Address(tenant="acme", name="telemetry", type=kind, filter="read/#")
    async with (
        embedded_broker(site, telemetry) as broker,
        running(Gateway(settings_for(broker.ports[0]), site)) as gateway,
    ):
        service = services_at(broker, site)
        if kind is AddressType.TOPIC:
            for name in SERVICES:
                async with service(name) as client:
                    await client.subscribe("acme/read/#", 1)
        await report(gateway, connect_to(gateway), bubble_up)
        if kind is AddressType.QUEUE:
            async with service("whoever") as client:
                await client.subscribe("acme/read/#", 1)
                assert await take(client) == READINGS
        else:
            for name in SERVICES:
                async with service(name) as client:
                    assert await take(client) == READINGS, name
