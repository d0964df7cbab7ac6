"""An authority's parts with made-up logins and a clock that tests turn."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from broker.accounts import Accounts
from broker.authority.admissions import Admissions
from broker.authority.client_ids import ClientIds
from broker.authority.settings import ClientIdRule
from broker.credentials import Refusal, RefusedLogin, UsersFile
from broker.role_table import RoleTable
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal, TenantId

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class MadeUpLogins:
    """Passwords `user:password` and tokens `token:tenant:role,role:expires_at`."""

    users: UsersFile

    def at_once(self, username: str | None, password: bytes | None) -> Principal | RefusedLogin | None:
        if password is None:
            return RefusedLogin(Refusal.NO_CREDENTIALS)
        if not password.startswith(b"token:"):
            return None
        _, tenant, roles, end = password.decode().split(":")
        names = frozenset(roles.split(","))
        return Principal("jti", TenantId(tenant), names, LoginKind.TOKEN, float(end))

    async def verify(self, username: str, password: bytes) -> Principal | RefusedLogin:
        return self.users.verify(username, password)


@dataclass
class Ended:
    """An enforcer that writes down what it is asked for."""

    calls: list[tuple[str, bool]] = field(default_factory=list)
    fails: bool = False

    async def end(self, client_id: str, *, forget: bool) -> None:
        if self.fails:
            raise ConnectionError("away")
        self.calls.append((client_id, forget))


@dataclass
class Bench:
    """What a test needs."""

    admissions: Admissions
    users: UsersFile
    roles: RoleTable
    ended: Ended
    clock: list[float]
    client_ids: ClientIds


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes the judge; `engine` names the engine that connections can be ended on."""

    def begin(
        rule: ClientIdRule = ClientIdRule.FIRST_COME,
        most: int = 100,
        ender_secret: str = "ender-secret",
        accounts: Accounts | None = None,
    ) -> Bench:
        users = UsersFile(tmp_path / "users.json", CHEAP)
        users.add("gateway", "gw", tenant=INTERNAL_TENANT, roles=("GATEWAY",))
        users.add("alice", "a", tenant=TenantId("acme"), roles=("BUBBLE_UP_READ_CONSUMER", "COMMAND_CLIENT"))
        users.add("bob", "b", tenant=TenantId("globex"), roles=("BUBBLE_UP_READ_CONSUMER",))
        roles = RoleTable(tmp_path / "roles.json")
        ended, clock, ids = Ended(), [1_000.0], ClientIds(tmp_path / "ids.db", most)
        admissions = Admissions(
            MadeUpLogins(users),
            users,
            roles,
            ids,
            rule=rule,
            enforcers={"rabbitmq": ended},
            ender_secret=ender_secret,
            wall_clock=lambda: clock[0],
            accounts=accounts,
        )
        opened.callback(ids.close)
        return Bench(admissions, users, roles, ended, clock, ids)

    with ExitStack() as opened:
        yield begin


@pytest.fixture
def bench(make: Make) -> Bench:
    return make()
