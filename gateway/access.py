"""Who a client is: its session, or the token that a single request carries; and which devices it may reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from gateway.addresses import Address
from gateway.credentials import Credentials
from gateway.registry import Account, Device, Registry
from gateway.sessions import Session, Sessions
from gateway.statistics import Event, Statistics
from meshwire.identity import DeviceId, LoginKind, Principal, Role
from meshwire.tokens import TokenError, VerifyingKeys

__all__ = ["ADMIN_SCOPE", "Access", "sees_all"]

ADMIN_SCOPE = "admin"
"""Scope of tokens that may administer the site and reach the devices of all tenants."""

_log = structlog.get_logger(__name__)


def sees_all(principal: Principal) -> bool:
    """Whether a party may reach every tenant's devices."""
    return ADMIN_SCOPE in principal.scopes or (Role.ADMIN in principal.roles and principal.kind is LoginKind.PASSWORD)


class Access:
    """Authentication and the one question of authorisation that the proxy asks.

    Args:
        keys: verify tokens.
        credentials: verify names and passwords.
        sessions: open ones.
        registry: whose device is whose.
        statistics: counted here.
        now_s: Unix time.
        protected: who is known by the protection of its messages (`Address.security`).
    """

    def __init__(
        self,
        keys: VerifyingKeys,
        credentials: Credentials,
        sessions: Sessions,
        registry: Registry,
        statistics: Statistics,
        now_s: Callable[[], float],
        protected: Mapping[str, Principal] | None = None,
    ) -> None:
        self._keys = keys
        self._credentials = credentials
        self._sessions = sessions
        self._registry = registry
        self._statistics = statistics
        self._now_s = now_s
        self._protected = protected or {}

    def open_with_token(self, source: Address, token: str) -> bool:
        """Open a session for a token; False when it does not hold."""
        principal = self._verified(token, source)
        if principal is None:
            return False
        self._sessions.open(source, f"tenant {principal.tenant}", principal, self._now_s())
        return True

    async def open_with_password(self, source: Address, user: str, password: str) -> bool:
        """Open a session for a password account; False when name and password do not fit."""
        account = await self._credentials.verify(user, password, "user")
        if account is None:
            self._statistics.count(Event.SESSION, "refused")
            _log.warning("a session was refused", source=str(source), reason="wrong user or password")
            return False
        self._sessions.open(source, f"user {account.name}", principal_of(account), self._now_s())
        return True

    def close(self, source: Address) -> bool:
        """End the source's session; False when there is none."""
        return self._sessions.close(source, self._now_s())

    def session(self, source: Address) -> Session | None:
        """The source's session."""
        return self._sessions.get(source, self._now_s())

    def principal(self, source: Address, access_token: str | None) -> Principal | None:
        """Who asks: by the request's own token, else by the session.

        A token in a request counts only where it can't be read on the way. Who has neither may still be known by the
        protection of the message itself (an OSCORE context is made for one party).
        """
        if access_token is not None:
            return self._verified(access_token, source) if source.keeps_secrets else None
        session = self.session(source)
        return self._protected.get(source.security) if session is None else session.principal

    def device(self, principal: Principal, mac: DeviceId | None) -> Device | None:
        """The device, if there is one and it is the party's: unknown, foreign and disabled are all the same."""
        device = None if mac is None else self._registry.device(mac)
        if device is None or not device.enabled:
            return None
        return device if device.tenant == principal.tenant or sees_all(principal) else None

    def devices(self, principal: Principal) -> list[Device]:
        """All devices that the party may reach."""
        found = self._registry.devices(None if sees_all(principal) else principal.tenant)
        return [device for device in found if device.enabled]

    @staticmethod
    def administers(principal: Principal) -> bool:
        """Whether the party may do everything."""
        return sees_all(principal)

    def _verified(self, token: str, source: Address) -> Principal | None:
        try:
            return self._keys.verify(token.strip(), now=self._now_s())
        except TokenError as error:
            self._statistics.count(Event.SESSION, "refused")
            _log.warning("a token was refused", source=str(source), reason=str(error))
            return None


def principal_of(account: Account) -> Principal:
    """The party that an account is."""
    return Principal(
        name=account.name,
        tenant=account.tenant,
        roles=account.roles,
        kind=LoginKind.PASSWORD,
        scopes=frozenset(account.scope.split()),
    )
