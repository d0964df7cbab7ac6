"""The AsyncAPI document against a site at work: every channel carries what it says, and nothing travels elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import aiomqtt
import cbor2
import jsonschema_rs
from embedded_broker import ADMIN, ADMIN_PASSWORD, embedded_broker
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from patience import PATIENCE_S

from broker.addresses.address import Address, AddressType
from gateway.gateway import Gateway
from gateway.settings import BridgeSettings, CategoryRule, MessageRule
from meshwire.coap import CON, Message, codes, encode, options
from meshwire.identity import Role, TenantId
from meshwire.site import Site
from meshwire.topics import (
    ADDRESS_CONTROL_REPLY_TOPIC,
    ADDRESS_CONTROL_TOPIC,
    BROKER_CONTROL_REPLY_TOPIC,
    BROKER_CONTROL_TOPIC,
)

MAC = "001350050047dc9a"
ALARM = cbor2.dumps({0: "ncmth1", 1: "12345"})
TEXT = b"21.5"


class Judge:
    """Holds messages against the document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.seen: set[tuple[str, str]] = set()
        """Channels with the kind of message that came there."""

    def documented(self) -> set[tuple[str, str]]:
        return {(name, kind) for name, channel in self._document["channels"].items() for kind in channel["messages"]}

    def judge(self, topic: str, payload: bytes, content_type: str | None, properties: dict[str, str]) -> None:
        name = self._channel(topic)
        fits = [
            kind for kind in self._document["channels"][name]["messages"] if self._fits(kind, payload, content_type)
        ]
        assert fits, f"{topic} ({name}): no message of the channel is like {payload!r}, {content_type}"
        self.seen.add((name, fits[0]))
        headers = self._document["components"]["messages"][fits[0]].get("headers")
        if headers is not None:
            jsonschema_rs.validate(headers, properties)

    def _channel(self, topic: str) -> str:
        channels = self._document["channels"].items()
        names = [name for name, each in channels if _pattern(each["address"]).fullmatch(topic)]
        assert len(names) == 1, f"{topic} is documented {len(names)} times"
        return names[0]

    def _fits(self, kind: str, payload: bytes, content_type: str | None) -> bool:
        message = self._document["components"]["messages"][kind]
        described = message["contentType"]
        value: Any = payload.decode("latin-1")
        try:
            if described == "application/cbor":
                record = cbor2.loads(payload)
                value = {str(key): item for key, item in record.items()} if isinstance(record, dict) else record
            elif described.endswith("json"):
                value = json.loads(payload)
        except (ValueError, cbor2.CBORDecodeError):
            return False
        if described not in ("application/octet-stream", "text/plain") and content_type not in (described, None):
            return False
        return bool(jsonschema_rs.is_valid(message["payload"], value))


def _pattern(address: str) -> re.Pattern[str]:
    levels = {"mac": "[0-9a-f]{16}", "tenant": "[A-Za-z0-9_-]{1,64}", "figure": ".+", "reply": ".+", "address": ".+"}
    parts = re.split(r"\{(\w+)\}", address)
    return re.compile(
        "".join(levels.get(part, "[^/]+") if at % 2 else re.escape(part) for at, part in enumerate(parts))
    )


async def test_a_site_at_work(
    site: Site, settings_for: Callable[..., Any], running: Any, connect_to: Any, bubble_up: Callable[..., Message]
) -> None:
    orders = Address(tenant="acme", name="orders", type=AddressType.QUEUE)
    rules = [MessageRule(type="temp", decoded=True)]
    categories = {"ncmth1": CategoryRule.ALERT}
    async with embedded_broker(site, orders, sys_interval_s=1.0) as broker:
        bridge = BridgeSettings(port=broker.ports[0], rules=rules, categories=categories)
        gateway = Gateway(settings_for(bridge=bridge, http="127.0.0.1:0"), site)
        connection = aiomqtt.Client(
            "127.0.0.1", broker.ports[0], username=ADMIN, password=ADMIN_PASSWORD, protocol=aiomqtt.ProtocolVersion.V5
        )
        async with connection as admin:
            for topic_filter in ("#", "$SYS/#", ADDRESS_CONTROL_REPLY_TOPIC, BROKER_CONTROL_REPLY_TOPIC):
                await admin.subscribe(topic_filter, 1)
            async with running(gateway):
                judge = Judge(await served(gateway))
                work = asyncio.create_task(provoke(gateway, site, connect_to(gateway), bubble_up, admin, judge))
                async with asyncio.timeout(PATIENCE_S):
                    await hear(admin, judge, lambda: judge.seen == judge.documented() and work.done())
                await work
            async with asyncio.timeout(PATIENCE_S):  # its farewell
                await hear(admin, judge, lambda: True)


async def served(gateway: Gateway) -> dict[str, Any]:
    url = f"http://127.0.0.1:{gateway.http_port}/api/asyncapi.json"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=PATIENCE_S).read())
    document: dict[str, Any] = json.loads(text)
    return document


async def hear(admin: aiomqtt.Client, judge: Judge, is_enough: Callable[[], bool]) -> None:
    async for message in admin.messages:
        assert isinstance(message.payload, bytes)
        properties = message.properties
        judge.judge(
            str(message.topic),
            message.payload,
            getattr(properties, "ContentType", None),
            dict(getattr(properties, "UserProperty", [])),
        )
        if is_enough():
            return


async def provoke(
    gateway: Gateway, site: Site, nic: Any, bubble_up: Callable[..., Message], admin: aiomqtt.Client, judge: Judge
) -> None:
    """Let everything happen that makes a site publish."""
    told = [each for each in bubble_up(observe=3).options if each[0] != options.CONTENT_FORMAT]
    for message in (
        bubble_up(observe=1, mid=1),
        bubble_up(observe=2, payload=ALARM, mid=2),
        Message(CON, codes.POST, 3, b"up", tuple(told), TEXT),
        bubble_up(observe=5, payload=TEXT, path="snsr/arduino/ncmth1", mid=5),
        bubble_up(observe=4, payload=b"\xff\x00 no record", mid=4),
    ):
        nic.send(encode(message))
        assert (await nic.receive()).code == codes.CHANGED
    body = json.dumps({"method": "GET", "path": "snsr/arduino/temp"}).encode()
    await admin.publish(f"acme/cmd/{MAC}/req/one", body, 1)
    await admin.publish(f"acme/cmd/{MAC}/req/two", b'{"method": "DANCE", "path": "x"}', 1)
    await admin.publish("acme/address/orders", b"anything", 1)
    await admin.publish("acme/reply/desk-1", b"done", 1)
    for topic, command in ((ADDRESS_CONTROL_TOPIC, "list"), (BROKER_CONTROL_TOPIC, "connections")):
        request = json.dumps({"command": command}).encode()
        judge.judge(topic, request, None, {})  # nobody may listen there
        await admin.publish(topic, request, 1, properties=Properties(PacketTypes.PUBLISH))
    token = site.signing_keys().issue(TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time())
    await asyncio.to_thread(stored_command, f"http://127.0.0.1:{gateway.http_port}", token)


def stored_command(base: str, token: str) -> None:
    order = {"method": "PUT", "path": "x", "mode": "stored", "ttl": 60, "id": "three"}
    request = urllib.request.Request(
        f"{base}/api/solutions/x/devices/{MAC}/commands",
        json.dumps(order).encode(),
        {"Authorization": token, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 202
