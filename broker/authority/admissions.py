"""Who is connected to an engine, and what they may do: the one judgement behind every hook format.

An engine asks about a message by user name and client id only. The user name proves nothing (a token's client may
send any), so rights are looked up by what was proved at the login of that client id, and a question about a client id
that nobody logged in with is denied. A login is refused when its client id is another tenant's, because the engine
would hand over the connection and its session.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

import structlog

from broker.accounts import Accounts
from broker.adapters.takeover import ENDER
from broker.authority.client_ids import ClientIds, Former
from broker.authority.settings import ClientIdRule
from broker.credentials import RefusedLogin, UsersFile
from broker.policy import NOTHING, Permissions, permissions_of
from broker.role_table import RoleTable
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal
from meshwire.topics import TopicFilter

__all__ = ["Admissions", "Admitted", "Denial", "Denied", "Enforcer", "Logins", "REMEMBERED_LOGINS"]

REMEMBERED_LOGINS: Final = 200_000
"""Logins held at once; beyond it the oldest is forgotten, and its engine hears "deny" until it connects again."""

_log = structlog.get_logger()


class Denial(StrEnum):
    """Why a login is denied beyond its credentials."""

    NO_CLIENT_ID = "no-client-id"
    CLIENT_ID_TAKEN = "client-id-taken"
    CLIENT_ID_FORM = "client-id-form"
    CREDENTIALS = "credentials"
    NOT_ENDED = "former-session-not-ended"
    ACCOUNT = "account-not-served"


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal, with words for the log."""

    cause: Denial
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A login that held."""

    engine: str
    client_id: str
    username: str
    principal: Principal
    permissions: Permissions
    fingerprint: str
    """Of the user's record; another one now means that the login no longer holds."""


class Logins(Protocol):
    """What is asked of `broker.credentials.Authenticator`."""

    def at_once(self, username: str | None, password: bytes | None) -> Principal | RefusedLogin | None: ...

    async def verify(self, username: str, password: bytes) -> Principal | RefusedLogin: ...


class Enforcer(Protocol):
    """Ends what an engine still grants to a client."""

    async def end(self, client_id: str, *, forget: bool) -> None:
        """Closes the connection; with `forget` its session and queued messages go, too."""


class Admissions:
    """See the module's text.

    Args:
        logins: checks credentials.
        users, roles: the files of users and roles, to notice changes.
        client_ids: owners of client ids.
        accounts: which accounts the engine's instance serves; None: all. How connections are protected is not known.
        rule: how owners are told.
        enforcers: by engine, for those that can end connections.
        ender_secret: password of our own connections that end others; empty: there are none.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        logins: Logins,
        users: UsersFile,
        roles: RoleTable,
        client_ids: ClientIds,
        *,
        rule: ClientIdRule = ClientIdRule.FIRST_COME,
        enforcers: Mapping[str, Enforcer] | None = None,
        ender_secret: str = "",
        wall_clock: Callable[[], float] = time.time,
        accounts: Accounts | None = None,
    ) -> None:
        self._accounts = accounts
        self._logins = logins
        self._users = users
        self._client_ids = client_ids
        self._rule = rule
        self._enforcers = dict(enforcers or {})
        self._roles = roles
        self._ender_secret = ender_secret
        self._now = wall_clock
        self._admitted: dict[tuple[str, str], Admitted] = {}
        self._owed: dict[tuple[str, str], bool] = {}
        """Connections that must be ended, by engine and client id; True: with their sessions."""

    def __len__(self) -> int:
        return len(self._admitted)

    async def admit(
        self, engine: str, client_id: str, username: str, password: str, *, by_password: bool = False
    ) -> Admitted | Denied:
        """Judges a CONNECT: credentials first, then whose client id it is.

        Args:
            by_password: a token is no login here: beside it the user name, which is all that later questions hold,
                proves nothing.
        """
        if not client_id:
            return Denied(Denial.NO_CLIENT_ID)
        if username == ENDER:
            return self._admit_ender(engine, client_id, password)
        self._users.reload()
        record = self._users.fingerprint(username)  # before the check: a change meanwhile is then noticed
        login = await self._login(username, password)
        if isinstance(login, RefusedLogin):
            return Denied(Denial.CREDENTIALS, login.cause.value)
        if by_password and login.kind is not LoginKind.PASSWORD:
            return Denied(Denial.CREDENTIALS, "a token is no login over AMQP")
        if (words := self._not_served(login)) is not None:
            return Denied(Denial.ACCOUNT, words)
        record = record if login.kind is LoginKind.PASSWORD else ""
        admitted = Admitted(engine, client_id, username, login, permissions_of(login, self._roles.rules), record)
        denied = await self._claim(admitted)
        if denied is not None:
            return denied
        self._remember(admitted)
        return admitted

    def _not_served(self, principal: Principal) -> str | None:
        return None if self._accounts is None else self._accounts.refusal(principal, None)

    def _admit_ender(self, engine: str, client_id: str, password: str) -> Admitted | Denied:
        """Our own connection, by whose client id another one ends; it may do nothing, and owns nothing."""
        if not self._ender_secret or not hmac.compare_digest(password.encode(), self._ender_secret.encode()):
            return Denied(Denial.CREDENTIALS, "reserved user name")
        principal = Principal(ENDER, INTERNAL_TENANT, frozenset(), LoginKind.PASSWORD)
        return Admitted(engine, client_id, ENDER, principal, NOTHING, "")

    async def _login(self, username: str, password: str) -> Principal | RefusedLogin:
        secret = password.encode() if password else None
        answer = self._logins.at_once(username or None, secret)
        return await self._logins.verify(username, password.encode()) if answer is None else answer

    async def _claim(self, admitted: Admitted) -> Denied | None:
        engine, client_id, principal = admitted.engine, admitted.client_id, admitted.principal
        tenant = principal.tenant.value
        if self._rule is ClientIdRule.PREFIX and not _is_own(client_id, tenant):
            return Denied(Denial.CLIENT_ID_FORM)
        former = self._client_ids.former(engine, client_id)
        if former is not None and (former.tenant, former.kind) != (tenant, principal.kind.value):
            return Denied(Denial.CLIENT_ID_TAKEN)
        if former is not None and not covers(admitted.permissions.subscribe, _filters(former)):
            # The engine's session holds subscriptions that were judged by the former rights.
            self._owed[engine, client_id] = True
        if (engine, client_id) in self._owed and not await self._pay(engine, client_id):
            return Denied(Denial.NOT_ENDED)
        self._client_ids.take(engine, client_id, principal, _rights_text(admitted.permissions), self._now())
        if former is None:
            for forgotten in self._client_ids.forget_surplus(engine, tenant):
                self._owed[engine, forgotten] = True
        return None

    def _remember(self, admitted: Admitted) -> None:
        key = (admitted.engine, admitted.client_id)
        self._admitted.pop(key, None)
        self._admitted[key] = admitted
        if len(self._admitted) > REMEMBERED_LOGINS:
            self._admitted.pop(next(iter(self._admitted)))

    def rights(self, engine: str, client_id: str, username: str) -> Permissions:
        """What the client may do now; NOTHING for one that is unknown, or whose login no longer holds."""
        admitted = self._admitted.get((engine, client_id))
        if admitted is None or admitted.username != username:
            return NOTHING
        self._users.reload()
        return NOTHING if self._has_ended(admitted) else admitted.permissions

    def may_use(self, engine: str, client_id: str, username: str) -> bool:
        """Whether there is a login of this client that holds. The reserved name needs the secret, so it is proof."""
        if username == ENDER:
            return bool(self._ender_secret)
        admitted = self._admitted.get((engine, client_id))
        return admitted is not None and admitted.username == username and not self._has_ended(admitted)

    def _fingerprint(self, principal: Principal) -> str:
        return self._users.fingerprint(principal.name) if principal.kind is LoginKind.PASSWORD else ""

    def _has_ended(self, admitted: Admitted) -> bool:
        expires_at = admitted.principal.expires_at
        if expires_at is not None and self._now() >= expires_at:
            return True
        return self._fingerprint(admitted.principal) != admitted.fingerprint

    async def run(self, interval_s: float) -> None:
        """Ends connections whose right has ended, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.sweep()

    async def sweep(self) -> None:
        """One look at every login. An expired token ends the connection, a changed user the session as well."""
        self._users.reload()
        if self._roles.reload():
            self._judge_anew()
        if self._accounts is not None and self._accounts.reload():
            for admitted in list(self._admitted.values()):
                if self._not_served(admitted.principal) is not None:
                    self._dismiss(admitted, forget=False)
        for admitted in [admitted for admitted in self._admitted.values() if self._has_ended(admitted)]:
            self._dismiss(admitted, forget=admitted.principal.kind is LoginKind.PASSWORD)
        for engine, client_id in list(self._owed):
            await self._pay(engine, client_id)

    def _judge_anew(self) -> None:
        """The role table is another one: who may do less than before must log in again."""
        for key, admitted in list(self._admitted.items()):
            rights = permissions_of(admitted.principal, self._roles.rules)
            former = admitted.permissions
            if not covers(rights.subscribe, former.subscribe):
                self._dismiss(admitted, forget=True)
            elif not covers(rights.publish, former.publish):
                self._dismiss(admitted, forget=False)
            else:
                self._admitted[key] = replace(admitted, permissions=rights)

    def _dismiss(self, admitted: Admitted, *, forget: bool) -> None:
        """The login holds no longer; its connection is to be ended."""
        key = (admitted.engine, admitted.client_id)
        self._admitted.pop(key, None)
        self._owed[key] = self._owed.get(key, False) or forget

    async def _pay(self, engine: str, client_id: str) -> bool:
        """Ends what is to be ended; what fails stays owed and is tried again at the next look."""
        forget = self._owed[engine, client_id]
        enforcer = self._enforcers.get(engine)
        try:
            if enforcer is not None:
                await enforcer.end(client_id, forget=forget)
        except (OSError, ValueError, TimeoutError) as error:
            _log.warning("a connection can't be ended", engine=engine, client_id=client_id, error=str(error))
            return False
        self._owed.pop((engine, client_id), None)
        _log.info("a connection was ended", engine=engine, client_id=client_id, with_session=forget)
        return True


def _is_own(client_id: str, tenant: str) -> bool:
    """Tenant ids hold none of the separators, so no tenant's prefix is another one's."""
    return client_id == tenant or client_id.startswith((f"{tenant}:", f"{tenant}.", f"{tenant}/"))


def _rights_text(permissions: Permissions) -> str:
    return "\n".join(sorted(allowed.text for allowed in permissions.subscribe))


def _filters(former: Former) -> tuple[TopicFilter, ...]:
    return tuple(TopicFilter.parse(text) for text in former.rights.split("\n") if text)


def covers(now: tuple[TopicFilter, ...], former: tuple[TopicFilter, ...]) -> bool:
    """Whether everything that was allowed before still is."""
    return all(any(allowed.covers(one) for allowed in now) for one in former)
