"""A RabbitMQ cluster grows and shrinks while messages flow; and the rule by which one decides to do so."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from patience import PATIENCE_S
from process_site import wait_for
from rabbit_management import managing
from typer.testing import CliRunner

from broker.adapters.__main__ import app
from broker.adapters.connection import BrokerAddress, MqttConnection
from broker.adapters.errors import EngineError
from broker.adapters.rabbitmq.load import read_load
from broker.adapters.rabbitmq.node import LaunchedNode
from broker.adapters.rabbitmq.nodes import PrivateCluster, free_ports, server_program
from broker.adapters.rabbitmq.scaling import STATE, Load, ask_for_size, serve_sizes, wanted_nodes
from broker.attack.embedded import make_users
from broker.attack.external import running_authority
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings
from broker.settings import BrokerSettings
from meshwire.mqtt import Connect, ProtocolVersion, PubAck, Publish, SubAck, Subscribe
from meshwire.mqtt import TopicSubscription as Wanted
from meshwire.site import Site

V311 = ProtocolVersion.V3_1_1
PASSWORD = b"only-for-this-run"
TOPIC = "globex/read/001350050047dd92/temp"

RULE = [
    # messages/s, connections, memory, nodes, wanted
    (0, 0, 0.0, 1, 3),
    (0, 0, 0.0, 3, 3),
    (14_999, 100, 0.2, 3, 3),
    (15_001, 100, 0.2, 3, 4),
    (100, 30_001, 0.2, 3, 4),
    (100, 100, 0.71, 3, 4),
    (100, 100, 0.71, 7, 7),
    (10_000, 100, 0.2, 4, 4),
    (7_500, 100, 0.2, 4, 3),
    (7_501, 100, 0.2, 4, 4),
    (7_500, 100, 0.4, 4, 4),
    (90_000, 0, 0.0, 5, 6),
]


@pytest.mark.parametrize(("messages", "connections", "memory", "nodes", "wanted"), RULE)
def test_the_rule(messages: float, connections: int, memory: float, nodes: int, wanted: int) -> None:
    assert wanted_nodes(Load(messages, connections, memory), nodes) == wanted


def test_a_load_at_the_border_does_not_make_the_cluster_swing() -> None:
    for messages in range(0, 40_000, 250):
        for nodes in range(3, 8):
            load = Load(messages, 0)
            once = wanted_nodes(load, nodes)
            assert (wanted_nodes(load, once) - once) * (once - nodes) >= 0, (messages, nodes)


@dataclass
class FakeCluster:
    """Nodes without processes."""

    folder: Path
    nodes: list[LaunchedNode] = field(default_factory=list)

    def add_node(self) -> None:
        number = len(self.nodes) + 1
        if number > 5:
            raise EngineError("no more")
        self.nodes.append(LaunchedNode(f"n{number}", self.folder / f"n{number}", number, number, number))

    def remove_node(self, node: LaunchedNode) -> None:
        self.nodes.remove(node)


def test_the_load_is_asked_of_the_management_plugin(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    with managing() as server:
        url = f"http://127.0.0.1:{server.server_port}"
        assert read_load(url, "op", "secret") == (Load(16_000.0, 2_500, 0.4), 3)
        options = ["--username", "op", "--password-file", str(password)]
        done = CliRunner().invoke(app, ["advise", "--management", url, *options])
        assert (done.exit_code, done.output) == (0, "4\n")
        with pytest.raises(EngineError, match="does not tell its load"):
            read_load(url, "op", "wrong")
    with pytest.raises(EngineError, match="can't be reached"):
        read_load(url, "op", "secret")
    assert CliRunner().invoke(app, ["advise", "3"]).exit_code == 2


@contextmanager
def three_nodes(folder: Path) -> Iterator[FakeCluster]:
    """And whoever gives them another size."""
    cluster, stopped = FakeCluster(folder), threading.Event()
    for _ in range(3):
        cluster.add_node()
    thread = threading.Thread(target=serve_sizes, args=(cluster, stopped.wait))
    thread.start()
    try:
        wait_for(lambda: (folder / STATE).exists() or not thread.is_alive(), "sizes are served")
        yield cluster
    finally:
        stopped.set()
        thread.join()


def test_what_the_load_advises_is_done_by_two_commands(tmp_path: Path) -> None:
    """Thus a timer or an autoscaler does it, and nobody has to look."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    with managing() as server, three_nodes(tmp_path) as cluster:
        asked = ["--management", f"http://127.0.0.1:{server.server_port}", "--username", "op"]
        advised = CliRunner().invoke(app, ["advise", *asked, "--password-file", str(password)])
        done = CliRunner().invoke(app, ["scale", advised.output.strip(), "--directory", str(tmp_path)])
        assert [json.loads(line)["node"] for line in done.output.splitlines()] == ["n1", "n2", "n3", "n4"]
        assert len(cluster.nodes) == 4


def test_who_asks_for_a_size_gets_it_or_the_reason(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no cluster") as caught:
        ask_for_size(tmp_path, 3, 1.0)
    assert caught.value.code == "MW-ENG-007"
    with three_nodes(tmp_path):
        assert [node["name"] for node in ask_for_size(tmp_path, 5, PATIENCE_S)] == ["n1", "n2", "n3", "n4", "n5"]
        assert [node["mqtt_port"] for node in ask_for_size(tmp_path, 4, PATIENCE_S)] == [1, 2, 3, 4]
        with pytest.raises(EngineError, match="not got its size"):
            ask_for_size(tmp_path, 6, PATIENCE_S)
        assert json.loads((tmp_path / STATE).read_text())["size"] == 5


# --- with RabbitMQ --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[PrivateCluster]:
    """Three nodes, and whoever gives them another size."""
    site = Site(folder / "site")
    make_users(site.path("broker", "users.json"))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{site.secret('broker-authority')}"
    cluster, stopped = PrivateCluster(folder / "rabbitmq", url, 3), threading.Event()
    async with running_authority(Authority(AuthoritySettings(port=port), BrokerSettings(), site=site)):
        try:
            await asyncio.to_thread(cluster.start)
            serving = asyncio.create_task(asyncio.to_thread(serve_sizes, cluster, stopped.wait))
            yield cluster
            stopped.set()
            await serving
        finally:
            stopped.set()
            await asyncio.to_thread(cluster.stop)


@asynccontextmanager
async def logged_in(port: int, user: str, client_id: str, *, clean: bool) -> AsyncIterator[MqttConnection]:
    async with MqttConnection(BrokerAddress("127.0.0.1", port), V311, timeout_s=PATIENCE_S) as connection:
        answer = await connection.login(Connect(client_id, V311, clean, username=user, password=PASSWORD))
        assert answer is not None and answer.reason_code == 0, answer
        yield connection


class Sender:
    """Publishes one number after the other, from whichever node lets it, and remembers what was acknowledged."""

    def __init__(self, cluster: PrivateCluster) -> None:
        self._cluster = cluster
        self.acknowledged: list[int] = []
        self.is_done = False

    async def run(self) -> None:
        turn = 0
        while not self.is_done:
            node = self._cluster.nodes[turn % len(self._cluster.nodes)]
            turn += 1
            with suppress(OSError, TimeoutError, AssertionError):  # the node is just leaving, or just coming
                await self._from(node.mqtt_port)

    async def _from(self, port: int) -> None:
        async with logged_in(port, "gateway", "gw-1", clean=True) as connection:
            while not self.is_done:
                number = (self.acknowledged[-1] if self.acknowledged else 0) + 1
                packet_id = number % 65_535 + 1
                connection.send(Publish(TOPIC, str(number).encode(), 1, packet_id=packet_id))
                if not isinstance(await connection.receive(), PubAck):
                    return
                self.acknowledged.append(number)

    async def until(self, count: int) -> None:
        """So many more are acknowledged."""
        target = len(self.acknowledged) + count
        async with asyncio.timeout(2 * PATIENCE_S):
            while len(self.acknowledged) < target:  # noqa: ASYNC110 - the broker's doing
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(2400)
@pytest.mark.skipif(server_program() is None, reason="rabbitmq-server is not installed")
async def test_nothing_acknowledged_is_lost_while_nodes_come_and_go(tmp_path: Path) -> None:
    """The session's queue is made on three nodes, grows to the fourth and gives up the fourth again; then the node
    where it was made leaves as well, after another has come.
    """
    async with running(tmp_path) as cluster:
        first = cluster.nodes[0]
        async with logged_in(first.mqtt_port, "victim", "v1", clean=False) as reader:
            reader.send(Subscribe(1, (Wanted("globex/read/#", 1),)))
            assert isinstance(await reader.receive(), SubAck)
            await reader.disconnect()
        sender = Sender(cluster)
        sending = asyncio.create_task(sender.run())
        await sender.until(200)
        assert len(await asyncio.to_thread(ask_for_size, cluster.folder, 4, 5 * PATIENCE_S)) == 4
        await sender.until(200)
        assert len(await asyncio.to_thread(ask_for_size, cluster.folder, 3, 5 * PATIENCE_S)) == 3
        await sender.until(200)
        await asyncio.to_thread(cluster.add_node)
        await asyncio.to_thread(cluster.remove_node, first)
        await sender.until(200)
        sender.is_done = True
        await sending
        with pytest.raises(EngineError, match="too small"):
            await asyncio.to_thread(cluster.remove_node, cluster.nodes[0])
        wanted = set(sender.acknowledged)
        async with logged_in(cluster.nodes[-1].mqtt_port, "victim", "v1", clean=False) as reader:
            while wanted:
                packet = await reader.receive()
                assert isinstance(packet, Publish), f"{len(wanted)} of {len(sender.acknowledged)} are missing"
                reader.send(PubAck(packet.packet_id))
                wanted.discard(int(packet.payload))
