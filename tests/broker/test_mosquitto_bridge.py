"""Debian's mosquitto as a bridge to this broker, as those use it who have one already."""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port

from meshwire.mqtt import Connect, ProtocolVersion, Publish, Subscribe, TopicSubscription

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed"),
]

CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
connection here
address 127.0.0.1:{broker_port}
remote_username admin
remote_password admin-password
bridge_protocol_version {version}
notifications false
topic # both 1
"""


class AtMosquitto:
    """The port of a client's connection there, where `Running` is the broker's."""

    def __init__(self, port: int) -> None:
        self.port = port


async def heard(client: Any, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        packet = await client.next()
        if isinstance(packet, Publish):
            found.append(packet.payload)
    return found


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv50"])
async def test_each_message_crosses_the_bridge_once(
    running: Any, join: Any, eventually: Any, tmp_path: Path, version: str
) -> None:
    port = free_port()
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(CONFIGURATION.format(port=port, broker_port=running.port, version=version))
    mosquitto = await asyncio.create_subprocess_exec("mosquitto", "-c", configuration, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await eventually(lambda: len(running.broker.engine.subscriptions.tree) == 1)
        here = await join(running, Connect("here", ProtocolVersion.V5))
        there = await join(AtMosquitto(port), Connect("there", ProtocolVersion.V5))
        for client in (here, there):
            await client.ask(Subscribe(1, (TopicSubscription("+/x", 1, True),)))
        here.send(Publish("down/x", b"1", 1, packet_id=1))
        there.send(Publish("up/x", b"2", 1, packet_id=1), Publish("up/x", b"3", 1, packet_id=2))
        assert await heard(here, 2) == [b"2", b"3"]
        here.send(Publish("down/x", b"4", 1, packet_id=2))  # an echo would be in front of it
        assert await heard(there, 2) == [b"1", b"4"]
    finally:
        mosquitto.terminate()
        await mosquitto.wait()
