"""Private engines of other makers to attack, each with an authority of our own, made for the occasion."""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from broker.adapters.connection import BrokerAddress
from broker.adapters.free_ports import free_ports
from broker.adapters.mosquitto.dynsec import MosquittoUser
from broker.adapters.mosquitto.process import PrivateMosquitto
from broker.adapters.rabbitmq.nodes import PrivateCluster
from broker.attack.embedded import ATTACKER, CONSUMER_ROLES, PASSWORD, VICTIM, make_users
from broker.attack.target import Login, LoginFor, Party, Target, fixed_login
from broker.attack.tokens import sign_claims
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings, MosquittoSettings
from broker.settings import BrokerSettings
from meshwire.identity import Role, TenantId
from meshwire.mqtt import ProtocolVersion
from meshwire.site import Site

__all__ = ["MOSQUITTO_LIMITS", "RABBITMQ_LIMITS", "mosquitto_target", "rabbitmq_target", "running_authority"]

MOSQUITTO_LIMITS: Final = MappingProxyType[str, str]({})
RABBITMQ_LIMITS: Final = MappingProxyType[str, str]({})
"""Attacks that an engine can't prevent, with the reason; each is named in the page about it."""


@asynccontextmanager
async def running_authority(authority: Authority) -> AsyncIterator[None]:
    """The authority, serving."""
    task = asyncio.create_task(authority.run())
    ready = asyncio.create_task(authority.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if task.done():
        await task
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def rabbitmq_target(folder: Path, *, size: int = 1) -> AsyncIterator[Target]:
    """RabbitMQ that asks our authority about everything.

    Args:
        folder: for its files.
        size: number of nodes; A connects to the first, B and the service to the last.
    """
    site = Site(folder / "site")
    keys, users = site.signing_keys(), make_users(site.path("broker", "users.json"))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{site.secret('broker-authority')}"
    cluster = PrivateCluster(folder / "rabbitmq", url, size)
    first, last = (BrokerAddress("127.0.0.1", cluster.nodes[number].mqtt_port) for number in (0, -1))
    settings = AuthoritySettings(port=port, check_interval_s=0.2, end_sessions_at={"rabbitmq": str(last)})

    async def revoke() -> None:
        users.add("attacker", PASSWORD, tenant=TenantId(ATTACKER), roles=())

    async with running_authority(Authority(settings, BrokerSettings(), site=site)):
        try:
            await asyncio.to_thread(cluster.start)
            yield Target(
                name="rabbitmq",
                address=first,
                version=ProtocolVersion.V3_1_1,
                attacker=Party(ATTACKER, fixed_login("attacker", PASSWORD)),
                victim=Party(VICTIM, fixed_login("victim", PASSWORD), last),
                service=Party("ssni", fixed_login("gateway", PASSWORD), last),
                token=keys.issue(TenantId(ATTACKER), CONSUMER_ROLES, now=time.time()),
                jwks=site.jwks_path.read_text(),
                issue=lambda tenant, roles, life_s: sign_claims(keys, tenant, roles, life_s, time.time()),
                revoke=revoke,
                grace_s=0.25,
                limits=RABBITMQ_LIMITS,
            )
        finally:
            await asyncio.to_thread(cluster.stop)


@asynccontextmanager
async def mosquitto_target(folder: Path) -> AsyncIterator[Target]:
    """Mosquitto with dynamic security, its users kept in step by our authority, which also exchanges tokens.

    Args:
        folder: for its files.
    """
    site = Site(folder / "site")
    keys, users = site.signing_keys(), make_users(site.path("broker", "users.json"))
    control = ("meshwire-control", site.secret("mosquitto-control"))
    mosquitto = PrivateMosquitto(folder / "mosquitto", _mosquitto_users(), control)
    settings = AuthoritySettings(
        port=0, check_interval_s=0.2, mosquitto=MosquittoSettings(control=str(mosquitto.internal_address))
    )
    authority = Authority(settings, BrokerSettings(), site=site)

    async def revoke() -> None:
        users.add("attacker", PASSWORD, tenant=TenantId(ATTACKER), roles=())

    async def exchanged(token: str, client_id: str) -> Login | None:
        return await asyncio.to_thread(exchange, authority.port, token, client_id)

    await asyncio.to_thread(mosquitto.start)
    try:
        async with running_authority(authority):
            yield Target(
                name="mosquitto",
                address=mosquitto.address,
                version=ProtocolVersion.V5,
                attacker=Party(ATTACKER, fixed_login("attacker", PASSWORD)),
                victim=Party(VICTIM, _named_login("victim")),
                service=Party("ssni", fixed_login("gateway", PASSWORD), mosquitto.internal_address),
                token=keys.issue(TenantId(ATTACKER), CONSUMER_ROLES, now=time.time()),
                jwks=site.jwks_path.read_text(),
                issue=lambda tenant, roles, life_s: sign_claims(keys, tenant, roles, life_s, time.time()),
                show_token=exchanged,
                revoke=revoke,
                grace_s=0.1,
                limits=MOSQUITTO_LIMITS,
            )
    finally:
        await asyncio.to_thread(mosquitto.stop)


def _mosquitto_users() -> list[MosquittoUser]:
    roles = tuple(CONSUMER_ROLES)
    return [
        MosquittoUser("attacker", PASSWORD, TenantId(ATTACKER), roles),
        MosquittoUser("victim", PASSWORD, TenantId(VICTIM), roles),
        MosquittoUser("gateway", PASSWORD, roles=(Role.GATEWAY,)),
    ]


def _named_login(name: str) -> LoginFor:
    """On the tenants' listener the client id is the user name, whatever was asked for."""

    async def login(client_id: str) -> Login:
        return Login(name, name, PASSWORD.encode())

    return login


def exchange(port: int, token: str, client_id: str) -> Login | None:
    """A token for a user of Mosquitto; None: refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request("POST", "/exchange", json.dumps({"token": token, "clientId": client_id}))
        answer = connection.getresponse()
        value = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 200:
        return None
    return Login(value["clientId"], value["username"], value["password"].encode())
