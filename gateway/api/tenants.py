"""`/api/tenants` and `/api/clients`: for administrators."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from gateway.api.callers import Admin, tenant_id
from gateway.registry import Registry
from meshwire.identity import Role

__all__ = ["router"]

CLIENT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)
"""Roles of an OAuth client for which none are named."""


class TenantBody(BaseModel):
    """A tenant."""

    id: str


class NewClient(BaseModel):
    """Body of `POST /api/clients`."""

    tenant: str
    roles: list[str] | None = None
    scope: str = "api"


class ClientAnswer(BaseModel):
    """A new client; the secret is shown this once."""

    clientId: str
    clientSecret: str
    tenant: str


def router(registry: Registry) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["tenants"])

    @routes.post("/api/tenants", status_code=201)
    async def add_tenant(body: TenantBody, admin: Admin) -> TenantBody:
        """Make a tenant known."""
        if not registry.add_tenant(tenant_id(body.id)):
            raise HTTPException(409, f"tenant {body.id} exists")
        return body

    @routes.post("/api/clients", status_code=201)
    async def add_client(body: NewClient, admin: Admin) -> ClientAnswer:
        """Make an OAuth client."""
        tenant = tenant_id(body.tenant)
        roles = CLIENT_ROLES if body.roles is None else tuple(body.roles)
        issued = registry.add_client(tenant, roles, scope=body.scope)
        return ClientAnswer(clientId=issued.id, clientSecret=issued.secret, tenant=tenant.value)

    return routes
