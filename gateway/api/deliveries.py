"""`/api/deliveries`, `/api/losses`: where a notification is or how it ended, and what was lost with the reason.

A caller sees what belongs to its tenant; the scope `admin` sees all. Refusals name no tenant, because the device is
unknown or somebody else's: they are shown to administrators, and to the tenant that the device belongs to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel

from gateway.api.callers import Caller, device_id, is_admin
from gateway.registry import Registry

__all__ = ["Ask", "router"]

Ask = Callable[[dict[str, object]], Awaitable[list[dict[str, object]]]]
"""Puts a question to every lane of the gateway (`delivery.answer`)."""
MAX_LISTED = 200

Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="how many, the newest first")]


class DeliveryAnswer(BaseModel):
    """A notification; times are Unix seconds, null: unknown or not yet."""

    key: str
    device: str
    tenant: str
    path: str
    state: str
    """received, outbox, published, acknowledged or dropped; a direct reading may be refused, and its NIC has it."""
    lane: int
    sequence: int
    octets: int
    sampled_at: float
    received_at: float
    published_at: float | None
    acknowledged_at: float | None
    dropped_at: float | None
    """Or, of a direct reading, when it was refused."""
    reason: str | None
    direct: bool = False
    """Whether it is a reading that is not stored."""


class RefusalAnswer(BaseModel):
    """Notifications of a device that were refused for one reason."""

    device: str
    reason: str
    source: str
    times: int
    first_at: float
    last_at: float


class Deliveries(BaseModel):
    """Answer of `GET /api/deliveries`."""

    deliveries: list[DeliveryAnswer]
    refusals: list[RefusalAnswer]


class LossAnswer(BaseModel):
    """A notification that was acknowledged to its NIC and did not reach the broker."""

    sequence: int
    lost_at: float
    reason: str
    tenant: str | None
    device: str | None
    key: str | None
    received_at: float | None


class Losses(BaseModel):
    """Answer of `GET /api/losses`."""

    losses: list[LossAnswer]


def router(registry: Registry, ask: Ask) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["deliveries"])

    @routes.get("/api/deliveries")
    async def show_deliveries(
        caller: Caller, device: str | None = None, key: str | None = None, limit: Limit = 20
    ) -> Deliveries:
        """The newest notifications of a device, or what became of the one with a key."""
        named = device or (key or "").split("/", 1)[0]
        if not named:
            raise HTTPException(422, "name a device or a key")
        mac = device_id(named)
        answers = await ask({"device": mac.value, "key": key, "limit": limit})
        sees_all = is_admin(caller)
        owner = registry.device(mac)
        found = [item for item in _listed(answers, "deliveries") if sees_all or item["tenant"] == caller.tenant.value]
        theirs = sees_all or (owner is not None and owner.tenant == caller.tenant)
        found.sort(key=lambda item: -float(item["received_at"]))
        return Deliveries(
            deliveries=[DeliveryAnswer(**item) for item in found[:limit]],
            refusals=[RefusalAnswer(**item) for item in _listed(answers, "refusals")] if theirs and not key else [],
        )

    @routes.get("/api/losses")
    async def show_losses(caller: Caller, limit: Limit = 100) -> Losses:
        """What was lost, the newest first."""
        tenant = None if is_admin(caller) else caller.tenant.value
        found = _listed(await ask({"losses": tenant, "limit": limit}), "losses")
        found.sort(key=lambda item: -float(item["lost_at"]))
        return Losses(losses=[LossAnswer(**item) for item in found[:limit]])

    return routes


def _listed(answers: list[dict[str, object]], name: str) -> list[dict[str, Any]]:
    """What all lanes have said under one name."""
    result: list[dict[str, Any]] = []
    for answer in answers:
        items = answer.get(name)
        if isinstance(items, list):
            result += items
    return result
