"""`/api/status`, `/healthz`, `/readyz`: how the gateway is."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from gateway.api.callers import Admin

__all__ = ["Status", "router"]

Status = Callable[[], dict[str, object]]
"""Gives what the status page shows."""


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

    @routes.get("/healthz/ready", include_in_schema=True)
    @routes.get("/readyz", include_in_schema=False)
    async def ready(response: Response) -> dict[str, object]:
        """Whether notifications come through to the broker; 503 when not."""
        bridge = status()["bridge"]
        assert isinstance(bridge, dict)
        is_ready = bool(bridge["connected"]) or not bridge["enabled"]
        response.status_code = 200 if is_ready else 503
        return {"status": "ready" if is_ready else "waiting for the broker"}

    return routes
