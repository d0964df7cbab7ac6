"""Foreign clients: aiomqtt and paho-mqtt, 3.1, 3.1.1 and 5.0."""

import asyncio
import threading
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from patience import PATIENCE_S

MAC = "001350050047dd92"
HOST = "127.0.0.1"


def gateway(running: Any, **more: Any) -> aiomqtt.Client:
    return aiomqtt.Client(HOST, running.port, username="gateway", password=running.gateway_password, **more)


def consumer(running: Any, tenant: str, *roles: str, **more: Any) -> aiomqtt.Client:
    return aiomqtt.Client(HOST, running.port, username="notused", password=running.token(tenant, *roles), **more)


async def take(client: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    found: list[aiomqtt.Message] = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in client.messages:
            found.append(message)
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize(
    "version", [aiomqtt.ProtocolVersion.V31, aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5]
)
async def test_readings_reach_the_tenant_at_every_qos(running: Any, version: aiomqtt.ProtocolVersion) -> None:
    async with (
        consumer(running, "acme", "BUBBLE_UP_READ_CONSUMER", protocol=version, identifier="c") as client,
        consumer(running, "other", "BUBBLE_UP_READ_CONSUMER", protocol=version, identifier="c") as stranger,
        gateway(running, protocol=version) as publisher,
    ):
        await client.subscribe("acme/read/#", qos=2)
        await stranger.subscribe("other/read/#", qos=2)
        for qos in range(3):
            await publisher.publish(f"acme/read/{MAC}/temp", bytes((qos, 0xFF)), qos=qos)
        await publisher.publish(f"other/read/{MAC}/temp", b"other", qos=1)
        messages = await take(client, 3)
        assert [(message.payload, message.qos) for message in messages] == [
            (b"\0\xff", 0),
            (b"\1\xff", 1),
            (b"\2\xff", 2),
        ]
        assert [message.payload for message in await take(stranger, 1)] == [b"other"]


async def test_mqtt_5_consumers_get_content_type_and_user_properties(running: Any) -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/cbor"
    properties.UserProperty = [("device", MAC), ("key", "a/b/c")]
    version = aiomqtt.ProtocolVersion.V5
    async with (
        consumer(running, "acme", "BUBBLE_UP_ALERT_CONSUMER", protocol=version) as client,
        gateway(running, protocol=version) as publisher,
    ):
        await client.subscribe("acme/alert/+/+", qos=1)
        await publisher.publish(f"acme/alert/{MAC}/temp", b"x", qos=1, properties=properties)
        (message,) = await take(client, 1)
        assert message.properties is not None
        assert message.properties.ContentType == "application/cbor"
        assert message.properties.UserProperty == [("device", MAC), ("key", "a/b/c")]


async def test_retained_presence_waits_for_late_comers(running: Any) -> None:
    async with gateway(running) as publisher:
        await publisher.publish(f"acme/presence/{MAC}", b"online", qos=1, retain=True)
    async with consumer(running, "acme", "PRESENCE_CONSUMER") as client:
        await client.subscribe("acme/presence/#", qos=1)
        (message,) = await take(client, 1)
        assert (message.payload, message.retain) == (b"online", True)


async def test_wrong_passwords_and_foreign_filters_are_refused(running: Any) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client(HOST, running.port, username="gateway", password="wrong"):
            pass
    async with consumer(running, "acme", "BUBBLE_UP_READ_CONSUMER", protocol=aiomqtt.ProtocolVersion.V5) as client:
        codes = await client.subscribe("other/read/#", qos=1)
        assert [code.value for code in codes] == [0x87]
    async with consumer(running, "acme", "BUBBLE_UP_READ_CONSUMER") as client:
        codes = await client.subscribe("other/read/#", qos=1)
        assert [code.value for code in codes] == [0x80]


async def test_a_persistent_session_of_aiomqtt_gets_what_it_missed(running: Any) -> None:
    def member() -> aiomqtt.Client:
        return consumer(running, "acme", "BUBBLE_UP_READ_CONSUMER", identifier="keep", clean_session=False)

    async with member() as client:
        await client.subscribe("acme/read/#", qos=1)
    async with gateway(running) as publisher:
        for number in range(20):
            await publisher.publish(f"acme/read/{MAC}/temp", b"%d" % number, qos=1)
    async with member() as client:
        assert [message.payload for message in await take(client, 20)] == [b"%d" % number for number in range(20)]


async def test_a_threaded_paho_client_connects_and_receives(running: Any) -> None:
    received, connected = threading.Event(), threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="paho", protocol=paho.MQTTv311)
    client.username_pw_set("notused", running.token("acme", "COMMAND_CLIENT"))
    client.will_set(f"acme/cmd/{MAC}/req/bye", b"x", qos=1)

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        assert not reason.is_failure
        client.subscribe("acme/cmd/+/res/+", qos=2)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: connected.set()
    client.on_message = lambda *_: received.set()
    await asyncio.to_thread(client.connect, HOST, running.port, 3)
    client.loop_start()
    try:
        assert await asyncio.to_thread(connected.wait, 5)
        async with gateway(running) as publisher:
            await publisher.publish(f"acme/cmd/{MAC}/res/1", b"done", qos=2)
        assert await asyncio.to_thread(received.wait, 5)
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
