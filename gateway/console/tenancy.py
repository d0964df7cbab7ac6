"""Whose part of the broker a visitor looks at: its own tenant's, or, as an administrator, the one it chooses."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import HTTPException

from gateway.console.visitors import Visitor
from gateway.operations.errors import NotOffered, NotReached, OperationsError
from gateway.registry import Registry
from meshwire.identity import INTERNAL_TENANT, IdentityError, TenantId

__all__ = ["choices", "chosen_tenant", "status_of"]


def chosen_tenant(visitor: Visitor, wanted: str) -> str | None:
    """The tenant to show; None: all of them.

    Raises:
        HTTPException: 404 for one that is not the visitor's: it is like none; 422 for what can't be a tenant.
    """
    if visitor.tenant is not None:
        if wanted not in ("", visitor.tenant.value):
            raise HTTPException(404, "no such page")
        return visitor.tenant.value
    if not wanted:
        return None
    try:
        return TenantId(wanted).value
    except IdentityError as error:
        raise HTTPException(422, str(error)) from None


def choices(visitor: Visitor, registry: Registry) -> Sequence[str]:
    """Accounts that the visitor may choose from; the platform's own comes last."""
    if visitor.tenant is not None:
        return [visitor.tenant.value]
    known = {tenant.value for tenant in registry.tenants()} - {INTERNAL_TENANT.value}
    return [*sorted(known), INTERNAL_TENANT.value]


def status_of(error: OperationsError) -> int:
    """HTTP status of a page that shows this."""
    if isinstance(error, NotOffered):
        return 200
    return 503 if isinstance(error, NotReached) else 409
