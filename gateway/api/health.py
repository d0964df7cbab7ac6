"""`/api/status`, `/healthz`, `/readyz`: how the gateway is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.api.callers import Admin

__all__ = ["Status", "router"]

Status = Callable[[], dict[str, object]]
"""Gives what the status page shows."""
READY: Final = "ready"
FULL_AT: Final = 0.99
"""Share of an outbox from which on it counts as full: there is no room for a long notification."""


class Readiness(BaseModel):
    """Answer of `GET /healthz/ready`."""

    status: str
    """`ready`, or what is waited for."""
    broker: bool
    """The broker is connected, or none is wanted."""
    outbox: bool
    """Every outbox has room, and its disk takes what comes."""


_NOT_READY: Final[dict[int | str, dict[str, Any]]] = {503: {"model": Readiness, "description": "Not ready"}}


def router(status: Status) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/api/status")
    async def show_status(admin: Admin) -> dict[str, object]:
        """Counters and states."""
        return status()

    @routes.get("/healthz/live", include_in_schema=True)
    @routes.get("/healthz", include_in_schema=False)
    async def healthy() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @routes.get("/healthz/ready", include_in_schema=True, responses=_NOT_READY)
    @routes.get("/readyz", include_in_schema=False)
    async def ready(response: Response) -> Readiness:
        """Whether notifications come through to the broker; 503 when it is away, or an outbox takes no more,
        be it full or its disk."""
        found = _readiness(status())
        response.status_code = 200 if found.status == READY else 503
        return found

    return routes


def _readiness(status: Mapping[str, Any]) -> Readiness:
    bridge = status["bridge"]
    is_connected = bool(bridge["connected"]) or not bridge["enabled"]
    trouble = _trouble_of_outbox(status)
    waits = "" if is_connected else "waiting for the broker"
    words = "; ".join(filter(None, (waits, trouble)))
    return Readiness(status=words or READY, broker=is_connected, outbox=not trouble)


def _trouble_of_outbox(status: Mapping[str, Any]) -> str:
    outbox = status.get("outbox")
    if not outbox:
        return ""
    if not outbox.get("writable", True):
        return "the outbox can't be written"
    return "the outbox is full" if _fullest(outbox, status) >= FULL_AT else ""


def _fullest(outbox: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """How much of the fullest lane's outbox is in use, 0 to 1: a NIC is turned away by its own lane."""
    others = [worker.get("octets", 0) for worker in status.get("workers", ())]
    octets = [outbox["octets"] - sum(others), *others]
    return float(max(octets) * len(octets) / outbox["maxOctets"])
