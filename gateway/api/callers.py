"""Who calls the HTTP API, and what a caller may name: tokens, scopes, tenants and MACs in paths and bodies.

`Authorization` carries the token with or without `Bearer` (the vendor's clients write it without). A token's tenant
is its `sub`; the scope `admin` sees all tenants and may name one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request

from gateway.access import ADMIN_SCOPE
from meshwire.identity import DeviceId, IdentityError, Principal, TenantId
from meshwire.tokens import TokenError, VerifyingKeys

__all__ = ["Admin", "Caller", "Callers", "device_id", "is_admin", "tenant_id", "who"]

Authorization = Annotated[str | None, Header()]


class Callers:
    """Authenticates requests.

    Args:
        keys: verify tokens.
        now_s: Unix time.
    """

    def __init__(self, keys: VerifyingKeys, now_s: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now_s = now_s

    def principal(self, authorization: str | None) -> Principal:
        """Who asks; 401 without a token that holds."""
        token = (authorization or "").strip()
        token = token[7:].strip() if token[:7].lower() == "bearer " else token
        try:
            return self._keys.verify(token, now=self._now_s())
        except TokenError as error:
            raise HTTPException(401, f"token refused: {error}", {"WWW-Authenticate": "Bearer"}) from None


def _principal(request: Request, authorization: Authorization = None) -> Principal:
    callers: Callers = request.app.state.callers
    return callers.principal(authorization)


def _admin(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    if not is_admin(principal):
        raise HTTPException(403, "token has no scope admin")
    return principal


Caller = Annotated[Principal, Depends(_principal)]
"""Parameter of a route that asks for a token; 401 without one that holds."""
Admin = Annotated[Principal, Depends(_admin)]
"""Parameter of a route for administrators; 403 without the scope `admin`."""


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
