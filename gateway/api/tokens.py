"""`POST /api/tokens`: an OAuth client's id and secret for a token (dialect part F).

The vendor's JavaScript client leaves `/api` out.
"""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from gateway.api.limits import Limits, address_of
from gateway.credentials import Credentials
from meshwire.tokens import SigningKeys

__all__ = ["router"]

TOKEN_TTL_S: Final = 3600.0


class TokenRequest(BaseModel):
    """Body of `POST /api/tokens`."""

    clientId: str
    clientSecret: str


class TokenAnswer(BaseModel):
    """A token, valid for an hour."""

    accessToken: str


def router(keys: SigningKeys, credentials: Credentials, limits: Limits) -> APIRouter:
    """The route.

    Args:
        keys: sign tokens.
        credentials: verify client secrets.
        limits: slow guessing down.
    """
    routes = APIRouter(tags=["tokens"])

    @routes.post("/tokens", include_in_schema=False)
    @routes.post("/api/tokens")
    async def issue_token(body: TokenRequest, request: Request) -> TokenAnswer:
        """A token for a client id and secret."""
        address = address_of(request)
        limits.check_login(address, body.clientId)
        account = await credentials.verify(body.clientId, body.clientSecret, "client")
        if account is None:
            limits.failed(address, body.clientId)
            raise HTTPException(401, "unknown client, or wrong secret")
        limits.logged_in(address, account.name)
        now = time.time()
        token = keys.issue(
            account.tenant, account.roles, now=now, ttl_s=TOKEN_TTL_S, scope=account.scope, client=account.name
        )
        return TokenAnswer(accessToken=token)

    return routes
