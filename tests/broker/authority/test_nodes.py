"""Engines of other makers are in the list of instances by themselves: the authority says which nodes are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S
from pydantic import ValidationError

from broker.adapters.capabilities import Engine
from broker.attack.external import running_authority
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings, EngineNode
from broker.settings import BrokerSettings, InstanceSettings
from gateway.messaging.rules import Option
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from meshwire.site import Site


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - files of another component
            await asyncio.sleep(0.01)


async def open_port(port: int = 0) -> asyncio.Server:
    return await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)


async def test_nodes_of_a_cluster_come_and_go_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.authority.nodes.LOOK_EVERY_S", 0.01)
    site = Site(tmp_path)
    service = MessagingService(Registry(None), site)
    one, two = await open_port(), await open_port()
    ports = [server.sockets[0].getsockname()[1] for server in (one, two)]
    settings = AuthoritySettings(
        port=0,
        engine=Engine.RABBITMQ_3,
        node=(
            EngineNode(name="rabbit-1", port=ports[0]),
            EngineNode(name="rabbit-2", kind="mqtts", port=ports[1], mutual=True),  # type: ignore[arg-type]
        ),
    )
    broker = BrokerSettings(instance=InstanceSettings(name="rabbit"))

    def nodes() -> list[str]:
        return [node.node for state in service.instance_states() for node in state.nodes]

    async with running_authority(Authority(settings, broker, site=site)):
        await until(lambda: nodes() == ["rabbit-1", "rabbit-2"])
        (state,) = service.instance_states()
        assert (state.instance.name, state.instance.engine, state.state) == ("rabbit", "rabbitmq", "running")
        assert state.announced and state.instance.options == set(Option)
        service.keep()
        one.close()
        await until(lambda: nodes() == ["rabbit-2"])
        with contextlib.closing(await open_port(ports[0])):
            await until(lambda: nodes() == ["rabbit-1", "rabbit-2"])
    assert nodes() == [] and service.instance_states()[0].state == "stopped"
    two.close()


def test_nodes_are_of_an_engine() -> None:
    with pytest.raises(ValidationError, match="Set engine"):
        AuthoritySettings(node=(EngineNode(name="x", port=1883),))
