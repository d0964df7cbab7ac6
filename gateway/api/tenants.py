"""`/api/tenants` and `/api/clients`: for administrators."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from gateway.api.callers import Admin, tenant_id, who
from gateway.api.pages import Page
from gateway.hashing import new_secret
from gateway.registry import Account, Registry, Tenant
from gateway.registry.tenants import UNSET
from meshwire.identity import Role

__all__ = ["Title", "router"]

CLIENT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)
"""Roles of an OAuth client for which none are named."""
CLIENT: Final = "client"

Title = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A line of text for people."""
Roles = Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]], Field(max_length=64)]
Scope = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_.:-]+( [A-Za-z0-9_.:-]+)*$")]


class TenantBody(BaseModel):
    """A tenant."""

    id: str
    title: Title = ""


class TenantAnswer(BaseModel):
    """A tenant, and what it has."""

    id: str
    title: str
    created: float
    maxDevices: int | None
    """Its own bound; null: as the gateway's configuration says."""
    devices: int
    clients: int


class TenantList(BaseModel):
    """Answer of `GET /api/tenants`."""

    tenants: list[TenantAnswer]


class TenantChange(BaseModel):
    """What is to change of a tenant; what is left out stays."""

    title: Title | None = None
    maxDevices: Annotated[int | None, Field(ge=0, le=100_000_000)] = None
    """Null: as the gateway's configuration says."""


class NewClient(BaseModel):
    """Body of `POST /api/clients`."""

    tenant: str
    roles: Roles | None = None
    scope: Scope = "api"


class ClientAnswer(BaseModel):
    """A new client, or a new secret; it is shown this once."""

    clientId: str
    clientSecret: str
    tenant: str


class ClientRecord(BaseModel):
    """A client without its secret, which nobody knows."""

    clientId: str
    tenant: str
    roles: list[str]
    scope: str
    created: float


class ClientList(BaseModel):
    """Answer of `GET /api/clients`."""

    clients: list[ClientRecord]


class ClientChange(BaseModel):
    """What is to change of a client; what is left out stays."""

    roles: Roles | None = None
    scope: Scope | None = None


class _Tenants:
    """The operations on tenants; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(self, admin: Admin, page: Page) -> TenantList:
        """All tenants, in the order of their ids."""
        tenants = page.of(self._registry.tenant_records(), lambda tenant: tenant.id.value)
        return TenantList(tenants=[self._shown(tenant) for tenant in tenants])

    def add(self, body: TenantBody, admin: Admin) -> TenantBody:
        """Make a tenant known."""
        if not self._registry.add_tenant(tenant_id(body.id), title=body.title, by=who(admin)):
            raise HTTPException(409, f"tenant {body.id} exists")
        return body

    def show(self, id: str, admin: Admin) -> TenantAnswer:
        """One tenant."""
        tenant = self._registry.tenant(tenant_id(id))
        if tenant is None:
            raise HTTPException(404, "no such tenant")
        return self._shown(tenant)

    def change(self, id: str, body: TenantChange, admin: Admin) -> TenantAnswer:
        """Change a tenant's title, or how many devices it may have."""
        if self._registry.tenant(tenant_id(id)) is None:
            raise HTTPException(404, "no such tenant")
        bound = body.maxDevices if "maxDevices" in body.model_fields_set else UNSET
        self._registry.set_tenant(tenant_id(id), title=body.title, max_devices=bound, by=who(admin))
        return self.show(id, admin)

    def remove(self, id: str, admin: Admin) -> None:
        """Forget a tenant that has neither devices nor clients."""
        if not self._registry.remove_tenant(tenant_id(id), by=who(admin)):
            raise HTTPException(404, "no such tenant")

    def _shown(self, tenant: Tenant) -> TenantAnswer:
        return TenantAnswer(
            id=tenant.id.value,
            title=tenant.title,
            created=tenant.created_s,
            maxDevices=tenant.max_devices,
            devices=len(self._registry.devices(tenant.id)),
            clients=len(self._registry.account_records(CLIENT, tenant.id)),
        )


class _Clients:
    """The operations on OAuth clients; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(self, admin: Admin, page: Page, tenant: str | None = None) -> ClientList:
        """All clients, or a tenant's, in the order of their ids."""
        of = None if tenant is None else tenant_id(tenant)
        clients = page.of(self._registry.account_records(CLIENT, of), lambda account: account.name)
        return ClientList(clients=[_shown(account) for account in clients])

    def add(self, body: NewClient, admin: Admin) -> ClientAnswer:
        """Make an OAuth client."""
        tenant = tenant_id(body.tenant)
        roles = CLIENT_ROLES if body.roles is None else tuple(body.roles)
        issued = self._registry.add_client(tenant, roles, scope=body.scope, by=who(admin))
        return ClientAnswer(clientId=issued.id, clientSecret=issued.secret, tenant=tenant.value)

    def show(self, id: str, admin: Admin) -> ClientRecord:
        """One client."""
        return _shown(self._known(id))

    def change(self, id: str, body: ClientChange, admin: Admin) -> ClientRecord:
        """Change roles or scope; what is taken away no longer holds here, in a broker until the client's tokens end."""
        self._known(id)
        return _shown(self._registry.set_account(id, CLIENT, roles=body.roles, scope=body.scope, by=who(admin)))

    def renew(self, id: str, admin: Admin) -> ClientAnswer:
        """A new secret; the former one no longer holds."""
        account, secret = self._known(id), new_secret()
        self._registry.set_account(id, CLIENT, secret=secret, by=who(admin))
        return ClientAnswer(clientId=id, clientSecret=secret, tenant=account.tenant.value)

    def remove(self, id: str, admin: Admin) -> None:
        """Forget a client; its tokens hold no more here, in a broker until they end, an hour at most."""
        self._known(id)
        self._registry.remove_account(id, CLIENT, by=who(admin))

    def _known(self, id: str) -> Account:
        account = self._registry.account(id, CLIENT)
        if account is None:
            raise HTTPException(404, "no such client")
        return account


def _shown(account: Account) -> ClientRecord:
    return ClientRecord(
        clientId=account.name,
        tenant=account.tenant.value,
        roles=sorted(account.roles),
        scope=account.scope,
        created=account.created_s,
    )


def router(registry: Registry) -> APIRouter:
    """The routes."""
    tenants, clients = _Tenants(registry), _Clients(registry)
    routes = APIRouter(tags=["tenants"], prefix="/api")
    routes.add_api_route("/tenants", tenants.list, methods=["GET"], name="list_tenants")
    routes.add_api_route("/tenants", tenants.add, methods=["POST"], status_code=201, name="add_tenant")
    routes.add_api_route("/tenants/{id}", tenants.show, methods=["GET"], name="show_tenant")
    routes.add_api_route("/tenants/{id}", tenants.change, methods=["PATCH"], name="change_tenant")
    routes.add_api_route("/tenants/{id}", tenants.remove, methods=["DELETE"], status_code=204, name="remove_tenant")
    routes.add_api_route("/clients", clients.list, methods=["GET"], name="list_clients")
    routes.add_api_route("/clients", clients.add, methods=["POST"], status_code=201, name="add_client")
    routes.add_api_route("/clients/{id}", clients.show, methods=["GET"], name="show_client")
    routes.add_api_route("/clients/{id}", clients.change, methods=["PATCH"], name="change_client")
    routes.add_api_route("/clients/{id}", clients.remove, methods=["DELETE"], status_code=204, name="remove_client")
    routes.add_api_route("/clients/{id}/secret", clients.renew, methods=["POST"], name="renew_client_secret")
    return routes
