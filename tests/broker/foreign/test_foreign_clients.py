"""Clients that others wrote, each in a process of its own: paho-mqtt, aiomqtt, MQTT.js from npm, and Mosquitto's.

Each gets the same jobs: connect, subscribe, publish, wait for messages, leave (or hang, to be killed). Mosquitto's
clients, which do one thing each, have more tests in test_mosquitto_clients.py.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from meshwire.mqtt import Connect, ProtocolVersion, PubAck, Publish, Subscribe, TopicSubscription

HERE = Path(__file__).parent
NPM_S = 120
pytestmark = pytest.mark.server
VERSIONS = pytest.mark.parametrize("version", [4, 5], ids=["3.1.1", "5.0"])


@pytest.fixture(scope="session")
def mqttjs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """MQTT.js in a folder of its own."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node is not installed")
    command = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--prefix", str(folder), "mqtt@5"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=NPM_S)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("npm can't obtain mqtt")
    return {"NODE_PATH": str(folder / "node_modules")}


COMMANDS = {
    "paho": [sys.executable, str(HERE / "paho_client.py")],
    "aiomqtt": [sys.executable, str(HERE / "aiomqtt_client.py")],
    "mqttjs": ["node", str(HERE / "mqttjs_client.js")],
}


class Foreign:
    """A client program."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self._environment = os.environ | environment

    async def start(self, running: Any, version: int, **job: Any) -> asyncio.subprocess.Process:
        whole = {
            "port": running.port,
            "version": version,
            "clientId": f"{self.name}-{version}",
            "username": "admin",
            "password": "admin-password",
            "clean": True,
            "subscribe": [],
            "publish": [],
            "expect": 0,
        } | job
        process = await asyncio.create_subprocess_exec(
            *COMMANDS[self.name], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=self._environment
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(whole).encode() + b"\n")
        process.stdin.close()
        return process

    async def do(self, running: Any, version: int, **job: Any) -> dict[str, Any]:
        process = await self.start(running, version, **job)
        try:
            out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
        answer: dict[str, Any] = json.loads(out)
        return answer


@pytest.fixture(params=COMMANDS)
def client(request: pytest.FixtureRequest) -> Foreign:
    name = str(request.param)
    return Foreign(name, request.getfixturevalue("mqttjs") if name == "mqttjs" else {})


def message(topic: str, payload: str, qos: int, **rest: Any) -> dict[str, Any]:
    return {"topic": topic, "payload": payload, "qos": qos} | rest


@VERSIONS
async def test_every_qos_there_and_back(running: Any, client: Foreign, version: int) -> None:
    """Logged in with a password; large and empty payloads, and a topic beyond ASCII."""
    items = [message(f"t/é{qos}", text, qos) for qos in (0, 1, 2) for text in ("x" * 70_000, "", "21.5 °C")]
    answer = await client.do(running, version, subscribe=[["t/#", 2]], publish=items, expect=len(items))
    got = [{key: found[key] for key in ("topic", "payload", "qos")} for found in answer["messages"]]
    assert answer["granted"] == [2]
    by_topic = {name: [item for item in got if item["topic"] == name] for name in {item["topic"] for item in items}}
    assert by_topic == {name: [item for item in items if item["topic"] == name] for name in by_topic}


@VERSIONS
async def test_a_token_and_its_limits(running: Any, client: Foreign, version: int) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER")
    wanted = [["acme/read/#", 1], ["other/read/#", 1]]
    job = {"username": "notused", "password": token, "subscribe": wanted}
    answer = await client.do(running, version, **job)
    assert answer["granted"] == [1, 0x87 if version == 5 else 0x80]


@VERSIONS
async def test_a_wrong_password_is_understood(running: Any, client: Foreign, version: int) -> None:
    answer = await client.do(running, version, password="wrong")
    assert answer.get("refused")


@VERSIONS
async def test_retained_messages(running: Any, client: Foreign, version: int) -> None:
    kept = [message("r/a", "old", 1, retain=True), message("r/a", "new", 1, retain=True)]
    gone = [message("r/b", "gone", 1, retain=True), message("r/b", "", 1, retain=True)]
    await client.do(running, version, publish=kept + gone)
    answer = await client.do(running, version, subscribe=[["r/#", 1]], expect=1)
    [found] = answer["messages"]
    assert (found["topic"], found["payload"], found["retain"]) == ("r/a", "new", True)


@VERSIONS
async def test_the_will_of_a_killed_client(running: Any, join: Any, client: Foreign, version: int) -> None:
    watcher = await join(running, Connect("watcher", ProtocolVersion.V5))
    await watcher.ask(Subscribe(1, (TopicSubscription("w/#", 1),)))
    process = await client.start(running, version, will=message("w/x", "gone", 1), hang=True)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"hanging\n"
    process.kill()
    await process.wait()
    received = await watcher.next()
    assert (received.topic, received.payload, received.qos) == ("w/x", b"gone", 1)


@VERSIONS
async def test_a_session_is_resumed_with_what_was_missed(
    running: Any, join: Any, client: Foreign, version: int
) -> None:
    first = await client.do(running, version, clean=False, subscribe=[["s/#", 2]])
    assert not first.get("sessionPresent")
    sender = await join(running, Connect("sender", ProtocolVersion(version)))
    for number in range(5):
        answer = await sender.ask(Publish("s/a", b"%d" % number, 1, packet_id=number + 1))
        assert isinstance(answer, PubAck)
    second = await client.do(running, version, clean=False, expect=5)
    assert second.get("sessionPresent", True)
    assert [found["payload"] for found in second["messages"]] == list("01234")


async def test_properties_there_and_back(running: Any, client: Foreign) -> None:
    properties = {
        "contentType": "application/cbor",
        "responseTopic": "answers/here",
        "correlationData": "42",
        "payloadFormatIndicator": 1,
        "messageExpiryInterval": 100,
        "userProperties": [["device", "001350050047dd92"], ["path", "snsr/arduino/temp"], ["path", "again"]],
    }
    items = [message("p/a", "x", qos, properties=properties) for qos in (0, 1, 2)]
    answer = await client.do(running, 5, subscribe=[["p/#", 2]], publish=items, expect=3)
    assert len(answer["messages"]) == 3
    for found in answer["messages"]:
        life = found["properties"].pop("messageExpiryInterval")
        assert 98 <= life <= 100
        assert found["properties"] == {k: v for k, v in properties.items() if k != "messageExpiryInterval"}


# --- Mosquitto's clients ----------


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
async def test_mosquittos_clients_and_retained_messages(running: Any, version: str) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto-clients is not installed")
    who = ["-h", "127.0.0.1", "-p", str(running.port), "-u", "admin", "-P", "admin-password", "-V", version]
    for text in ("old", "new"):
        sent = await asyncio.create_subprocess_exec("mosquitto_pub", *who, "-t", "r/a", "-r", "-q", "2", "-m", text)
        assert await sent.wait() == 0
    reader = await asyncio.create_subprocess_exec(
        "mosquitto_sub", *who, "-W", "5", "-t", "r/#", "-q", "2", "-C", "1", "-F", "%t %r %q %p", stdout=PIPE
    )
    out, _ = await reader.communicate()
    assert out == b"r/a 1 2 new\n"
