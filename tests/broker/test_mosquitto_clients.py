"""Debian's mosquitto_sub and mosquitto_pub as foreign clients."""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any

import pytest

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        shutil.which("mosquitto_sub") is None or shutil.which("mosquitto_pub") is None,
        reason="mosquitto-clients is not installed",
    ),
]

MAC = "001350050047dd92"
PATIENCE_S = "60"


def common(running: Any, user: str, password: str, version: str) -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(running.port), "-u", user, "-P", password, "-V", version]


async def subscriber(running: Any, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("mosquitto_sub", "-W", PATIENCE_S, *arguments, stdout=PIPE, stderr=PIPE)


async def publish(running: Any, version: str, *arguments: str) -> int:
    who = common(running, "gateway", running.gateway_password, version)
    process = await asyncio.create_subprocess_exec("mosquitto_pub", *who, *arguments, stdout=DEVNULL, stderr=DEVNULL)
    return await process.wait()


async def subscribed(running: Any, eventually: Any, count: int) -> None:
    await eventually(lambda: len(running.broker.engine.subscriptions.tree) == count)


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
async def test_a_token_reads_its_tenants_readings(running: Any, eventually: Any, version: str, qos: str) -> None:
    who = common(running, "notused", running.token("acme", "BUBBLE_UP_READ_CONSUMER"), version)
    reader = await subscriber(running, *who, "-t", "acme/read/#", "-q", qos, "-C", "2", "-F", "%t %q %p")
    await subscribed(running, eventually, 1)
    assert await publish(running, version, "-t", f"other/read/{MAC}/temp", "-q", qos, "-m", "not yours") == 0
    for text in ("21.5", "22.0"):
        assert await publish(running, version, "-t", f"acme/read/{MAC}/temp", "-q", qos, "-m", text) == 0
    out, _ = await reader.communicate()
    assert out.decode().splitlines() == [f"acme/read/{MAC}/temp {qos} {text}" for text in ("21.5", "22.0")]
    assert reader.returncode == 0


async def test_a_password_client_of_the_internal_tenant(running: Any, eventually: Any) -> None:
    reader = await subscriber(
        running, *common(running, "admin", "admin-password", "mqttv311"), "-t", "+/alert/#", "-C", "1", "-F", "%t"
    )
    await subscribed(running, eventually, 1)
    await publish(running, "mqttv5", "-t", f"acme/alert/{MAC}/temp", "-q", "1", "-m", "x")
    out, _ = await reader.communicate()
    assert out.decode().strip() == f"acme/alert/{MAC}/temp"


async def test_refusals_are_said_by_the_client(running: Any) -> None:
    reader = await subscriber(running, *common(running, "notused", "no token", "mqttv311"), "-t", "a")
    _, error = await reader.communicate()
    assert reader.returncode != 0
    assert b"not authorised" in error or b"bad user name" in error.lower()
    who = common(running, "notused", running.token("acme", "BUBBLE_UP_READ_CONSUMER"), "mqttv5")
    reader = await subscriber(running, *who, "-t", "other/read/#")
    _, error = await reader.communicate()
    assert b"denied" in error.lower()


async def test_user_properties_and_content_type_pass_through(running: Any, eventually: Any) -> None:
    who = common(running, "admin", "admin-password", "mqttv5")
    reader = await subscriber(running, *who, "-t", "acme/read/#", "-C", "1", "-F", "%C %P %p")
    await subscribed(running, eventually, 1)
    properties = ["-D", "publish", "content-type", "application/cbor", "-D", "publish", "user-property", "device", MAC]
    await publish(running, "mqttv5", "-t", f"acme/read/{MAC}/temp", "-m", "x", *properties)
    out, _ = await reader.communicate()
    assert out.decode().strip() == f"application/cbor device:{MAC} x"


async def test_a_will_of_a_killed_client(running: Any, eventually: Any) -> None:
    who = common(running, "admin", "admin-password", "mqttv311")
    reader = await subscriber(running, *who, "-t", "w/#", "-C", "1")
    await subscribed(running, eventually, 1)
    victim = await subscriber(running, *who, "-t", "nothing", "--will-topic", "w/x", "--will-payload", "gone")
    await subscribed(running, eventually, 2)
    victim.kill()
    await victim.wait()
    out, _ = await reader.communicate()
    assert out == b"gone\n"


async def test_an_offline_queue_of_a_persistent_session(running: Any) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER")
    who = [*common(running, "notused", token, "mqttv311"), "-i", "keeper", "-c", "-q", "1", "-t", "acme/read/#"]
    first = await subscriber(running, *who, "-E")
    assert await first.wait() == 0
    for number in range(5):
        await publish(running, "mqttv311", "-t", f"acme/read/{MAC}/temp", "-q", "1", "-m", str(number))
    second = await subscriber(running, *who, "-C", "5")
    out, _ = await second.communicate()
    assert out.decode().split() == ["0", "1", "2", "3", "4"]
