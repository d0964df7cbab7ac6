"""`GET /api/asyncapi.json`: the MQTT topics, as `/api/openapi.json` describes the routes. Both ask for no token."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from gateway.asyncapi import BrokerAddress, asyncapi_document
from gateway.settings import BridgeSettings

__all__ = ["router"]


def router(bridge: BridgeSettings) -> APIRouter:
    """The route.

    Args:
        bridge: says where the broker is.
    """
    routes, broker = APIRouter(tags=["topics"]), BrokerAddress(bridge.host, bridge.port, bridge.scheme)

    @routes.get("/api/asyncapi.json")
    async def show_asyncapi() -> dict[str, Any]:
        """Channels, messages and roles of the site's MQTT topics (AsyncAPI 3)."""
        return asyncapi_document(broker)

    return routes
