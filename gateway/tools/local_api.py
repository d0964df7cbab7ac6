"""The HTTP API without a gateway: the same application, called in this process, on the site's own data."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI

from gateway.aliases.catalogue import Kind
from gateway.aliases.store import AliasStore, declared_in
from gateway.api import Callers, Limits, create_app
from gateway.api.aliases import router as aliases_router
from gateway.api.asyncapi import router as asyncapi_router
from gateway.api.deliveries import router as deliveries_router
from gateway.api.event_streams import EventStreams
from gateway.api.keys import router as keys_router
from gateway.commands.api import router as commands_router
from gateway.commands.service import CommandService
from gateway.credentials import Credentials
from gateway.delivery import answer
from gateway.lane import resting_records
from gateway.messaging.api import router as messaging_router
from gateway.messaging.service import MessagingService
from gateway.nic_oscore import Seal
from gateway.registry import Registry
from gateway.registry.opening import open_database
from gateway.settings import GatewaySettings
from gateway.statistics import Statistics
from gateway.tools.errors import NotReachable
from meshwire.config import load_config, read_settings
from meshwire.site import Site

__all__ = ["ask_here"]

COMMANDS: Final = "/api/solutions/"
"""Where commands are asked for; the vendor's routes there are no verb of the command line."""
_WAIT: Final = re.compile(r"(?<=[?&])wait=[^&]*&?")


def ask_here(
    method: str, path: str, text: str, headers: Mapping[str, str], *, alone: bool = True
) -> tuple[int, dict[str, str], str]:
    """One request; gives status, headers with names in lower case, and text.

    Args:
        method: of HTTP.
        path: with its query.
        text: the body.
        headers: of the request.
        alone: no gateway works on the data, and none can begin meanwhile.

    Raises:
        ConfigError: the configuration is wrong.
        RegistryError: the registry can't be opened.
        NotReachable: a gateway works on the data, and only it may do this.
    """
    if path.startswith(COMMANDS):
        if not alone:
            raise NotReachable(
                "commands belong to the gateway that runs",
                evidence="it works on this state folder",
                fix="leave `--http local` out; give the gateway an HTTP API (gateway.http)",
            )
        return asyncio.run(_ask_commands(method, path, text, headers))
    return asyncio.run(_ask(_application(), method, path, text, headers))


class _Resting:
    """The site of the state folder and configuration that are named now, while no gateway runs."""

    def __init__(self) -> None:
        self.site = Site.default()
        self.settings = read_settings(GatewaySettings, "gateway", load_config(None))
        bound = self.settings.registry.max_devices
        self.registry = Registry(open_database(self.settings.registry, self.site), max_devices=bound)
        limits = Limits(self.settings.api, Statistics())
        self.callers = Callers(self.site.signing_keys().public(), self.registry, limits)
        self.aliases = _RestingAliases(AliasStore(self.site, declared_in(self.settings)))

    def app(self, *more: APIRouter) -> FastAPI:
        """The application over it."""
        nothing_runs = {"bridge": {"enabled": False, "connected": False}}
        keys, messaging = self.site.signing_keys(), MessagingService(self.registry, self.site)
        routers = (
            messaging_router(messaging),
            asyncapi_router(self.settings.bridge),
            keys_router(self.registry, Seal(self.site)),
            aliases_router(self.aliases),
            deliveries_router(self.registry, self._ask),
            *more,
        )
        return create_app(
            self.registry,
            keys,
            Credentials(self.registry),
            lambda: dict(nothing_runs),
            more=routers,
            callers=self.callers,
        )

    def commands(self) -> CommandService:
        """Commands that wait, and orders that the gateway takes up when it starts."""
        path = self.site.path("gateway", "commands.db")
        return CommandService(self.settings, path, self.registry, Statistics(), None, is_reachable=lambda mac: False)

    async def _ask(self, question: dict[str, object]) -> list[dict[str, object]]:
        with resting_records(self.settings.outbox, self.site) as records:
            return [await answer(record, question) for record in records]


class _RestingAliases:
    """Aliases of which none runs."""

    def __init__(self, store: AliasStore) -> None:
        self.store = store

    async def apply(self) -> None:
        """A gateway that starts looks at the store."""

    def state(self, kind: Kind, name: str) -> None:
        """Nothing runs."""


def _resting() -> _Resting:
    """Put together once for a state folder and a configuration as it is now."""
    config = os.environ.get("MESHWIRE_CONFIG", "")
    changed = Path(config).stat().st_mtime_ns if config and Path(config).exists() else 0
    return _put_together(Site.default().state_dir, config, changed)


@functools.lru_cache(maxsize=1)
def _put_together(*what: object) -> _Resting:
    return _Resting()


@functools.lru_cache(maxsize=1)
def _app_of(resting: _Resting) -> FastAPI:
    return resting.app()


def _application() -> FastAPI:
    return _app_of(_resting())


async def _ask_commands(
    method: str, path: str, text: str, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], str]:
    """The commands' database is open for one request; what is accepted is on disk when the answer comes.

    Nothing happens to a command meanwhile, so nobody waits for it.
    """
    resting = _resting()
    service = resting.commands()
    try:
        await service.open()
        streams = EventStreams(resting.callers)
        app = resting.app(commands_router(service.desk, resting.registry, streams))
        answered = await _ask(app, method, _WAIT.sub("", path), text, headers)
        resting.registry.audit.save()
        return answered
    finally:
        await service.close()


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
