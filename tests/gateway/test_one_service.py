"""Readings, logs and device management of a device share one messaging service; what is ordered there is executed."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiomqtt
from embedded_broker import embedded_broker
from patience import PATIENCE_S
from udp_nic import UdpNic, closing

from gateway.addresses import Address
from gateway.gateway import Gateway
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site

MAC = "001350050047dc9a"
TEMPERATURE, LOG = f"acme/read/{MAC}/temp", f"acme/read/{MAC}/log"
REBOOT = f"acme/cmd/{MAC}/res/reboot"


async def test_readings_logs_and_device_management_share_one_service(
    site: Site, settings_for: Any, running: Any, connect_to: Any, bubble_up: Any
) -> None:
    async with embedded_broker(site) as broker, running(Gateway(settings_for(broker.ports[0]), site)) as gateway:
        roles = [Role.BUBBLE_UP_READ_CONSUMER, Role.COMMAND_CLIENT]
        token = site.signing_keys().issue(TenantId("acme"), roles, now=time.time())
        where = {"username": "notused", "password": token, "protocol": aiomqtt.ProtocolVersion.V5}
        device = UdpNic()
        await device.open()
        with closing(device):
            async with aiomqtt.Client("127.0.0.1", broker.ports[0], **where) as office, asyncio.timeout(PATIENCE_S):
                await office.subscribe([("acme/read/#", 1), ("acme/cmd/+/res/+", 1)])
                nic = connect_to(gateway)
                nic.send(encode(bubble_up(observe=1, mid=1)))
                nic.send(encode(bubble_up(observe=1, mid=2, path="sys/log", payload=b"watchdog: restarted")))
                assert {(await nic.receive()).code for _ in range(2)} == {codes.CHANGED}
                # Commands go where it was heard last: to a socket that takes them from anybody.
                gateway.registry.registered(DeviceId(MAC), Address("127.0.0.1", device.port), time.time(), 60.0)
                order = {"method": "POST", "path": "sys/reboot", "mode": "stored", "ttl": 60}
                heard: dict[str, bytes] = {}
                events: list[str] = []
                while heard.keys() != {TEMPERATURE, LOG} or "answered" not in events:
                    if not events:
                        # Repeated with its id until the gateway listens; it is taken once.
                        await office.publish(f"acme/cmd/{MAC}/req/reboot", json.dumps(order), 1)
                    try:
                        async with asyncio.timeout(0.5):
                            message = await anext(office.messages)
                    except TimeoutError:
                        continue
                    assert isinstance(message.payload, bytes)
                    if str(message.topic) == REBOOT:
                        events.append(json.loads(message.payload)["event"])
                    else:
                        heard[str(message.topic)] = message.payload
    assert heard[LOG] == b"watchdog: restarted"
    assert [request.path() for request, _ in device.executed] == [("sys", "reboot")]
