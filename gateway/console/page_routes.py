"""The routes of all pages as one list.

FastAPI looks through included routers twice, level by level: with the routes that the gateway has, that takes longer
than it takes to make a page. This one says by a path's beginning whether it is the console's, and looks once.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

__all__ = ["PageRoutes"]

PLACE: Final = "/console"


class PageRoutes(APIRouter):
    """See the module; the route that comes first counts before later ones."""

    def __init__(self) -> None:
        super().__init__(include_in_schema=False)

    def add(self, routes: APIRouter) -> None:
        """Take over the routes of a file of pages; none of them is in the API's document."""
        for route in routes.routes:
            if isinstance(route, APIRoute):
                route.include_in_schema = False
            self.routes.append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Every path of the console is for this router, also one that no page has."""
        path = scope["path"]
        is_ours = scope["type"] == "http" and (path == PLACE or path.startswith(f"{PLACE}/"))
        return Match.FULL if is_ours else Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that `matches`."""
        await self.app(scope, receive, send)
