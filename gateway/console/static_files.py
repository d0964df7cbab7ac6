"""Style and script of the console, served from this package's own folder under a name that changes with the content."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, HTTPException, Response

__all__ = ["asset", "router"]

_MEDIA: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NAMES: Final = (
    "console.css",
    "messaging.css",
    "network.css",
    "console.js",
    "commands.js",
    "frames.js",
    "live_tables.js",
    "mesh.js",
    "mesh_layout.js",
    "mqtt_client.js",
    "mqtt_connection.js",
    "mqtt_packets.js",
    "readings.js",
    "requests.js",
    "icon.svg",
)
_CONTENT: Final = {name: (files("gateway.console") / "static" / name).read_bytes() for name in _NAMES}
_TAGS: Final = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in _CONTENT.items()}


def asset(name: str) -> str:
    """The path of a file, with its content's mark: browsers may keep it for ever."""
    return f"/console/static/{_TAGS[name]}/{name}"


def router() -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.get("/console/static/{tag}/{name}")
    async def static_file(tag: str, name: str) -> Response:
        content = _CONTENT.get(name)
        if content is None:
            raise HTTPException(404, "no such file")
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type=_MEDIA[name[name.rindex(".") :]], headers=headers)

    return routes
