"""`/api/solutions/{solution}/devices`: a tenant's devices, as the vendor's clients ask for them (dialect part F)."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from gateway.api.callers import Caller, device_id, is_admin, tenant_id, who
from gateway.api.inventory import owned_device
from gateway.registry import Device, Registry

__all__ = ["router"]

DEVICES = "/api/solutions/{solution}/devices"


class DomainInfo(BaseModel):
    """The device's place in the network."""

    nic_macID: str


class NewDevice(BaseModel):
    """Body of `POST …/devices`; `tenant` may be named by an administrator only."""

    deviceType: str = Field(default="MILLI", max_length=64)
    domainInfo: DomainInfo
    tags: list[str] = []
    tenant: str | None = None


class DeviceAnswer(BaseModel):
    """A device; `tenant` is shown to administrators only."""

    id: str
    deviceType: str
    domainInfo: DomainInfo
    address: str | None = None
    seen: float | None = None
    tags: list[str] | None = None
    enabled: bool | None = None
    """Left out unless the device is disabled."""
    tenant: str | None = None


class DeviceList(BaseModel):
    """Answer of `GET …/devices`."""

    devices: list[DeviceAnswer]


class DeviceNamed(BaseModel):
    """Answer of `POST` and `DELETE`: which device it was."""

    id: str


class _Devices:
    """The operations; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(self, solution: str, caller: Caller, deviceType: str | None = None) -> DeviceList:
        """Devices of the token's tenant, or of all for an administrator; 404 when there are none."""
        tenant = None if is_admin(caller) else caller.tenant
        devices = [self._shown(device, tenant is None) for device in self._registry.devices(tenant, deviceType)]
        if not devices:
            raise HTTPException(404, "no devices")
        return DeviceList(devices=devices)

    def add(self, solution: str, body: NewDevice, caller: Caller) -> DeviceNamed:
        """Provision a device."""
        tenant = caller.tenant
        if body.tenant is not None and body.tenant != tenant.value:
            if not is_admin(caller):
                raise HTTPException(403, "token has no scope admin")
            tenant = tenant_id(body.tenant)
        mac = device_id(body.domainInfo.nic_macID)
        self._registry.add_device(mac, tenant, type=body.deviceType, tags=body.tags, by=who(caller))
        return DeviceNamed(id=mac.value)

    def remove(self, solution: str, id: str, caller: Caller) -> DeviceNamed:
        """Forget a device; unknown and foreign ones answer alike. The vendor's client wants a JSON answer."""
        device = owned_device(self._registry, caller, id)
        self._registry.remove_device(device.mac, by=who(caller))
        return DeviceNamed(id=device.mac.value)

    def _shown(self, device: Device, to_admin: bool) -> DeviceAnswer:
        sighting = self._registry.sighting(device.mac)
        return DeviceAnswer(
            id=device.mac.value,
            deviceType=device.type,
            domainInfo=DomainInfo(nic_macID=device.mac.value),
            address=str(sighting.address) if sighting is not None else None,
            seen=sighting.seen_s if sighting is not None else None,
            tags=list(device.tags) or None,
            enabled=None if device.enabled else False,
            tenant=device.tenant.value if to_admin else None,
        )


def router(registry: Registry) -> APIRouter:
    """The routes."""
    devices = _Devices(registry)
    routes = APIRouter(tags=["devices"])
    for path in (DEVICES, f"{DEVICES}/"):
        # Vendor clients write the path with and without the slash; redirects lose the method of some.
        is_plain = path == DEVICES
        routes.add_api_route(
            path, devices.list, methods=["GET"], response_model_exclude_none=True, include_in_schema=is_plain
        )
        routes.add_api_route(path, devices.add, methods=["POST"], status_code=201, include_in_schema=not is_plain)
    routes.add_api_route(f"{DEVICES}/{{id}}", devices.remove, methods=["DELETE"])
    return routes
