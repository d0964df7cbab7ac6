"""`GET /api/events`: everything live as one stream of server-sent events, of one tenant or of all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from gateway.api.callers import Caller, is_admin, tenant_id
from gateway.api.event_streams import STREAMED, EventStreams, sent
from gateway.api.inventory import owned_device
from gateway.live import Dropped, Kind, LiveFeed, Reset, Wanted
from gateway.registry import Registry

__all__ = ["router"]


def router(registry: Registry, feed: LiveFeed, streams: EventStreams) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["live"])

    @routes.get(
        "/api/events",
        response_class=Response,
        responses=STREAMED,
    )
    async def follow_events(
        request: Request,
        caller: Caller,
        kind: Annotated[list[Kind] | None, Query(description="which; several are allowed; default: all")] = None,
        device: Annotated[str | None, Query(description="only of this one")] = None,
        tenant: Annotated[str | None, Query(description="only of this one; for administrators")] = None,
    ) -> Response:
        """What happens from now on, or after `Last-Event-ID`, until the reader goes."""
        whose = caller.tenant
        if tenant is not None and tenant_id(tenant) != whose:
            if not is_admin(caller):
                raise HTTPException(403, "token has no scope admin")
            whose = tenant_id(tenant)
        mac = None if device is None else owned_device(registry, caller, device).mac
        sees_all = is_admin(caller) and tenant is None
        wanted = Wanted(None if sees_all else whose, frozenset(kind or Kind), mac)
        return streams.answer(lines(wanted, request.headers.get("last-event-id")), caller)

    async def lines(wanted: Wanted, last: str | None) -> AsyncGenerator[str]:
        async for item in feed.follow(wanted, last):
            match item:
                case Reset(reason):
                    yield sent({"reason": reason}, "reset")
                case Dropped(missed):
                    yield sent({"reason": "read too slowly", "missed": missed}, "dropped")
                case event:
                    yield sent(event.data, event.kind.value, feed.name(event))

    return routes
