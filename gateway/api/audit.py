"""`GET /api/audit`: who changed what. A tenant reads what concerns it, an administrator everything."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel

from gateway.api.callers import Caller, is_admin
from gateway.api.pages import MOST, say_next
from gateway.registry import Registry

__all__ = ["router"]


class Line(BaseModel):
    """One line of the log."""

    id: int
    at: float
    """Unix seconds."""
    by: str
    action: str
    tenant: str
    subject: str
    detail: dict[str, Any]


class Lines(BaseModel):
    """A page, the newest first; header `next_page` is the URL of the next one."""

    entries: list[Line]


def router(registry: Registry) -> APIRouter:
    """The route."""
    log = registry.audit
    routes = APIRouter(tags=["audit"])

    @routes.get("/api/audit")
    def list_audit(
        request: Request,
        response: Response,
        caller: Caller,
        tenant: str | None = None,
        subject: str | None = None,
        action: str | None = None,
        before: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> Lines:
        """Lines of the log; `action` is one, or those of a noun: `device.`."""
        if not is_admin(caller):
            if tenant not in (None, caller.tenant.value):
                raise HTTPException(403, "token has no scope admin")
            tenant = caller.tenant.value
        entries = log.entries(tenant=tenant, subject=subject, action=action, before=before, limit=limit)
        if len(entries) == limit:
            say_next(response.headers, request, entries[-1].id, name="before")
        return Lines(
            entries=[
                Line(
                    id=entry.id,
                    at=entry.at_s,
                    by=entry.by,
                    action=entry.action,
                    tenant=entry.tenant,
                    subject=entry.subject,
                    detail=dict(entry.detail),
                )
                for entry in entries
            ]
        )

    return routes
