"""`/api/devices/{mac}/key`: the OSCORE key of a device's NIC, made and shown once, or taken away."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.api.callers import Caller, who
from gateway.api.inventory import owned_device
from gateway.nic_oscore import Seal
from gateway.registry import Registry
from meshwire.oscore import NicKey

__all__ = ["router"]


class KeyWanted(BaseModel):
    """Body of `POST /api/devices/{mac}/key`."""

    renew: bool = False
    """Make a new key in the place of the one that the device has, which is worthless then."""


def router(registry: Registry, seal: Seal) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["device registry"], prefix="/api/devices")

    @routes.post("/{mac}/key", status_code=201)
    def provision(mac: str, body: KeyWanted, caller: Caller) -> Response:
        """Make a key; the answer is the NIC's file. Nobody can read the key again."""
        device = owned_device(registry, caller, mac)
        key = NicKey.generate(device.mac)
        registry.set_key(device.mac, seal.close(key), renew=body.renew, by=who(caller))
        return Response(key.to_json(), 201, {"Cache-Control": "no-store"}, media_type="application/json")

    @routes.delete("/{mac}/key", status_code=204)
    def withdraw(mac: str, caller: Caller) -> None:
        """Take the key away: what is protected with it is refused from now on."""
        registry.set_key(owned_device(registry, caller, mac).mac, "", by=who(caller))

    return routes
