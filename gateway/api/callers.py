"""Who calls the HTTP API, and what a caller may name: tokens, scopes, tenants and MACs in paths and bodies.

`Authorization` carries the token with or without `Bearer` (the vendor's clients write it without). A token's tenant
is its `sub`; the scope `admin` sees all tenants and may name one. Without `api` or `admin` it is not for this API.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader

from gateway.access import ADMIN_SCOPE
from gateway.api.limits import Limits, address_of
from gateway.registry import Registry
from meshwire.identity import DeviceId, IdentityError, Principal, TenantId
from meshwire.tokens import TokenError, VerifyingKeys

__all__ = [
    "API_SCOPE",
    "Admin",
    "Caller",
    "Callers",
    "Token",
    "account_of",
    "device_id",
    "is_admin",
    "tenant_id",
    "who",
]

API_SCOPE: Final = "api"
API_SCOPES: Final = frozenset({API_SCOPE, ADMIN_SCOPE})
AT_A_SHELL: Final = "cli:"
"""Begins the `client_id` of a token that a person at the site's shell has signed."""

Authorization = Annotated[
    str | None,
    Security(
        APIKeyHeader(
            name="Authorization", scheme_name="token", description="the token, with or without Bearer", auto_error=False
        )
    ),
]


class Callers:
    """Authenticates requests.

    Args:
        keys: verify tokens.
        registry: knows whether the client that a token was issued to is still there, and what it may do now.
        limits: bounds for each account, and for tokens that do not hold.
        now_s: Unix time.
    """

    def __init__(
        self, keys: VerifyingKeys, registry: Registry, limits: Limits, now_s: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._registry = registry
        self.limits = limits
        self._now_s = now_s

    async def principal(self, authorization: str | None, address: str) -> Principal:
        """Who asks; 401 without a token that holds, 403 with one that is not for this API, 429 beyond a bound."""
        token = _bare(authorization)
        if not token:
            raise _refused("there is none")
        try:
            principal = await self._as_of_now(self._keys.verify(token, now=self._now_s()))
        except TokenError as error:
            # A token that holds is not held up by others' that don't: one script with an old one would shut out all
            # that come from the same address, the command line among them.
            self.limits.check_login(address)
            self.limits.failed(address)
            raise _refused(str(error)) from None
        self.limits.request_of(account_of(principal))
        if principal.scopes.isdisjoint(API_SCOPES):
            raise HTTPException(403, "token has no scope api")
        return principal

    async def holds(self, principal: Principal) -> bool:
        """Whether what a caller had when it came is still so: for streams, which last."""
        if principal.expires_at is not None and self._now_s() >= principal.expires_at:
            return False
        try:
            return (await self._as_of_now(principal)).scopes == principal.scopes
        except TokenError:
            return False

    async def _as_of_now(self, principal: Principal) -> Principal:
        """A client that was removed has no tokens any more, and one that may do less now, not more by an old token."""
        if not principal.client or principal.client.startswith(AT_A_SHELL):
            return principal
        account = await asyncio.to_thread(self._registry.account, principal.client, "client")
        if account is None or account.tenant != principal.tenant:
            raise TokenError("its client is not known (any more)")
        return replace(
            principal,
            roles=principal.roles & account.roles,
            scopes=principal.scopes & frozenset(account.scope.split()),
        )


def _bare(authorization: str | None) -> str:
    token = (authorization or "").strip()
    return token[7:].strip() if token[:7].lower() == "bearer " else token


async def _token(authorization: Authorization = None) -> str:
    return _bare(authorization)


def _refused(why: str) -> HTTPException:
    return HTTPException(401, f"token refused: {why}", {"WWW-Authenticate": "Bearer"})


async def _principal(request: Request, authorization: Authorization = None) -> Principal:
    callers: Callers = request.app.state.callers
    return await callers.principal(authorization, address_of(request))


async def _admin(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    if not is_admin(principal):
        raise HTTPException(403, "token has no scope admin")
    return principal


Caller = Annotated[Principal, Depends(_principal)]
"""Parameter of a route that asks for a token; 401 without one that holds."""
Admin = Annotated[Principal, Depends(_admin)]
"""Parameter of a route for administrators; 403 without the scope `admin`."""
Token = Annotated[str, Depends(_token)]
"""Parameter of a route that uses the caller's token elsewhere, in the caller's name; stands beside `Caller`."""


def account_of(principal: Principal) -> str:
    """Whose requests are counted together: a client's, or those of all tokens of a tenant that name none."""
    return f"{principal.tenant}/{principal.client}"


def is_admin(principal: Principal) -> bool:
    """Whether the caller may see and change what belongs to any tenant."""
    return ADMIN_SCOPE in principal.scopes


def who(principal: Principal) -> str:
    """The caller, as the audit log names it."""
    return principal.client or f"a token of {principal.tenant}"


def tenant_id(text: str) -> TenantId:
    """A tenant that a caller named; 422 when it can't be one."""
    try:
        return TenantId(text)
    except IdentityError as error:
        raise HTTPException(422, str(error)) from None


def device_id(text: str) -> DeviceId:
    """A device that a caller named, in any spelling; 422 when it can't be one."""
    try:
        return DeviceId.parse(text)
    except IdentityError as error:
        raise HTTPException(422, str(error)) from None
