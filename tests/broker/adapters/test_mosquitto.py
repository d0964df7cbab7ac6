"""Debian's Mosquitto with dynamic security: users, live changes, tokens."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from typer.testing import CliRunner

from broker.adapters.__main__ import app
from broker.adapters.connection import BrokerAddress, MqttConnection
from broker.adapters.errors import EngineError
from broker.adapters.mosquitto.control import DynamicSecurity
from broker.adapters.mosquitto.dynsec import MosquittoUser
from broker.adapters.mosquitto.process import PrivateMosquitto, server_program
from broker.adapters.mosquitto.tokens import TokenExchange
from broker.adapters.mosquitto.users import UsersInStep
from broker.credentials import UsersFile
from broker.role_table import RoleTable
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import ConnAck, Connect, Disconnect, ProtocolVersion, PubAck, Publish, SubAck, Subscribe
from meshwire.mqtt import TopicSubscription as Wanted

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(server_program() is None, reason="mosquitto with its dynamic-security plug-in is not installed"),
]
V5 = ProtocolVersion.V5
ACME, GLOBEX = TenantId("acme"), TenantId("globex")
CONTROL = ("control", "control-password")
TOPIC = "acme/read/001350050047dd92/temp"
USERS = (
    MosquittoUser("gateway", "g", roles=("GATEWAY",)),
    MosquittoUser("alice", "a", ACME, ("BUBBLE_UP_READ_CONSUMER",)),
    MosquittoUser("bob", "b", GLOBEX, ("BUBBLE_UP_READ_CONSUMER",)),
)


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[PrivateMosquitto]:
    server = PrivateMosquitto(tmp_path / "mosquitto", USERS, CONTROL)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


def control(mosquitto: PrivateMosquitto) -> DynamicSecurity:
    return DynamicSecurity(mosquitto.internal_address, *CONTROL)


@asynccontextmanager
async def logged_in(
    address: BrokerAddress, username: str, password: str, client_id: str = "c1"
) -> AsyncIterator[tuple[MqttConnection, int]]:
    """A connection and the reason code of its CONNACK."""
    async with MqttConnection(address, V5) as connection:
        answer = await connection.login(Connect(client_id, V5, username=username, password=password.encode()))
        assert isinstance(answer, ConnAck)
        yield connection, answer.reason_code


async def subscribe(connection: MqttConnection, topic_filter: str) -> int:
    connection.send(Subscribe(1, (Wanted(topic_filter, 1),)))
    answer = await connection.receive()
    assert isinstance(answer, SubAck)
    return answer.reason_codes[0]


async def publish(connection: MqttConnection, topic: str) -> int:
    connection.send(Publish(topic, b"x", 1, packet_id=1))
    answer = await connection.receive()
    assert isinstance(answer, PubAck)
    return answer.reason_code


async def test_the_generated_users_may_do_what_the_policy_says(mosquitto: PrivateMosquitto) -> None:
    async with (
        logged_in(mosquitto.address, "alice", "a") as (alice, code),
        logged_in(mosquitto.internal_address, "gateway", "g", "gw-1") as (gateway, _),
        logged_in(mosquitto.internal_address, "gateway", "g", "gw-2") as (second, second_code),
    ):
        assert (code, second_code) == (0, 0)
        table = {"acme/read/#": 1, "$share/g/acme/read/#": 1, "acme/+/#": 0x87, "globex/read/#": 0x87, "#": 0x87}
        table |= {"$SYS/#": 0x87, "$share/g/globex/read/#": 0x87, "$CONTROL/#": 0x87, "+/read/#": 0x87}
        assert {text: await subscribe(alice, text) for text in table} == table
        assert await publish(alice, TOPIC) == 0x87
        assert await publish(gateway, TOPIC) == 0
        received = await alice.receive()
        assert isinstance(received, Publish)
        assert received.topic == TOPIC
        assert await subscribe(second, "+/cmd/+/req/+") == 1


async def test_the_files_that_the_command_writes_let_users_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a role of the site's own, too."""
    state, written = tmp_path / "state", tmp_path / "written"
    monkeypatch.setenv("MESHWIRE_STATE", str(state))
    RoleTable(state / "broker" / "roles.json").add("weather", subscribe=("{tenantId}/weather/#",))
    UsersFile(state / "broker" / "users.json").add("alice", "forgotten", tenant=ACME, roles=("weather",))
    done = CliRunner().invoke(app, ["generate", "mosquitto", "--directory", str(written)])
    assert done.exit_code == 0, done.output
    document = (written / "dynamic-security.json").read_text()
    monkeypatch.setattr("broker.adapters.mosquitto.process.dynsec_document", lambda *_: document)
    server = PrivateMosquitto(tmp_path / "mosquitto", (), CONTROL)
    await asyncio.to_thread(server.start)
    try:
        password = json.loads((written / "passwords.json").read_text())["alice"]
        async with logged_in(server.address, "alice", password) as (alice, code):
            assert code == 0
            assert await subscribe(alice, "acme/weather/#") == 1
            assert await subscribe(alice, "globex/weather/#") == 0x87
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_tenants_client_id_is_its_user_name(mosquitto: PrivateMosquitto) -> None:
    async with logged_in(mosquitto.address, "bob", "b", "bob") as (bob, _):
        for address in (mosquitto.address, mosquitto.internal_address):
            async with logged_in(address, "alice", "a", "bob") as (_alice, code):
                assert code == (0 if address == mosquitto.address else 0x87)
        assert await subscribe(bob, "globex/read/#") == 1


async def test_users_are_added_changed_and_removed_live(mosquitto: PrivateMosquitto) -> None:
    carol = MosquittoUser("carol", "c", ACME, ("BUBBLE_UP_ALERT_CONSUMER", "UNKNOWN"))
    async with control(mosquitto) as changes:
        await changes.put_user(carol)
        await changes.put_user(carol)
        async with logged_in(mosquitto.address, "carol", "c") as (connection, code):
            assert (code, await subscribe(connection, "acme/alert/#")) == (0, 1)
            assert await subscribe(connection, "acme/read/#") == 0x87
            await changes.set_roles(MosquittoUser("carol", "", ACME, ("BUBBLE_UP_READ_CONSUMER",)))
            assert await connection.receive() == Disconnect(0x98)
        async with logged_in(mosquitto.address, "carol", "c") as (connection, code):
            assert (code, await subscribe(connection, "acme/read/#")) == (0, 1)
            await changes.remove_user("carol")
            await changes.remove_user("carol")
            assert await connection.receive() == Disconnect(0x98)
        assert "carol" not in await changes.users()
    async with logged_in(mosquitto.address, "carol", "c") as (_, code):
        assert code == 0x87


async def test_a_role_that_is_deleted_ends_its_holders_messages(mosquitto: PrivateMosquitto) -> None:
    async with (
        logged_in(mosquitto.address, "alice", "a") as (alice, _),
        logged_in(mosquitto.internal_address, "gateway", "g") as (gateway, _),
        control(mosquitto) as changes,
    ):
        await subscribe(alice, "acme/read/#")
        await changes.run([{"command": "deleteRole", "rolename": "BUBBLE_UP_READ_CONSUMER@acme"}])
        await publish(gateway, TOPIC)
        try:
            late = await alice.receive(0.2)
        except TimeoutError:
            late = None
        assert not isinstance(late, Publish)


async def test_a_refused_command_and_a_wrong_password_are_told(mosquitto: PrivateMosquitto) -> None:
    async with control(mosquitto) as changes:
        with pytest.raises(EngineError) as caught:
            await changes.run([{"command": "createClient"}])
        assert caught.value.code == "MW-ENG-005"
    for name, password in ((CONTROL[0], "wrong"), ("gateway", "g")):
        with pytest.raises(EngineError):
            async with DynamicSecurity(mosquitto.internal_address, name, password):
                pass


async def test_a_token_is_exchanged_for_a_user_that_lives_as_long(mosquitto: PrivateMosquitto) -> None:
    clock = [1_000.0]
    tokens = TokenExchange(lambda: control(mosquitto), lambda: clock[0])
    roles = frozenset(("BUBBLE_UP_READ_CONSUMER", "ADMIN"))
    user = await tokens.exchange(Principal("jti", ACME, roles, LoginKind.TOKEN, 1_010.0), "app")
    assert (user.username, user.client_id, user.expires_at) == ("acme:app", "acme:app", 1_010.0)
    async with logged_in(mosquitto.address, user.username, user.password) as (connection, code):
        assert (code, await subscribe(connection, "acme/read/#"), await subscribe(connection, "#")) == (0, 1, 0x87)
        await tokens.sweep()
        assert await subscribe(connection, "acme/read/+/temp") == 1
        clock[0] = 1_010.0
        later = TokenExchange(lambda: control(mosquitto), lambda: clock[0])
        task = asyncio.create_task(later.run(60.0))  # as after a restart: it finds what the first one made
        assert await connection.receive() == Disconnect(0x98)
        task.cancel()
    async with logged_in(mosquitto.address, user.username, user.password) as (_, code):
        assert code == 0x87


@pytest.mark.parametrize("client_id", ["", "a b", "x" * 129, "a/b", "+", "é", "a\0"])
async def test_an_unfit_client_id_or_a_password_login_is_not_exchanged(client_id: str) -> None:
    tokens = TokenExchange(lambda: pytest.fail("no change may be made"))
    with pytest.raises(ValueError):
        await tokens.exchange(Principal("j", ACME, frozenset(), LoginKind.TOKEN, time.time() + 60), client_id)
    with pytest.raises(ValueError):
        await tokens.exchange(Principal("j", ACME, frozenset(), LoginKind.PASSWORD, time.time() + 60), "app")


async def test_users_follow_the_users_file(mosquitto: PrivateMosquitto, tmp_path: Path) -> None:
    users = UsersFile(tmp_path / "users.json", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for user in USERS:
        users.add(user.name, "another", tenant=user.tenant, roles=user.roles)
    roles = RoleTable(tmp_path / "roles.json")
    roles.add("OWN", subscribe=("{tenantId}/a/#",))
    step = UsersInStep(users, roles, lambda: DynamicSecurity(mosquitto.internal_address, *CONTROL, rules=roles.rules))
    async with (
        logged_in(mosquitto.address, "alice", "a") as (alice, _),
        logged_in(mosquitto.address, "bob", "b") as (bob, _),
    ):
        await step.sweep()
        assert await subscribe(alice, "acme/read/#") == 1
        users.add("alice", "another", tenant=ACME, roles=("COMMAND_CLIENT", "OWN"))
        users.remove("bob")
        await step.sweep()
        assert await alice.receive() == Disconnect(0x98)
        assert await bob.receive() == Disconnect(0x98)
    async with logged_in(mosquitto.address, "alice", "a") as (alice, _):
        assert await subscribe(alice, "acme/read/#") == 0x87
        assert await subscribe(alice, "acme/cmd/+/res/+") == 1
        assert await subscribe(alice, "acme/a/#") == 1
        RoleTable(tmp_path / "roles.json").add("OWN", subscribe=("{tenantId}/b/#",))
        await step.sweep()
        assert await subscribe(alice, "acme/a/x") == 0x87
        assert await subscribe(alice, "acme/b/x") == 1
    async with control(mosquitto) as changes:
        assert sorted(await changes.users()) == ["alice", "control", "gateway"]
