"""The line to a broker: what is said when it is away, does not know us, or does not know such questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from console_site import serving
from patience import until

from broker.credentials import UsersFile
from broker.server import Broker
from broker.settings import BrokerSettings, ListenerSettings
from gateway.mqtt import Connection, Login
from gateway.operations.control_line import ControlLine
from gateway.operations.embedded import TOPICS
from gateway.operations.errors import NotReached, RequestRefused
from meshwire.site import Site

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
BROKER = TOPICS[0]


@asynccontextmanager
async def running(login: Callable[[], Login] | None) -> AsyncIterator[ControlLine]:
    line = ControlLine(login, TOPICS)
    task = asyncio.create_task(line.run())
    yield line
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    site = Site(tmp_path)
    users = UsersFile(site.path("broker", "users.json"), CHEAP)
    users.add("operator", "secret", roles=("OPERATOR",))
    users.add("old", "secret", roles=("GATEWAY",))
    broker = Broker(BrokerSettings(listener=(ListenerSettings(port=0),), durability="memory"), site=site, hasher=CHEAP)
    async with serving(broker):
        yield broker.ports[0]


def as_user(port: int, name: str) -> Callable[[], Login]:
    return lambda: Login("127.0.0.1", port, f"gw-console-{name}", name, "secret")


async def test_questions_are_answered_each_by_its_own_answer(port: int) -> None:
    async with running(as_user(port, "operator")) as line:
        asked = [line.ask(BROKER, {"command": "topics", "tenant": f"t{number}"}) for number in range(20)]
        asked.append(line.ask(BROKER, {"command": "connections"}))
        *topics, connections = await asyncio.gather(*asked)
        assert all(answer == {"topics": [], "total": 0, "forgotten": 0} for answer in topics)
        assert [each["client"] for each in connections["connections"]] == ["gw-console-operator"]
        with pytest.raises(RequestRefused, match="not valid"):
            await line.ask(BROKER, {"command": "dance"})


async def test_it_leaves_when_nobody_asks_and_comes_again(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.operations.control_line.IDLE_S", 0.05)
    async with running(as_user(port, "operator")) as line:
        await line.ask(BROKER, {"command": "roles"})
        await until(lambda: line._connection is None)
        assert "roles" in await line.ask(BROKER, {"command": "roles"})


async def test_what_is_asked_while_it_leaves_is_answered(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.operations.control_line.IDLE_S", 0.05)
    leaves, may_leave, leave = asyncio.Event(), asyncio.Event(), Connection.__aexit__

    async def slowly(connection: Connection, *error: Any) -> None:
        leaves.set()
        await may_leave.wait()
        await leave(connection, *error)

    monkeypatch.setattr(Connection, "__aexit__", slowly)
    async with running(as_user(port, "operator")) as line:
        await line.ask(BROKER, {"command": "roles"})
        await leaves.wait()
        asked = asyncio.create_task(line.ask(BROKER, {"command": "roles"}))
        await asyncio.sleep(0)
        may_leave.set()
        assert "roles" in await asked


async def test_a_user_without_the_role_is_told_how_to_get_it(port: int) -> None:
    async with running(as_user(port, "old")) as line:
        with pytest.raises(NotReached, match="meshwire user set gateway --role GATEWAY --role OPERATOR"):
            await line.ask(BROKER, {"command": "roles"})


async def test_no_broker_and_a_broker_that_is_away() -> None:
    async with running(None) as line:
        with pytest.raises(NotReached, match=r"gateway\.bridge\.enabled"):
            await line.ask(BROKER, {"command": "roles"})
    async with running(as_user(1, "operator")) as line:
        with pytest.raises(NotReached, match="start the broker"):
            await line.ask(BROKER, {"command": "roles"})


@pytest.mark.server
async def test_a_broker_that_does_not_know_such_questions(mosquitto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.operations.control_line.ANSWER_WITHIN_S", 0.5)
    async with running(as_user(mosquitto.port, "operator")) as line:
        with pytest.raises(NotReached, match=r"gateway\.operations\.engine"):
            await line.ask(BROKER, {"command": "roles"})
