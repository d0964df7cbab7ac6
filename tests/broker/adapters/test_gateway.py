"""The gateway at brokers of others: by configuration alone, nothing lost, presence told."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from patience import PATIENCE_S

from broker.adapters.mosquitto.process import server_program as mosquitto_program
from broker.adapters.rabbitmq.nodes import server_program as rabbitmq_program
from broker.attack.arena import Arena
from broker.attack.embedded import PASSWORD, VICTIM, embedded_target
from broker.attack.external import mosquitto_target, rabbitmq_target
from broker.attack.target import Target
from gateway.gateway import Gateway
from gateway.settings import BridgeSettings, GatewaySettings
from meshwire.coap import CON, Message, codes, decode, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification, uplink_request
from meshwire.site import Site

pytestmark = pytest.mark.server
MAC = DeviceId("001350050047dc9a")
COUNT = 30
Start = Callable[[Path], AbstractAsyncContextManager[Target]]


@asynccontextmanager
async def gateway_at(target: Target, folder: Path) -> AsyncIterator[Gateway]:
    place = (target.service and target.service.address) or target.address
    (folder / "password").write_text(PASSWORD)
    bridge = BridgeSettings(host=place.host, port=place.port, password_file=folder / "password")
    gateway = Gateway(GatewaySettings(listen=["127.0.0.1"], port=0, http="", bridge=bridge), Site(folder / "gateway"))
    gateway.registry.add_device(MAC, TenantId(VICTIM))
    task = asyncio.create_task(gateway.run())
    await asyncio.wait({task, asyncio.ensure_future(gateway.ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield gateway
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def send(port: int, number: int) -> None:
    """One notification of a NIC, taken by the gateway."""
    loop = asyncio.get_running_loop()
    payload = f"reading-{number:04}".encode()
    notification = Notification(MAC, "snsr/arduino/temp", number, 1, options.OCTET_STREAM, payload, 1_700_000_000.0)
    segments, queries = uplink_request(notification)
    pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
    pairs += [(options.URI_QUERY, query.encode()) for query in queries]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.setblocking(False)
        plug.connect(("127.0.0.1", port))
        plug.send(encode(Message(CON, codes.POST, 1_000 + number, b"t", tuple(pairs), payload)))
        async with asyncio.timeout(PATIENCE_S):
            answer = decode(await loop.sock_recv(plug, 4_096))
    assert answer.code == codes.CHANGED, answer


async def readings_arrive(target: Target, folder: Path) -> None:
    topic = f"{VICTIM}/read/{MAC}/temp"
    async with Arena(target).victim_ear() as ear, gateway_at(target, folder) as gateway:
        for number in range(1, COUNT + 1):
            await send(gateway.coap_port, number)
        assert await ear.until(f"reading-{COUNT:04}".encode(), PATIENCE_S)
        assert await ear.until(b"online", PATIENCE_S)
    readings = [packet.payload.decode() for packet in ear.heard if packet.topic == topic]
    assert readings == [f"reading-{number:04}" for number in range(1, COUNT + 1)]
    assert f"{VICTIM}/presence/{MAC}" in {packet.topic for packet in ear.heard}


async def test_at_our_own_broker(tmp_path: Path) -> None:
    async with embedded_target(tmp_path / "broker") as target:
        await readings_arrive(target, tmp_path)


@pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
async def test_at_mosquitto(tmp_path: Path) -> None:
    async with mosquitto_target(tmp_path / "broker") as target:
        await readings_arrive(target, tmp_path)


@pytest.mark.skipif(rabbitmq_program() is None, reason="rabbitmq-server is not installed")
async def test_at_rabbitmq(tmp_path: Path) -> None:
    """It does not speak MQTT 5: the gateway finds out and speaks 3.1.1."""
    async with rabbitmq_target(tmp_path / "broker") as target:
        await readings_arrive(target, tmp_path)
