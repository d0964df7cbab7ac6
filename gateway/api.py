"""The HTTP API: tokens, devices, tenants, clients, status (dialect part F; wider later).

Importing this module imports FastAPI, which takes most of a second: the assembly does so on a thread while CoAP is
served already. `Authorization` carries the token with or without `Bearer`. A token's tenant is its `sub`; the scope
`admin` sees all tenants and may name one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, Field

from gateway.access import ADMIN_SCOPE
from gateway.credentials import Credentials
from gateway.errors import RegistryError
from gateway.registry import Device, Registry
from meshwire import __version__
from meshwire.identity import DeviceId, IdentityError, Principal, Role, TenantId
from meshwire.tokens import SigningKeys, TokenError, VerifyingKeys

__all__ = ["create_app"]

TOKEN_TTL_S: Final = 3600.0
CLIENT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)
"""Roles of an OAuth client for which none are named."""

Status = Callable[[], dict[str, object]]


class TokenRequest(BaseModel):
    """Body of `POST /api/tokens`."""

    clientId: str
    clientSecret: str


class TokenAnswer(BaseModel):
    """A token, valid for an hour."""

    accessToken: str


class DomainInfo(BaseModel):
    """The device's place in the network."""

    nic_macID: str


class NewDevice(BaseModel):
    """Body of `POST …/devices`; `tenant` may be named by an administrator only."""

    deviceType: str = Field(default="MILLI", max_length=64)
    domainInfo: DomainInfo
    tenant: str | None = None


class DeviceAnswer(BaseModel):
    """A device; `tenant` is shown to administrators only."""

    id: str
    deviceType: str
    domainInfo: DomainInfo
    address: str | None = None
    seen: float | None = None
    tenant: str | None = None


class DeviceList(BaseModel):
    """Answer of `GET …/devices`."""

    devices: list[DeviceAnswer]


class DeviceCreated(BaseModel):
    """Answer of `POST …/devices`."""

    id: str


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


Authorization = Annotated[str | None, Header()]


def _tenant(text: str) -> TenantId:
    try:
        return TenantId(text)
    except IdentityError as error:
        raise HTTPException(422, str(error)) from None


def _mac(text: str) -> DeviceId:
    try:
        return DeviceId.parse(text)
    except IdentityError as error:
        raise HTTPException(422, str(error)) from None


class _Api:
    """The operations; each method is one route."""

    def __init__(self, registry: Registry, keys: SigningKeys, credentials: Credentials, status: Status) -> None:
        self._registry = registry
        self._keys = keys
        self._verifying: VerifyingKeys = keys.public()
        self._credentials = credentials
        self._status = status

    def principal(self, authorization: Authorization = None) -> Principal:
        """Who asks; 401 without a token that holds."""
        token = (authorization or "").strip()
        token = token[7:].strip() if token[:7].lower() == "bearer " else token
        try:
            return self._verifying.verify(token, now=time.time())
        except TokenError as error:
            raise HTTPException(401, f"token refused: {error}") from None

    def admin(self, authorization: Authorization = None) -> Principal:
        """Who asks; 403 without the scope `admin`."""
        principal = self.principal(authorization)
        if ADMIN_SCOPE not in principal.scopes:
            raise HTTPException(403, "token has no scope admin")
        return principal

    async def issue_token(self, body: TokenRequest) -> TokenAnswer:
        """A token for a client id and secret."""
        account = await self._credentials.verify(body.clientId, body.clientSecret, "client")
        if account is None:
            raise HTTPException(401, "unknown client, or wrong secret")
        now = time.time()
        return TokenAnswer(
            accessToken=self._keys.issue(account.tenant, account.roles, now=now, ttl_s=TOKEN_TTL_S, scope=account.scope)
        )

    async def list_devices(
        self, solution: str, authorization: Authorization = None, deviceType: str | None = None
    ) -> DeviceList:
        """Devices of the token's tenant, or of all for an administrator; 404 when there are none."""
        principal = self.principal(authorization)
        tenant = None if ADMIN_SCOPE in principal.scopes else principal.tenant
        devices = [self._shown(device, tenant is None) for device in self._registry.devices(tenant, deviceType)]
        if not devices:
            raise HTTPException(404, "no devices")
        return DeviceList(devices=devices)

    async def add_device(self, solution: str, body: NewDevice, authorization: Authorization = None) -> DeviceCreated:
        """Provision a device."""
        principal = self.principal(authorization)
        tenant = principal.tenant
        if body.tenant is not None and body.tenant != tenant.value:
            self.admin(authorization)
            tenant = _tenant(body.tenant)
        try:
            device = self._registry.add_device(_mac(body.domainInfo.nic_macID), tenant, type=body.deviceType)
        except RegistryError as error:
            raise HTTPException(409, str(error)) from None
        return DeviceCreated(id=device.mac.value)

    async def remove_device(self, solution: str, id: str, authorization: Authorization = None) -> Response:
        """Forget a device; unknown and foreign ones answer alike."""
        principal = self.principal(authorization)
        mac = _mac(id)
        device = self._registry.device(mac)
        if device is None or not (device.tenant == principal.tenant or ADMIN_SCOPE in principal.scopes):
            raise HTTPException(404, "no such device")
        self._registry.remove_device(mac)
        return Response(status_code=204)

    async def add_tenant(self, body: TenantBody, authorization: Authorization = None) -> TenantBody:
        """Make a tenant known."""
        self.admin(authorization)
        if not self._registry.add_tenant(_tenant(body.id)):
            raise HTTPException(409, f"tenant {body.id} exists")
        return body

    async def add_client(self, body: NewClient, authorization: Authorization = None) -> ClientAnswer:
        """Make an OAuth client."""
        self.admin(authorization)
        tenant = _tenant(body.tenant)
        roles = CLIENT_ROLES if body.roles is None else tuple(body.roles)
        issued = self._registry.add_client(tenant, roles, scope=body.scope)
        return ClientAnswer(clientId=issued.id, clientSecret=issued.secret, tenant=tenant.value)

    async def status(self, authorization: Authorization = None) -> dict[str, object]:
        """Counters and states."""
        self.admin(authorization)
        return self._status()

    async def healthy(self) -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    async def ready(self, response: Response) -> dict[str, object]:
        """Whether notifications come through to the broker; 503 when not."""
        bridge = self._status()["bridge"]
        assert isinstance(bridge, dict)
        is_ready = bool(bridge["connected"]) or not bridge["enabled"]
        response.status_code = 200 if is_ready else 503
        return {"status": "ready" if is_ready else "waiting for the broker"}

    def _shown(self, device: Device, to_admin: bool) -> DeviceAnswer:
        sighting = self._registry.sighting(device.mac)
        return DeviceAnswer(
            id=device.mac.value,
            deviceType=device.type,
            domainInfo=DomainInfo(nic_macID=device.mac.value),
            address=str(sighting.address) if sighting is not None else None,
            seen=sighting.seen_s if sighting is not None else None,
            tenant=device.tenant.value if to_admin else None,
        )


def create_app(registry: Registry, keys: SigningKeys, credentials: Credentials, status: Status) -> FastAPI:
    """The application: routes and their documents.

    Args:
        registry: tenants, devices, clients.
        keys: sign and verify tokens.
        credentials: verify client secrets.
        status: gives what the status page shows.
    """
    api = _Api(registry, keys, credentials, status)
    router = APIRouter()
    devices = "/api/solutions/{solution}/devices"
    for path in (devices, f"{devices}/"):
        # Vendor clients write the path with and without the slash; redirects lose the method of some.
        is_plain = path == devices
        router.add_api_route(
            path, api.list_devices, methods=["GET"], response_model_exclude_none=True, include_in_schema=is_plain
        )
        router.add_api_route(path, api.add_device, methods=["POST"], status_code=201, include_in_schema=not is_plain)
    router.add_api_route(f"{devices}/{{id}}", api.remove_device, methods=["DELETE"], status_code=204)
    router.add_api_route("/api/tokens", api.issue_token, methods=["POST"])
    router.add_api_route("/api/tenants", api.add_tenant, methods=["POST"], status_code=201)
    router.add_api_route("/api/clients", api.add_client, methods=["POST"], status_code=201)
    router.add_api_route("/api/status", api.status, methods=["GET"])
    router.add_api_route("/healthz", api.healthy, methods=["GET"])
    router.add_api_route("/readyz", api.ready, methods=["GET"])
    app = FastAPI(title="meshwire gateway", version=__version__, openapi_url="/api/openapi.json", docs_url=None)
    app.include_router(router)
    return app
