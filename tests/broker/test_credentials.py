"""Logins: argon2id users from a file that may change, tokens, and what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from broker.credentials import REMEMBER_S, Authenticator, Refusal, RefusedLogin, UsersFile, is_token
from broker.errors import UsersFileError
from broker.settings import BrokerSettings, Limits
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.tokens import SigningKeys

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NOW = 1_700_000_000.0
KEYS = SigningKeys.generate()


@pytest.fixture
def users(tmp_path: Path) -> UsersFile:
    found = UsersFile(tmp_path / "users.json", CHEAP)
    found.add("alice", "secret", roles=("ADMIN",))
    return found


def authenticator_of(users: UsersFile, settings: BrokerSettings | None = None) -> Authenticator:
    jwks = users.path.with_name("jwks.json")
    jwks.write_text(json.dumps(KEYS.public().to_jwks()))
    return Authenticator(users, jwks, settings or BrokerSettings(), wall_clock=lambda: NOW)


@pytest.fixture
def authenticator(users: UsersFile) -> Iterator[Authenticator]:
    found = authenticator_of(users)
    yield found
    found.close()


def test_the_file_holds_hashes_and_is_ours_alone(users: UsersFile) -> None:
    text = users.path.read_text()
    assert "$argon2id$" in text
    assert "secret" not in text
    assert users.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in users.path.parent.iterdir()] == ["users.json"]


def test_right_and_wrong_passwords(users: UsersFile) -> None:
    assert users.verify("alice", b"secret") == Principal(
        "alice", TenantId("ssni"), frozenset({"ADMIN"}), LoginKind.PASSWORD
    )
    assert users.verify("alice", b"Secret") == RefusedLogin(Refusal.WRONG_PASSWORD)
    assert users.verify("bob", b"secret") == RefusedLogin(Refusal.UNKNOWN_USER)
    refused = users.verify("alice", b"x" * 5_000)
    assert isinstance(refused, RefusedLogin)


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(users: UsersFile) -> None:
    other = UsersFile(users.path, CHEAP)
    other.add("bob", "b")
    users.reload()
    assert users.names() == ["alice", "bob"]
    users.path.write_text("{ broken")
    os.utime(users.path, (1, 1))
    users.reload()
    assert users.names() == ["alice", "bob"]
    with pytest.raises(UsersFileError):
        UsersFile(users.path, CHEAP)


@pytest.mark.parametrize(
    "text",
    [
        '{"users":{"a":{"password":"plain"}}}',
        '{"users":{"a":{"password":"$argon2id$x","tenant":"a/b"}}}',
        '{"schema_version":2}',
        "[]",
        "",
    ],
)
def test_invalid_files_are_named_with_their_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text)
    with pytest.raises(UsersFileError, match=r"users\.json"):
        UsersFile(path)


async def test_a_password_is_checked_in_a_thread_and_then_remembered(authenticator: Authenticator) -> None:
    assert authenticator.at_once("alice", b"secret") is None
    login = await authenticator.verify("alice", b"secret")
    assert isinstance(login, Principal)
    assert authenticator.at_once("alice", b"secret") == login
    assert authenticator.at_once("alice", b"other") is None


async def test_a_password_is_remembered_for_a_minute(users: UsersFile) -> None:
    clock = [NOW]
    authenticator = Authenticator(users, users.path.with_name("none"), BrokerSettings(), wall_clock=lambda: clock[0])
    login = await authenticator.verify("alice", b"secret")
    clock[0] += REMEMBER_S - 0.1
    assert authenticator.at_once("alice", b"secret") == login
    clock[0] += 0.2
    assert authenticator.at_once("alice", b"secret") is None
    authenticator.close()


async def test_a_remembered_password_is_forgotten_with_its_user(users: UsersFile, authenticator: Authenticator) -> None:
    await authenticator.verify("alice", b"secret")
    UsersFile(users.path, CHEAP).add("alice", "secret", roles=())
    assert authenticator.at_once("alice", b"secret") is None
    UsersFile(users.path, CHEAP).remove("alice")
    assert authenticator.at_once("alice", b"secret") is None
    assert await authenticator.verify("alice", b"secret") == RefusedLogin(Refusal.UNKNOWN_USER)


async def test_too_many_waiting_logins_are_told_to_come_again(users: UsersFile) -> None:
    authenticator = authenticator_of(users, BrokerSettings(limits=Limits(max_pending_logins=1)))
    authenticator._pending = 1
    assert await authenticator.verify("alice", b"secret") == RefusedLogin(Refusal.TOO_BUSY)
    authenticator.close()


@pytest.mark.parametrize("username", ["notused", "alice", "", None])
def test_a_token_is_taken_whatever_the_user_name_is(authenticator: Authenticator, username: str | None) -> None:
    token = KEYS.issue(TenantId("acme"), ["X"], now=NOW, ttl_s=60)
    login = authenticator.at_once(username, token.encode())
    assert isinstance(login, Principal)
    assert (login.tenant.value, login.roles, login.kind, login.expires_at) == (
        "acme",
        frozenset({"X"}),
        LoginKind.TOKEN,
        NOW + 60,
    )


@pytest.mark.parametrize(
    "token",
    [
        KEYS.issue(TenantId("acme"), ["X"], now=NOW - 7_200),
        SigningKeys.generate().issue(TenantId("acme"), ["X"], now=NOW),
        KEYS.issue(TenantId("acme"), ["X"], now=NOW)[:-4] + "AAAA",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhY21lIn0.",
    ],
    ids=["expired", "foreign key", "broken signature", "alg none"],
)
def test_tokens_that_do_not_hold(authenticator: Authenticator, token: str) -> None:
    login = authenticator.at_once("notused", token.encode())
    assert isinstance(login, RefusedLogin)
    assert login.cause is Refusal.INVALID_TOKEN
    assert token not in login.detail


def test_default_roles_are_for_tokens_without_the_claim(users: UsersFile) -> None:
    settings = BrokerSettings(default_token_roles=("D",), tenant_default_token_roles={"special": ("S",)})
    authenticator = authenticator_of(users, settings)
    cases = [("acme", None, {"D"}), ("special", None, {"S"}), ("acme", [], set()), ("acme", ["X"], {"X"})]
    for tenant, roles, expected in cases:
        login = authenticator.at_once(None, KEYS.issue(TenantId(tenant), roles, now=NOW).encode())
        assert isinstance(login, Principal)
        assert login.roles == frozenset(expected)
    authenticator.close()


def test_no_password_is_no_login(authenticator: Authenticator) -> None:
    for username, password in ((None, None), ("alice", None), (None, b"secret"), ("", b"secret")):
        login = authenticator.at_once(username, password)
        assert isinstance(login, RefusedLogin)
        assert login.cause is Refusal.NO_CREDENTIALS


def test_without_a_key_set_no_token_holds_until_there_is_one(users: UsersFile, tmp_path: Path) -> None:
    jwks = tmp_path / "later.json"
    authenticator = Authenticator(users, jwks, BrokerSettings(), wall_clock=lambda: NOW)
    token = KEYS.issue(TenantId("acme"), ["X"], now=NOW).encode()
    assert isinstance(authenticator.at_once(None, token), RefusedLogin)
    jwks.write_text(json.dumps(KEYS.public().to_jwks()))
    assert isinstance(authenticator.at_once(None, token), Principal)
    jwks.write_text("nonsense")
    assert isinstance(authenticator.at_once(None, token), Principal)
    authenticator.close()


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (b"a.b.c", False),
        (b"eyJhbGciOiJFZERTQSJ9.e30.x", True),
        (b"", False),
        (b"\xff.\xff.\xff", False),
        (b"W10.e30.x", False),
    ],
)
def test_what_looks_like_a_token(password: bytes, expected: bool) -> None:
    assert is_token(password) is expected
