"""Debian's RabbitMQ behind our authority: what the table of capabilities says of it, and sessions that end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from patience import PATIENCE_S

from broker.adapters.connection import BrokerAddress, MqttConnection
from broker.adapters.rabbitmq.nodes import PrivateCluster, free_ports, server_program
from broker.attack.embedded import make_users
from broker.attack.external import running_authority
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings
from broker.credentials import UsersFile
from broker.settings import BrokerSettings
from meshwire.identity import TenantId
from meshwire.mqtt import ConnAck, Connect, ProtocolVersion, PubAck, Publish, SubAck, Subscribe
from meshwire.mqtt import TopicSubscription as Wanted
from meshwire.site import Site

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(server_program() is None, reason="rabbitmq-server is not installed"),
]
V311 = ProtocolVersion.V3_1_1
PASSWORD = b"only-for-this-run"
SERVER_UNAVAILABLE = 3
TOPIC = "globex/read/001350050047dd92/temp"


@asynccontextmanager
async def running(folder: Path, size: int, bound: int) -> AsyncIterator[tuple[PrivateCluster, UsersFile]]:
    site = Site(folder / "site")
    users = make_users(site.path("broker", "users.json"))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{site.secret('broker-authority')}"
    cluster = PrivateCluster(folder / "rabbitmq", url, size, bound)
    place = {"rabbitmq": f"127.0.0.1:{cluster.nodes[-1].mqtt_port}"}
    settings = AuthoritySettings(port=port, check_interval_s=0.1, end_sessions_at=place)
    async with running_authority(Authority(settings, BrokerSettings(), site=site)):
        try:
            await asyncio.to_thread(cluster.start)
            yield cluster, users
        finally:
            await asyncio.to_thread(cluster.stop)


@asynccontextmanager
async def logged_in(
    port: int, user: str, client_id: str, *, clean: bool = True
) -> AsyncIterator[tuple[MqttConnection, ConnAck]]:
    async with MqttConnection(BrokerAddress("127.0.0.1", port), V311, timeout_s=PATIENCE_S) as connection:
        answer = await connection.login(Connect(client_id, V311, clean, username=user, password=PASSWORD))
        assert answer is not None
        yield connection, answer


@asynccontextmanager
async def back_again(port: int, user: str, client_id: str) -> AsyncIterator[tuple[MqttConnection, ConnAck]]:
    """While the nodes agree on the session's new leader, they answer "server unavailable" (3.1.1 section 3.2.2.3), or
    hang up: a client comes back later.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        async with MqttConnection(BrokerAddress("127.0.0.1", port), V311, timeout_s=PATIENCE_S) as connection:
            answer = await connection.login(Connect(client_id, V311, False, username=user, password=PASSWORD))
            if answer is not None and answer.reason_code != SERVER_UNAVAILABLE:
                yield connection, answer
                return
        await asyncio.sleep(0.5)
    raise AssertionError(f"no leader in {PATIENCE_S:g} s")


async def subscribe(connection: MqttConnection, qos: int = 1) -> int:
    connection.send(Subscribe(1, (Wanted("globex/read/#", qos),)))
    answer = await connection.receive()
    assert isinstance(answer, SubAck)
    return answer.reason_codes[0]


async def publish(port: int, payloads: range, qos: int = 1) -> None:
    """As the gateway, in a window of one."""
    async with logged_in(port, "gateway", "gw-1") as (gateway, _):
        for number in payloads:
            gateway.send(Publish(TOPIC, str(number).encode(), qos, packet_id=number + 1 if qos else 0))
            if qos:
                assert isinstance(await gateway.receive(), PubAck)
        await gateway.disconnect()


async def publish_across(port: int, payloads: range, attempts: int = 5) -> int:
    """The same across a change of the queue's leader, at which a node may end a publisher's connection: what was not
    acknowledged is sent again on a new one, which is QoS 1's way. Returns how many were sent more than once.
    """
    left = list(payloads)
    for attempt in range(attempts):
        async with logged_in(port, "gateway", "gw-1") as (gateway, _):
            while left:
                gateway.send(Publish(TOPIC, str(left[0]).encode(), 1, packet_id=left[0] + 1))
                if not isinstance(await gateway.receive(), PubAck):
                    break
                del left[0]
            else:
                await gateway.disconnect()
                return attempt
    raise AssertionError(f"{len(left)} of {len(payloads)} not acknowledged on {attempts} connections")


async def collect(connection: MqttConnection, count: int) -> list[int]:
    got: list[int] = []
    while len(got) < count:
        packet = await connection.receive()
        assert isinstance(packet, Publish), packet
        connection.send(PubAck(packet.packet_id))
        got.append(int(packet.payload))
    return got


async def test_one_node_keeps_the_policy(tmp_path: Path) -> None:
    """One boot, many looks: a node takes ten seconds to come up."""
    async with running(tmp_path, 1, bound=10) as (cluster, users):
        port = cluster.nodes[0].mqtt_port

        async with MqttConnection(
            BrokerAddress("127.0.0.1", port), ProtocolVersion.V5, timeout_s=PATIENCE_S
        ) as connection:
            refused = await connection.login(Connect("x", ProtocolVersion.V5, username="victim", password=PASSWORD))
            assert refused is None, "MQTT 5 is refused without a word that MQTT 5 knows"

        async with logged_in(port, "victim", "v1", clean=False) as (victim, answer):
            assert (answer.reason_code, answer.session_present) == (0, False)
            assert await subscribe(victim, qos=2) == 1, "QoS 2 is granted as QoS 1"
            await victim.disconnect()
        await publish(port, range(15))
        async with logged_in(port, "victim", "v1", clean=False) as (victim, answer):
            assert answer.session_present
            assert await collect(victim, 10) == list(range(5, 15)), "a full queue drops the oldest"
            await victim.disconnect()

        await publish(port, range(3))
        users.add("victim", PASSWORD.decode(), tenant=TenantId("globex"), roles=("COMMAND_CLIENT",))
        async with logged_in(port, "victim", "v1", clean=False) as (victim, answer):
            assert not answer.session_present, "who comes back with fewer rights finds no session"
            users.add("victim", PASSWORD.decode(), tenant=TenantId("globex"), roles=())
            assert await victim.receive() is None, "a revoked role ends the connection"

        async with logged_in(port, "attacker", "v1") as (_, answer):
            assert answer.reason_code != 0, "the client id is the other tenant's"


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_session_outlives_its_node(tmp_path: Path) -> None:
    async with running(tmp_path, 3, bound=50_000) as (cluster, _):
        first, second, third = cluster.nodes
        async with logged_in(second.mqtt_port, "victim", "v1", clean=False) as (victim, _answer):
            assert await subscribe(victim) == 1
            await victim.disconnect()
        assert await publish_across(first.mqtt_port, range(500)) == 0
        await asyncio.to_thread(cluster.kill, second)
        async with back_again(third.mqtt_port, "victim", "v1") as (victim, answer):
            assert answer.session_present
            assert await collect(victim, 500) == list(range(500))
            again = await publish_across(first.mqtt_port, range(500, 600))
            got = await collect(victim, 100)
            assert sorted(set(got)) == got or again, "in order; twice only where it was sent twice"
            while len(set(got)) < 100:
                got += await collect(victim, 1)
            assert set(got) == set(range(500, 600))
