"""A back office with wrong credentials, a foreign tenant or another service's port: told as what it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from argon2 import PasswordHasher
from console_site import serving

from broker.server import Broker
from broker.settings import BrokerSettings, ListenerSettings
from meshwire import cli
from meshwire.identity import Role, TenantId
from meshwire.site import Site

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def _restore_logging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    settings = BrokerSettings(listener=(ListenerSettings(port=0),), durability="memory")
    broker = Broker(settings, site=Site(tmp_path), hasher=CHEAP)
    async with serving(broker):
        yield broker.ports[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pub", "-V", "5", "-q", "1", "-t", "other/x", "-m", "x"], 5, ["refused the message", "other/x: Not auth"]),
        (["pub", "-V", "5", "-q", "2", "-t", "other/x", "-m", "x"], 5, ["refused the message", "MW-NET-002"]),
        (["sub", "-V", "5", "-t", "other/#"], 5, ["refused the subscription", "other/#", "MW-NET-002"]),
        (["sub", "-t", "acme/read/#", "-P", "wrong"], 5, ["check user and password", "MW-NET-002"]),
        (["sub", "-t", "acme/read/#", "--cafile", "{ca}"], 4, ["TLS with the broker failed", "MW-TLS-001"]),
    ],
)
async def test_the_broker_refuses(
    port: int, arguments: list[str], code: int, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = Site(tmp_path).signing_keys().issue(TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time())
    if "{ca}" in arguments:
        assert await asyncio.to_thread(cli.main, ["cert", "make", "--dir", str(tmp_path / "certs")]) == 0
        arguments = [each.replace("{ca}", str(tmp_path / "certs" / "ca.crt")) for each in arguments]
    login = ["-p", str(port), "-u", "notused", *([] if "-P" in arguments else ["-P", token])]
    assert await asyncio.to_thread(cli.main, ["mqtt", *arguments, *login]) == code
    said = capfd.readouterr().err
    assert all(word in said for word in words) and "Traceback" not in said, said


async def test_a_port_of_another_service_is_no_refused_login(capfd: pytest.CaptureFixture[str]) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(cli.main, ["send", "q", "-T", "acme", "-p", str(port)]) == 4
    assert "of another service" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("http://[bad", 2, "give http://HOST:PORT"),
        ("http://localhost:notaport", 2, "give http://HOST:PORT"),
        ("http://", 2, "give http://HOST:PORT"),
        ("ftp://localhost", 2, "give http://HOST:PORT"),
        ("http://127.0.0.1:{port}", 4, "the gateway's HTTP API does not answer"),
    ],
)
async def test_an_address_at_which_no_gateway_is(
    url: str, code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last one is somebody's who speaks first, and no HTTP."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        where = url.format(port=server.sockets[0].getsockname()[1])
        assert await asyncio.to_thread(cli.main, ["tenant", "list", "--http", where]) == code
    said = capfd.readouterr().err
    assert words in said and "MW-NET-" in said and "Traceback" not in said
