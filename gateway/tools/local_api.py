"""The HTTP API without a gateway: the same application, called in this process, on the site's own registry."""

from __future__ import annotations

import asyncio
import functools
import urllib.parse
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from gateway.api import create_app
from gateway.api.asyncapi import router as asyncapi_router
from gateway.api.keys import router as keys_router
from gateway.credentials import Credentials
from gateway.messaging.api import router as messaging_router
from gateway.messaging.service import MessagingService
from gateway.nic_oscore import Seal
from gateway.registry import Registry
from gateway.registry.opening import open_database
from gateway.settings import GatewaySettings
from meshwire.config import load_config, read_settings
from meshwire.site import Site

__all__ = ["ask_here"]


def ask_here(method: str, path: str, text: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
    """One request; gives status, headers with names in lower case, and text.

    Raises:
        ConfigError: the configuration is wrong.
        RegistryError: the registry can't be opened.
    """
    return asyncio.run(_ask(_application(), method, path, text, headers))


@functools.cache
def _application() -> FastAPI:
    site = Site.default()
    settings = read_settings(GatewaySettings, "gateway", load_config(None))
    registry = Registry(open_database(settings.registry, site), max_devices=settings.registry.max_devices)
    nothing_runs = {"bridge": {"enabled": False, "connected": False}}
    keys, messaging = site.signing_keys(), messaging_router(MessagingService(registry, site))
    more = (messaging, asyncapi_router(settings.bridge), keys_router(registry, Seal(site)))
    return create_app(registry, keys, Credentials(registry), lambda: dict(nothing_runs), more=more)


async def _ask(
    app: FastAPI, method: str, path: str, text: str, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], str]:
    parts = urllib.parse.urlsplit(path)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": urllib.parse.unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("localhost", 80),
        "client": ("localhost", 0),
    }
    status, answered, octets = 500, dict[str, str](), bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": text.encode(), "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update((name.decode().lower(), value.decode()) for name, value in message["headers"])
        elif message["type"] == "http.response.body":
            octets.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, answered, octets.decode()
