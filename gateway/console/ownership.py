"""Which devices a visitor may see: the one question that every page about a device asks; and who it is to commands."""

from __future__ import annotations

from fastapi import HTTPException

from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry
from meshwire.identity import INTERNAL_TENANT, DeviceId, IdentityError, LoginKind, Principal, Role

__all__ = ["device_of", "is_still_theirs", "principal_of"]


def device_of(registry: Registry, visitor: Visitor, text: str) -> Device:
    """A device this visitor may see.

    Raises:
        HTTPException: 404 for all others: another tenant's is like none.
    """
    try:
        device = registry.device(DeviceId.parse(text))
    except IdentityError:
        device = None
    if device is None or visitor.tenant not in (None, device.tenant):
        raise HTTPException(404, "no such device")
    return device


def is_still_theirs(registry: Registry, device: Device) -> bool:
    """Whether a device belongs to whom it did when `device` was looked up; live pages ask again and again."""
    now = registry.device(device.mac)
    return now is not None and now.tenant == device.tenant


def principal_of(visitor: Visitor) -> Principal:
    """The visitor as the party of a command."""
    tenant = visitor.tenant or INTERNAL_TENANT
    scopes = frozenset({"api", "admin"} if visitor.is_admin else {"api"})
    return Principal(visitor.name, tenant, frozenset({Role.COMMAND_CLIENT.value}), LoginKind.PASSWORD, scopes=scopes)
