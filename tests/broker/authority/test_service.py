"""The authority as a process of its own sees its callers: over a real socket."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from patience import PATIENCE_S

from broker.attack.external import running_authority
from broker.authority.callers import Callers
from broker.authority.errors import AuthorityError
from broker.authority.http import Request
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings, CallerRule
from broker.credentials import UsersFile
from broker.settings import BrokerSettings
from meshwire.identity import TenantId
from meshwire.site import Site

FORM = {"content-type": "application/x-www-form-urlencoded"}
USER = "username=alice&password=a&vhost=%2F&client_id=c1"


@asynccontextmanager
async def serving(tmp_path: Path, **settings: Any) -> AsyncIterator[Authority]:
    site = Site(tmp_path)
    users = UsersFile(site.path("broker", "users.json"), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    users.add("alice", "a", tenant=TenantId("acme"), roles=("BUBBLE_UP_READ_CONSUMER",))
    authority = Authority(AuthoritySettings(port=0, **settings), BrokerSettings(), site=site)
    async with running_authority(authority):
        yield authority


async def post(authority: Authority, path: str, body: str, **headers: str) -> tuple[int, str]:
    def call() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", authority.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", path, body, FORM | headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(call)


async def test_the_secret_stands_in_the_path_or_in_the_header(tmp_path: Path) -> None:
    async with serving(tmp_path) as authority:
        secret = authority.secret
        assert await post(authority, f"/{secret}/hooks/rabbitmq/user", USER) == (200, "allow")
        bearer = {"authorization": f"Bearer {secret}"}
        assert await post(authority, "/hooks/rabbitmq/user", USER, **bearer) == (200, "allow")
        for path in ("/hooks/rabbitmq/user", "/wrong/hooks/rabbitmq/user", "//hooks/rabbitmq/user", "/"):
            assert await post(authority, path, USER) == (403, "deny")
        assert (await post(authority, "/hooks/rabbitmq/user", USER, authorization="Bearer "))[0] == 403


async def test_with_the_loopback_rule_any_process_of_the_machine_may_ask(tmp_path: Path) -> None:
    async with serving(tmp_path, caller=CallerRule.LOOPBACK) as authority:
        assert await post(authority, "/hooks/rabbitmq/user", USER) == (200, "allow")


@pytest.mark.parametrize(("peer", "may"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("", False)])
def test_loopback_is_judged_by_the_peers_address(peer: str, may: bool) -> None:
    callers = Callers(CallerRule.LOOPBACK, "s" * 16)
    assert (callers.path_of(Request("GET", "/hooks/x", {}, b"", peer)) is not None) is may


@pytest.mark.parametrize("target", ["/hooks/x", "//hooks/x", "/"])
@pytest.mark.parametrize("headers", [{}, {"authorization": ""}, {"authorization": "Bearer "}])
def test_without_a_secret_nobody_holds_it(target: str, headers: dict[str, str]) -> None:
    assert Callers(CallerRule.SECRET, "").path_of(Request("GET", target, headers, b"", "127.0.0.1")) is None


async def test_unknown_paths_are_not_found_and_faults_are_each_engines_denial(tmp_path: Path) -> None:
    async with serving(tmp_path, caller=CallerRule.LOOPBACK) as authority:
        for path in ("/hooks", "/hooks/other/user", "/rabbitmq/user", "/exchange"):
            assert await post(authority, path, USER) == (404, "deny")
        broken = "not json \x01 username=%ff"
        assert await post(authority, "/hooks/rabbitmq/user", broken) == (200, "deny")
        assert await post(authority, "/hooks/emqx/authn", broken) == (200, '{"result":"deny"}')
        assert await post(authority, "/hooks/vernemq", broken) == (200, '{"result":{"error":"not_allowed"}}')
        status, body = await post(authority, "/hooks/mosquitto/user", "[" * 100_000, **{"content-type": "text/json"})
        assert (status, json.loads(body)["ok"]) == (403, False)


async def test_each_answer_comes_whole_in_one_segment(tmp_path: Path) -> None:
    """Head and body written one after the other would wait for each other's acknowledgement: 44 ms an answer."""
    question = f"POST /hooks/rabbitmq/user HTTP/1.1\r\nhost: x\r\ncontent-length: {len(USER)}\r\n"
    question += f"content-type: {FORM['content-type']}\r\n\r\n{USER}"
    async with serving(tmp_path, caller=CallerRule.LOOPBACK) as authority:
        reader, writer = await asyncio.open_connection("127.0.0.1", authority.port)
        for _ in range(50):
            writer.write(question.encode())
            answer = await reader.read(65_536)
            assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\nallow"), answer
        writer.close()


async def test_settings_that_would_answer_anybody_are_refused(tmp_path: Path) -> None:
    settings = AuthoritySettings(host="0.0.0.0", caller=CallerRule.LOOPBACK)
    with pytest.raises(AuthorityError) as caught:
        await Authority(settings, BrokerSettings(), site=Site(tmp_path)).run()
    assert caught.value.code == "MW-AUT-003"


async def test_a_port_that_is_held_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path / "one") as first:
        settings = AuthoritySettings(port=first.port)
        with pytest.raises(AuthorityError) as caught:
            await Authority(settings, BrokerSettings(), site=Site(tmp_path / "two")).run()
        assert caught.value.code == "MW-AUT-002"


@pytest.mark.parametrize("text", [None, "short"])
async def test_a_secret_file_must_hold_a_secret(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AuthorityError) as caught:
        await Authority(AuthoritySettings(port=0, secret_file=path), BrokerSettings(), site=Site(tmp_path)).run()
    assert caught.value.code == "MW-AUT-004"


@pytest.mark.parametrize("endpoint", ["127.0.0.1", ":1883", "host:0", "host:70000", "host:x"])
def test_an_endpoint_is_host_and_port(endpoint: str) -> None:
    with pytest.raises(ValueError):
        AuthoritySettings(end_sessions_at={"rabbitmq": endpoint})
