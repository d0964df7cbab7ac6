"""The nodes of a trial cluster are in the list of instances by themselves, however many there are."""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from patience import PATIENCE_S
from typer.testing import CliRunner

from broker.adapters.__main__ import app
from broker.adapters.rabbitmq.node import LaunchedNode
from broker.adapters.rabbitmq.nodes import PrivateCluster
from broker.adapters.rabbitmq.scaling import ask_for_size
from broker.adapters.rabbitmq.tls import NodeTls, TlsPorts
from broker.adapters.rabbitmq.trial import announced_listener, serve_announced
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from meshwire.site import Site


class Cluster(PrivateCluster):
    """Listeners in the place of nodes."""

    def __init__(self, folder: Path, servers: list[asyncio.Server]) -> None:
        self.folder, self.nodes, self._spare = folder, [], servers

    def add_node(self) -> LaunchedNode:
        number = len(self.nodes) + 1
        port = self._spare[number - 1].sockets[0].getsockname()[1]
        self.nodes.append(LaunchedNode(f"n{number}@localhost", self.folder, port, 0, 0))
        return self.nodes[-1]

    def remove_node(self, node: LaunchedNode) -> None:
        self.nodes.remove(node)


async def test_nodes_are_listed_as_the_cluster_grows_and_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.authority.nodes.LOOK_EVERY_S", 0.01)
    site, stopped = Site(tmp_path / "site"), threading.Event()
    service = MessagingService(Registry(None), site)

    async def listed(nodes: list[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while [node.node for state in service.instance_states() for node in state.nodes] != nodes:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1"))
            for _ in range(4)
        ]
        cluster = Cluster(tmp_path, servers)
        for _ in range(3):
            cluster.add_node()
        serving = asyncio.create_task(serve_announced(cluster, "trial", "3.10.8", site, stopped.wait))
        try:
            await listed(["n1@localhost", "n2@localhost", "n3@localhost"])
            (state,) = service.instance_states()
            assert (state.instance.name, state.instance.engine, state.state) == ("trial", "rabbitmq", "running")
            assert state.announced and state.nodes[0].version == "3.10.8"
            assert [option.value for option in state.instance.options] == ["plain"]
            await asyncio.to_thread(ask_for_size, tmp_path, 4, PATIENCE_S)
            await listed(["n1@localhost", "n2@localhost", "n3@localhost", "n4@localhost"])
            await asyncio.to_thread(ask_for_size, tmp_path, 3, PATIENCE_S)
            await listed(["n1@localhost", "n2@localhost", "n3@localhost"])
        finally:
            stopped.set()
            await serving
    await listed([])
    assert service.instance_states()[0].state == "stopped"


@pytest.mark.parametrize(
    ("tls", "port", "options"),
    [
        (None, 1, ["plain"]),
        (NodeTls(is_mutual=False, ports=TlsPorts(mqtts=2)), 2, ["tls"]),
        (NodeTls(is_mutual=True, ports=TlsPorts(mqtts=2)), 2, ["tls", "mutual"]),
    ],
)
def test_an_instance_offers_what_its_nodes_have(
    tls: NodeTls | None, port: int, options: list[str], tmp_path: Path
) -> None:
    listener = announced_listener(LaunchedNode("n1@localhost", tmp_path, 1, 0, 0, tls=tls))
    assert (listener.port, [option.value for option in listener.options]) == (port, options)


def test_a_name_that_no_instance_can_have() -> None:
    done = CliRunner().invoke(app, ["trial", "--instance", "a/b"])
    assert done.exit_code == 2 and "a/b" in done.output
