"""What is attacked: a broker, two tenants' logins, and whatever else the surroundings lend to the attacks."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from broker.adapters.connection import BrokerAddress
from meshwire.mqtt import ProtocolVersion

__all__ = ["ANY_NAME", "IssueToken", "Login", "LoginFor", "Party", "Target", "fixed_login", "token_in_password"]

ANY_NAME: Final = "notused"
"""User name beside a token, which is not looked at."""


@dataclass(frozen=True, slots=True)
class Login:
    """What one CONNECT says."""

    client_id: str
    username: str | None
    password: bytes | None


LoginFor = Callable[[str], Awaitable[Login]]
"""From a wished client id to a login; some engines give another client id than the wished one."""


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who may log in.

    Args:
        tenant: whose data it may see.
        login: makes its logins.
        address: where it connects; None: where everybody does.
    """

    tenant: str
    login: LoginFor
    address: BrokerAddress | None = None


IssueToken = Callable[[str, tuple[str, ...], float], str]
"""Tenant, roles, life in seconds (negative: it has ended) to a token signed with the site's own key."""


async def token_in_password(token: str, client_id: str) -> Login | None:
    """How a token is shown: as password, with any user name. None: it was refused before the broker."""
    return Login(client_id, ANY_NAME, token.encode())


_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Target:
    """A broker under attack.

    Args:
        name: for the table.
        address: of the tenants' listener.
        version: the newest MQTT version that it speaks.
        attacker: tenant A.
        victim: tenant B: may subscribe to its readings, alarms, presence and command answers, and send commands.
        service: may publish readings of all tenants (role GATEWAY); None: only commands are published as bait.
        token: a valid token of A, to be tampered with; None: there are no tokens.
        jwks: the public key set in JSON, for forgeries.
        issue: signs tokens as the site would.
        show_token: how a token is logged in with.
        revoke: takes every right from tenant A's login.
        grace_s: how long a message may take that should not come.
        limits: attacks that this engine can't prevent, with the reason.
    """

    name: str
    address: BrokerAddress
    version: ProtocolVersion
    attacker: Party
    victim: Party
    service: Party | None = None
    token: str | None = None
    jwks: str | None = None
    issue: IssueToken | None = None
    show_token: Callable[[str, str], Awaitable[Login | None]] = token_in_password
    revoke: Callable[[], Awaitable[None]] | None = None
    grace_s: float = 0.25
    limits: Mapping[str, str] = field(default_factory=lambda: _NONE)


def fixed_login(username: str | None, password: str) -> LoginFor:
    """Logins of one user name and password, with any client id."""

    async def login(client_id: str) -> Login:
        return Login(client_id or f"attack-{secrets.token_hex(6)}", username, password.encode())

    return login
