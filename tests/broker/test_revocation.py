"""Rights that end: users, roles and tokens that change under live connections; and guessing made slow."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from pydantic import ValidationError
from typer.testing import CliRunner

from broker.credentials import UsersFile
from broker.errors import RolesFileError
from broker.issuers import MIN_INTERVAL_S, Issuer, IssuerSettings
from broker.role_table import RoleTable
from broker.roles import app
from broker.statistics import Drop, Ending
from broker.throttle import ADDRESS_WAIT_MAX_S, FREE_FAILURES, USER_WAIT_MAX_S, Throttle
from meshwire.identity import LoginKind, TenantId
from meshwire.mqtt import (
    Connect,
    Disconnect,
    Properties,
    ProtocolVersion,
    Publish,
    SubAck,
    Subscribe,
    TopicSubscription,
    Will,
)
from meshwire.tokens import TokenError

V5 = ProtocolVersion.V5
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
OTHER_KEY = {
    **json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key())),
    "kid": "other",
    "alg": "EdDSA",
}
READER = Connect("reader", V5, True, 0, None, "reader", b"pw", Properties(session_expiry_interval=600))


@pytest.fixture
def durability() -> str:
    return "os"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.server.TICK_S", 0.01)


def users_of(running: Any) -> UsersFile:
    return UsersFile(running.site.path("broker", "users.json"), CHEAP)


def sub(*filters: str) -> Subscribe:
    return Subscribe(1, tuple(TopicSubscription(text, 1) for text in filters))


# --- live sessions ----------------------------------------------------------------------------------------------------


async def prepared(start: Any, *roles: str, **more: Any) -> Any:
    """A broker with the user `reader`, who holds these roles, and the role WEATHER."""
    running = await start(**more)
    RoleTable(running.site.path("broker", "roles.json")).add("WEATHER", subscribe=("{tenantId}/weather/#",))
    users_of(running).add("reader", "pw", roles=roles)
    return running


def session_of(running: Any, client_id: str = "reader") -> Any:
    found = [item for key, item in running.broker.engine.sessions.items() if key.client_id == client_id]
    return found[0] if found else None


async def test_a_removed_user_is_cut_off_and_its_session_is_gone(start: Any, join: Any, eventually: Any) -> None:
    running = await prepared(start, "ADMIN")
    will = Will("farewell", b"must not appear", 1, True)
    client = await join(running, Connect("reader", V5, True, 0, will, "reader", b"pw", READER.properties))
    assert isinstance(await client.ask(sub("a/#")), SubAck)
    users_of(running).remove("reader")
    assert await client.next() == Disconnect(0x87)
    assert await client.next() is None
    assert session_of(running) is None
    assert running.broker.statistics.endings == {Ending.REVOKED: 1}
    assert not running.broker.engine.retained.matching(["farewell"])


async def test_a_removed_user_that_is_away_loses_its_queue(start: Any, join: Any, eventually: Any) -> None:
    running = await prepared(start, "ADMIN")
    client = await join(running, READER)
    await client.ask(sub("a"))
    await client.close()
    admin = await join(running, Connect("admin", V5))
    await admin.ask(Publish("a", b"x", 1, packet_id=1))
    assert len(session_of(running).queue) == 1
    users_of(running).remove("reader")
    await eventually(lambda: session_of(running) is None)
    assert running.broker.statistics.drops[Drop.RECEIVE_REFUSED] == 1


async def test_a_role_taken_from_a_user_ends_its_subscriptions_and_the_connection_stays(
    start: Any, join: Any, eventually: Any
) -> None:
    running = await prepared(start, "WEATHER", "COMMAND_CLIENT")
    client = await join(running, READER)
    await client.ask(sub("ssni/weather/#"))
    topic = "ssni/cmd/001350050047dd92/req/1"
    assert (await client.ask(Publish(topic, b"", 1, packet_id=1))).reason_code == 0x10
    users_of(running).set_roles("reader", ("WEATHER",))
    await eventually(lambda: not session_of(running).permissions.publish)
    assert set(session_of(running).subscriptions) == {"ssni/weather/#"}
    assert (await client.ask(Publish(topic, b"", 1, packet_id=2))).reason_code == 0x87
    users_of(running).set_roles("reader", ())
    await eventually(lambda: not session_of(running).subscriptions)
    assert await client.ask(sub("ssni/weather/#")) == SubAck(1, (0x87,))


async def test_a_changed_role_reaches_live_clients_and_their_remembered_decisions(
    start: Any, join: Any, eventually: Any
) -> None:
    running = await prepared(start, "WEATHER")
    roles = RoleTable(running.site.path("broker", "roles.json"))
    roles.add("WEATHER", subscribe=("{tenantId}/weather/#",), publish=("{tenantId}/said",))
    client = await join(running, READER)
    await eventually(lambda: bool(session_of(running).permissions.publish))
    await client.ask(sub("ssni/weather/#"))
    assert (await client.ask(Publish("ssni/said", b"", 1, packet_id=1))).reason_code == 0x10
    roles.add("WEATHER", subscribe=("{tenantId}/weather/rain",))
    await eventually(lambda: not session_of(running).permissions.publish)
    assert not session_of(running).subscriptions
    assert (await client.ask(Publish("ssni/said", b"", 1, packet_id=2))).reason_code == 0x87
    roles.remove("WEATHER")
    await eventually(lambda: not session_of(running).permissions.subscribe)
    assert await client.ask(sub("ssni/weather/rain")) == SubAck(1, (0x87,))


async def test_a_changed_password_ends_the_connection_but_not_the_session(start: Any, join: Any) -> None:
    running = await prepared(start, "WEATHER")
    client = await join(running, READER)
    await client.ask(sub("ssni/weather/#"))
    await asyncio.sleep(0.03)  # the broker looks every 10 ms here
    users_of(running).add("reader", "another", roles=("WEATHER",))
    assert await client.next() == Disconnect(0x87)
    assert set(session_of(running).subscriptions) == {"ssni/weather/#"}


async def test_a_key_taken_out_of_the_key_set_ends_the_connections_it_vouched_for(start: Any, join: Any) -> None:
    running = await start()
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER")
    client = await join(running, Connect("c", V5, True, 0, None, "notused", token.encode()))
    await client.ask(sub("acme/read/#"))
    admin = await join(running, Connect("admin", V5))
    key_set = running.site.jwks_path
    key_set.write_text(json.dumps({"keys": [*json.loads(key_set.read_text())["keys"], OTHER_KEY]}))
    assert (await admin.ask(Publish("acme/read/m/t", b"", 1, packet_id=1))).reason_code == 0, "another key more"
    assert isinstance(await client.next(), Publish)
    key_set.write_text(json.dumps({"keys": [OTHER_KEY]}))
    assert await client.next() == Disconnect(0x87)
    assert await client.next() is None
    assert running.broker.statistics.endings == {Ending.REVOKED: 1}


async def test_a_user_removed_while_the_broker_was_away_comes_back_to_nothing(
    start: Any, join: Any, tmp_path: Path
) -> None:
    from broker.settings import Durability
    from broker.store import Store  # the file of the first life, looked at between two

    running = await prepared(start, "WEATHER")
    client = await join(running, READER)
    await client.ask(sub("ssni/weather/#"))
    task = running.task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    users_of(running).remove("reader")
    again = await start()
    assert session_of(again) is None
    again.task.cancel()
    await asyncio.gather(again.task, return_exceptions=True)
    store = Store(tmp_path / "broker" / "store.sqlite", Durability.OS)
    assert list(store.subscriptions()) == []
    store.close()


async def test_what_was_in_flight_is_not_sent_again_without_the_right(start: Any, join: Any, eventually: Any) -> None:
    running = await prepared(start, "WEATHER")
    client = await join(running, READER)
    await client.ask(sub("ssni/weather/#"))
    admin = await join(running, Connect("admin", V5))
    await admin.ask(Publish("ssni/weather/x", b"x", 1, packet_id=1))
    assert isinstance(await client.next(), Publish)
    await client.close()
    users_of(running).set_roles("reader", ())
    await eventually(lambda: not session_of(running).permissions.subscribe)
    resume = Connect("reader", V5, False, 0, None, "reader", b"pw", READER.properties)
    again = await join(running, resume)
    assert again.connack.session_present
    assert session_of(running).inflight_count == 0


# --- the role table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ADMIN", {}),
        ("with blank", {}),
        ("WIDE", {"subscribe": ("+/read/#",)}),
        ("WIDE", {"publish": ("#",)}),
        ("WIDE", {"subscribe": ("{tenantId}x/#",)}),
        ("ODD", {"subscribe": ("{tenantId}/a#",)}),
        ("ODD", {"subscribe": ("$share/g/{tenantId}/a",)}),
    ],
)
def test_roles_that_may_not_be(tmp_path: Path, name: str, role: dict[str, Any]) -> None:
    table = RoleTable(tmp_path / "roles.json")
    with pytest.raises(RolesFileError):
        table.add(name, **role)
    assert not table.path.exists()


def test_a_wide_role_may_be_for_password_users(tmp_path: Path) -> None:
    table = RoleTable(tmp_path / "roles.json")
    table.add("WIDE", subscribe=("+/read/#",), password_only=True)
    assert RoleTable(table.path).rules["WIDE"].password_only


def test_a_file_that_becomes_invalid_changes_nothing(tmp_path: Path) -> None:
    table = RoleTable(tmp_path / "roles.json")
    table.add("R", subscribe=("{tenantId}/r",))
    table.path.write_text('{"roles": {"ADMIN": {"subscribe": ["{tenantId}/x"]}}}')
    assert not table.reload()
    assert table.rules["R"].subscribe == ("{tenantId}/r",)
    with pytest.raises(RolesFileError) as caught:
        RoleTable(table.path)
    assert caught.value.code == "MW-BRK-013"


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    run = CliRunner().invoke
    assert run(app, ["add", "R", "--subscribe", "{tenantId}/r/#", "--publish", "{tenantId}/s"]).exit_code == 0
    records = [json.loads(line) for line in run(app, ["list", "--json"]).stdout.splitlines()]
    (own,) = [record for record in records if not record["built_in"]]
    assert own == {
        "name": "R",
        "subscribe": ["{tenantId}/r/#"],
        "publish": ["{tenantId}/s"],
        "password_only": False,
        "built_in": False,
    }
    assert run(app, ["remove", "R"]).exit_code == 0
    assert isinstance(run(app, ["remove", "R"]).exception, RolesFileError)


# --- guessing ---------------------------------------------------------------------------------------------------------


def test_waits_grow_and_are_forgiven() -> None:
    throttle = Throttle()
    waits = []
    for _ in range(20):
        waits.append(throttle.wait_s("10.0.0.1", "eve", 0.0))
        throttle.failed("10.0.0.1", "eve", 0.0)
    assert waits[:FREE_FAILURES] == [0.0] * FREE_FAILURES
    assert waits == sorted(waits)
    assert waits[-1] == ADDRESS_WAIT_MAX_S
    assert throttle.wait_s("10.0.0.2", "eve", 0.0) == USER_WAIT_MAX_S
    assert throttle.wait_s("10.0.0.2", "", 0.0) == 0.0
    throttle.succeeded("eve")
    assert throttle.wait_s("10.0.0.2", "eve", 0.0) == 0.0
    assert throttle.wait_s("10.0.0.1", "eve", 0.0) == ADDRESS_WAIT_MAX_S, "an address is not forgiven"
    assert throttle.wait_s("10.0.0.1", "eve", 3_600.0) == 0.0


def test_the_table_is_bounded_and_so_are_those_who_wait() -> None:
    throttle = Throttle()
    for number in range(30_000):
        throttle.failed(str(number), "", float(number) / 1e6)
    assert len(throttle._known) == 20_000
    assert [throttle.enter("a") for _ in range(33)].count(False) == 1
    throttle.leave("a")
    assert throttle.enter("a")
    for _ in range(32):
        throttle.leave("a")
    assert not throttle._waiting


async def test_a_guesser_is_slowed_and_a_known_client_is_not(start: Any, dial: Any, monkeypatch: Any) -> None:
    running = await start()
    waits: list[float] = []
    monkeypatch.setattr("broker.throttle.FREE_FAILURES", 2)
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("broker.doorman.asyncio.sleep", noted)
    right = Connect("r", V5, username="admin", password=b"admin-password")
    assert (await (await dial(running)).ask(right)).reason_code == 0
    for _ in range(5):
        client = await dial(running)
        assert (await client.ask(Connect("g", V5, username="admin", password=b"guess"))).reason_code == 0x86
    slowed = [seconds for seconds in waits if seconds >= 0.25]
    assert len(slowed) >= 2
    waits.clear()
    assert (await (await dial(running)).ask(right)).reason_code == 0
    assert not [seconds for seconds in waits if seconds >= 0.25]


# --- external identity providers --------------------------------------------------------------------------------------


class Provider:
    """Keys and tokens of somebody else."""

    def __init__(self) -> None:
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.fetches = 0
        self.is_broken = False

    def new_key(self, kid: str) -> None:
        self.keys[kid] = Ed25519PrivateKey.generate()

    def fetch(self, _url: str = "") -> bytes:
        self.fetches += 1
        if self.is_broken:
            raise OSError("not reachable")
        jwks = [
            {**json.loads(OKPAlgorithm.to_jwk(key.public_key())), "kid": kid, "alg": "EdDSA"}
            for kid, key in self.keys.items()
        ]
        return json.dumps({"keys": jwks}).encode()

    def token(self, kid: str = "k1", **changes: Any) -> str:
        claims = {
            "iss": "https://id.example/realm",
            "aud": ["broker", "other"],
            "sub": "0b5e-user",
            "org": {"id": "acme"},
            "realm_access": {"roles": ["BUBBLE_UP_READ_CONSUMER"]},
            "exp": 2_000.0,
            **changes,
        }
        return jwt.encode(claims, self.keys[kid], algorithm="EdDSA", headers={"kid": kid})


URL = "https://id.example/keys"
SETTINGS: dict[str, Any] = {
    "issuer": "https://id.example/realm",
    "jwks_url": URL,
    "audience": "broker",
    "tenant_claim": "org.id",
    "roles_claim": "realm_access.roles",
}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_claims_of_another_provider_are_read_as_configured(pool: ThreadPoolExecutor) -> None:
    provider = Provider()
    provider.new_key("k1")
    issuer = Issuer(IssuerSettings(**SETTINGS), pool, fetch=provider.fetch)
    await issuer.refresh()
    found = issuer.verify(provider.token(), now=1_000.0)
    assert (found.tenant, found.kind, found.expires_at) == (TenantId("acme"), LoginKind.TOKEN, 2_000.0)
    assert found.roles == {"BUBBLE_UP_READ_CONSUMER"}
    for changes in (
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"exp": 999.0},
        {"exp": None},
        {"nbf": 1_500.0},
        {"org": {"id": "a/b"}},
        {"org": "acme"},
    ):
        with pytest.raises(TokenError):
            issuer.verify(provider.token(**changes), now=1_000.0)
    provider.new_key("k2")
    with pytest.raises(TokenError, match="unknown key"):
        issuer.verify(provider.token("k2"), now=1_000.0)


async def test_a_new_key_is_fetched_but_not_too_often(pool: ThreadPoolExecutor) -> None:
    provider, now = Provider(), [0.0]
    provider.new_key("k1")
    issuer = Issuer(IssuerSettings(**SETTINGS), pool, clock=lambda: now[0], fetch=provider.fetch)
    assert issuer.wants_refresh("k1")
    await issuer.refresh()
    assert not issuer.wants_refresh("k1")
    assert not issuer.wants_refresh("invented")
    now[0] += MIN_INTERVAL_S + 1
    assert not issuer.wants_refresh("k1")
    assert issuer.wants_refresh("k2")
    provider.is_broken = True
    await issuer.refresh()
    assert issuer.verify(provider.token(), now=1_000.0), "the former keys stay"
    assert not issuer.wants_refresh("k2")
    assert not issuer.is_old
    now[0] += 601
    assert issuer.wants_refresh("k1")
    assert issuer.is_old


async def test_hs256_only_with_a_secret_and_never_with_a_public_key(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 40 + "\n")
    values = {name: value for name, value in SETTINGS.items() if name != "jwks_url"}
    issuer = Issuer(IssuerSettings(**values, hs256_secret_file=secret), pool)
    assert issuer.wants_refresh(None)
    await issuer.refresh()
    claims = {"iss": values["issuer"], "aud": "broker", "org": {"id": "acme"}, "exp": 2_000.0}
    token = jwt.encode(claims, b"s" * 40, algorithm="HS256")
    assert issuer.verify(token, now=1_000.0).tenant == TenantId("acme")
    for forged in (jwt.encode(claims, b"t" * 40, algorithm="HS256"), jwt.encode(claims, None, algorithm="none")):
        with pytest.raises(TokenError):
            issuer.verify(forged, now=1_000.0)
    provider = Provider()
    provider.new_key("k1")
    public = Issuer(IssuerSettings(**SETTINGS), pool, fetch=provider.fetch)
    await public.refresh()
    raw = provider.keys["k1"].public_key().public_bytes_raw()
    with pytest.raises(TokenError):
        public.verify(jwt.encode(claims, raw, algorithm="HS256", headers={"kid": "k1"}), now=1_000.0)
    secret.write_text("short")
    weak = Issuer(IssuerSettings(**values, hs256_secret_file=secret), pool)
    await weak.refresh()
    with pytest.raises(TokenError):
        weak.verify(token, now=1_000.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_url": "http://id.example/keys"},
        {"jwks_url": None, "issuer": "no address to ask for keys"},
        {"jwks_file": "x"},
        {"jwks_url": "file:///etc/passwd"},
    ],
)
def test_issuer_settings_that_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IssuerSettings(**{**SETTINGS, **changes})


async def test_a_client_of_the_provider_connects(start: Any, dial: Any) -> None:
    provider = Provider()
    provider.new_key("k1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = provider.fetch()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/keys"
        running = await start(issuer=(IssuerSettings(**{**SETTINGS, "jwks_url": url}),), wall_clock=lambda: 1_000.0)
        codes = []
        for token in (provider.token(), provider.token(), provider.token(aud="x"), running.token("acme", now=900.0)):
            client = await dial(running)
            codes.append((await client.ask(Connect("c", V5, username="x", password=token.encode()))).reason_code)
        assert codes == [0, 0, 0x86, 0]
        assert provider.fetches == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
