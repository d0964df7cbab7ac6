"""A broker of our own to attack: on a free port of the loopback, with keys and users made for the occasion."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher

from broker.adapters.connection import BrokerAddress
from broker.attack.target import Login, Party, Target, fixed_login
from broker.attack.tokens import sign_claims
from broker.credentials import UsersFile
from broker.server import Broker
from broker.settings import BrokerSettings, ListenerSettings
from meshwire.identity import LoginKind, Role, TenantId
from meshwire.mqtt import ProtocolVersion
from meshwire.site import Site
from meshwire.tokens import SigningKeys

__all__ = ["ATTACKER", "CONSUMER_ROLES", "VICTIM", "embedded_target", "make_users"]

ATTACKER: Final = "acme"
VICTIM: Final = "globex"
CONSUMER_ROLES: Final[tuple[str, ...]] = (
    Role.BUBBLE_UP_READ_CONSUMER,
    Role.BUBBLE_UP_ALERT_CONSUMER,
    Role.PRESENCE_CONSUMER,
    Role.COMMAND_CLIENT,
)
PASSWORD: Final = "only-for-this-run"
CHEAP: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""The passwords are thrown away with the folder."""


def make_users(path: Path, attacker_roles: tuple[str, ...] = CONSUMER_ROLES) -> UsersFile:
    """The users of an attack: one of each tenant, and the service."""
    users = UsersFile(path, CHEAP)
    users.add("attacker", PASSWORD, tenant=TenantId(ATTACKER), roles=attacker_roles)
    users.add("victim", PASSWORD, tenant=TenantId(VICTIM), roles=CONSUMER_ROLES)
    users.add("gateway", PASSWORD, roles=(Role.GATEWAY,))
    return users


def token_login(keys: SigningKeys, tenant: str) -> Party:
    """A party that logs in with a fresh token each time."""

    async def login(client_id: str) -> Login:
        token = keys.issue(TenantId(tenant), CONSUMER_ROLES, now=time.time())
        return Login(client_id, "notused", token.encode())

    return Party(tenant, login)


@asynccontextmanager
async def embedded_target(
    folder: Path,
    *,
    kind: LoginKind = LoginKind.PASSWORD,
    version: ProtocolVersion = ProtocolVersion.V5,
    attacker_roles: tuple[str, ...] = CONSUMER_ROLES,
) -> AsyncIterator[Target]:
    """A running broker with everything that the attacks can use.

    Args:
        folder: for its files.
        kind: whether the tenants log in by password or by token.
        version: that the attacks speak.
        attacker_roles: others than a tenant's make the attacks succeed, which shows that they can.
    """
    site = Site(folder)
    keys, users = site.signing_keys(), make_users(site.path("broker", "users.json"), attacker_roles)
    settings = BrokerSettings(listener=(ListenerSettings(port=0),), sys_interval_s=1.0)
    broker = Broker(settings, site=site, hasher=CHEAP)
    task = asyncio.create_task(broker.run())
    ready = asyncio.create_task(broker.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if task.done():
        await task

    async def revoke() -> None:
        users.add("attacker", PASSWORD, tenant=TenantId(ATTACKER), roles=())

    def party(name: str, tenant: str) -> Party:
        return Party(tenant, fixed_login(name, PASSWORD))

    by_token = kind is LoginKind.TOKEN
    try:
        yield Target(
            name="embedded",
            address=BrokerAddress("127.0.0.1", broker.ports[0]),
            version=version,
            attacker=token_login(keys, ATTACKER) if by_token else party("attacker", ATTACKER),
            victim=token_login(keys, VICTIM) if by_token else party("victim", VICTIM),
            service=party("gateway", "ssni"),
            token=keys.issue(TenantId(ATTACKER), CONSUMER_ROLES, now=time.time()),
            jwks=site.jwks_path.read_text(),
            issue=lambda tenant, roles, life_s: sign_claims(keys, tenant, roles, life_s, time.time()),
            revoke=None if by_token else revoke,
            grace_s=0.1,
        )
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
