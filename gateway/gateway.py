"""The gateway, put together: which part knows which, one task group, start and end in order.

This is the component's assembly file; it decides nothing but the order. NICs are served as soon as the CoAP socket is
bound; `ready` is set when the HTTP API is, too. The broker may come and go at any time.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.access import Access
from gateway.addresses import parse_endpoint
from gateway.bridge import Bridge
from gateway.coap_context import ClientContext, DeviceContext
from gateway.credentials import Credentials
from gateway.endpoint import Endpoint
from gateway.errors import RegistryError
from gateway.mqtt import Login, client_id
from gateway.outbox import Outbox
from gateway.presence import Presence
from gateway.proxy import Proxy
from gateway.reception import Reception
from gateway.registry import Database, Registry
from gateway.sessions import Sessions
from gateway.settings import Durability, GatewaySettings, RegistrySettings
from gateway.sink import Sink
from gateway.sockets import DatagramSockets
from gateway.statistics import Event, Statistics
from gateway.storage import FileStorage, MemoryStorage
from meshwire.site import Site

__all__ = ["Gateway", "open_database"]

BROKER_SECRET: Final = "gateway-mqtt"
"""Name of the site's secret that is the gateway's password at the broker."""
HOUSEKEEPING_S: Final = 1.0
FLUSH_EVERY_S: Final = 30.0

_log = structlog.get_logger(__name__)


class Gateway:
    """See the module's text.

    Args:
        settings: section `[gateway]`.
        site: the state folder; default: the user's own.
    """

    def __init__(self, settings: GatewaySettings, site: Site | None = None) -> None:
        self.settings = settings
        self.ready = asyncio.Event()
        """Set when CoAP and HTTP are served."""
        self.coap_port = 0
        """UDP port, once `ready` is set."""
        self.http_port = 0
        """TCP port of the HTTP API, once `ready` is set; 0 when it is switched off."""
        self.statistics = Statistics()
        self._site = site or Site.default()
        self.registry = Registry(open_database(settings.registry, self._site))
        self._keys = self._site.signing_keys()
        self._credentials = Credentials(self.registry)
        self._sessions = Sessions(
            lifetime_s=settings.sessions.lifetime_s,
            max_per_account=settings.sessions.max_per_account,
            statistics=self.statistics,
        )
        self._registry_failed = False
        self._started_s = time.time()
        self._outbox: Outbox | None = None
        self._bridge: Bridge | None = None

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            AddressInUseError: a socket can't be bound.
            GatewayError: the outbox belongs to another gateway.
        """
        outbox = self._outbox = self._open_outbox()
        try:
            sockets = self._bind()
            devices = DeviceContext()
            clients = self._clients(devices, sockets)
            await devices.open()
            await clients.open()
            try:
                await self._serve(outbox, sockets, clients)
            finally:
                self.ready.clear()
                await clients.close()
                await devices.close()
                sockets.close()
        finally:
            outbox.close()
            self.registry.flush()

    async def _serve(self, outbox: Outbox, sockets: DatagramSockets, clients: ClientContext) -> None:
        bridge = self._bridge = Bridge(
            outbox, self.settings.bridge, self._login("gw-coap-mqtt-bridge"), self.statistics
        )
        presence = Presence(self.registry, self.settings.presence, self._login("gw-presence"), time.time)
        sink = Sink(
            self.registry,
            outbox,
            self.statistics,
            next_message_id=_message_ids(),
            on_registration=presence.registered,
            retry_after_s=self.settings.outbox.retry_after_s,
        )
        sync = self.settings.outbox.durability is Durability.FSYNC
        endpoint = Endpoint(sockets, sink, outbox, clients, self.statistics, sync=sync, on_stored=bridge.stored)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(endpoint.run(), name="coap endpoint")
            if self.settings.bridge.enabled:
                tasks.create_task(bridge.run(), name="bridge")
                tasks.create_task(presence.run(), name="presence")
            tasks.create_task(self._housekeeping(), name="housekeeping")
            if self.settings.http:
                await self._start_http(tasks)
            self.ready.set()
            _log.info("gateway is ready", coap=self.coap_port, http=self.http_port or None)

    # --- parts

    def _open_outbox(self) -> Outbox:
        limits = self.settings.outbox
        in_memory = limits.durability is Durability.MEMORY
        storage = MemoryStorage() if in_memory else FileStorage(self._site.path("gateway", "outbox"))
        outbox = Outbox(storage, max_octets=limits.max_octets, segment_octets=limits.segment_octets)
        status = outbox.status(int(time.time() * 1000))
        if status.depth or status.torn_octets:
            _log.info("outbox opened", depth=status.depth, age_s=status.age_s, torn_octets=status.torn_octets)
        return outbox

    def _bind(self) -> DatagramSockets:
        sockets = DatagramSockets(
            self.settings.listen,
            self.settings.port,
            receive_buffer_octets=self.settings.receive_buffer_octets,
            statistics=self.statistics,
        )
        self.coap_port = sockets.port
        return sockets

    def _clients(self, devices: DeviceContext, sockets: DatagramSockets) -> ClientContext:
        access = Access(
            self._keys.public(), self._credentials, self._sessions, self.registry, self.statistics, time.time
        )
        limits = self.settings.proxy
        proxy = Proxy(access, self.registry, devices, domains=self.settings.domains, timeout_s=limits.timeout_s)
        reception = Reception(access, proxy, self.statistics)
        return ClientContext(reception, sockets, self.statistics, empty_ack_s=limits.empty_ack_s)

    def _login(self, prefix: str) -> Login:
        bridge = self.settings.bridge
        if bridge.password_file is not None:
            password = bridge.password_file.read_text().strip()
        else:
            password = self._site.secret(BROKER_SECRET)
        identifier = client_id(prefix, bridge.client_number)
        return Login(bridge.host, bridge.port, identifier, bridge.username, password, bridge.keepalive_s)

    async def _start_http(self, tasks: asyncio.TaskGroup) -> None:
        """Bind at once, so that a taken port is told at once; the slow import runs beside the CoAP side."""
        api: Any = await asyncio.to_thread(importlib.import_module, "gateway.api")
        http_server: Any = await asyncio.to_thread(importlib.import_module, "gateway.http_server")
        sock = http_server.bind_http(parse_endpoint(self.settings.http))
        self.http_port = sock.getsockname()[1]
        app = api.create_app(self.registry, self._keys, self._credentials, self.status)
        tasks.create_task(http_server.HttpServer(app, sock).run(), name="http api")

    async def _housekeeping(self) -> None:
        """What must happen though nobody asks: sessions end, other processes' changes are seen, places are written."""
        for turn in itertools.count(1):
            await asyncio.sleep(HOUSEKEEPING_S)
            self._sessions.expire(time.time())
            await self._keep_registry(moved_only=turn % int(FLUSH_EVERY_S / HOUSEKEEPING_S) != 0)

    async def _keep_registry(self, *, moved_only: bool) -> None:
        """The database may be slow, or away for a while; what is in memory serves on."""
        unsaved = self.registry.take_unsaved(moved_only=moved_only)
        try:
            changes = await asyncio.to_thread(self.registry.read_changes)
            if changes is not None:
                self.registry.show_changes(changes)
            await asyncio.to_thread(self.registry.save, unsaved)
        except RegistryError as error:
            self.registry.keep_unsaved(unsaved)
            if not self._registry_failed:
                _log.warning("registry is not up to date", reason=str(error))
            self._registry_failed = True
        else:
            self._registry_failed = False

    # --- for operators

    def status(self) -> dict[str, object]:
        """What the status page shows."""
        now_s = time.time()
        outbox = self._outbox.status(int(now_s * 1000)) if self._outbox is not None else None
        return {
            "upS": round(now_s - self._started_s, 1),
            "counters": self.statistics.snapshot(),
            "outbox": None
            if outbox is None
            else {
                "depth": outbox.depth,
                "octets": outbox.octets,
                "ageS": round(outbox.age_s, 3),
                "maxOctets": self.settings.outbox.max_octets,
                "damaged": outbox.damaged,
                "tornOctets": outbox.torn_octets,
            },
            "bridge": {
                "enabled": self.settings.bridge.enabled,
                "connected": self._bridge is not None and self._bridge.is_connected,
            },
            "losses": dict(self.statistics.by_reason(Event.LOST)),
            "sessions": len(self._sessions),
            "devices": len(self.registry.devices()),
        }


def open_database(settings: RegistrySettings, site: Site) -> Database:
    """The registry's database as configured: PostgreSQL or SQLite by URL, else a file in the state folder."""
    password = settings.password_file.read_text().strip() if settings.password_file is not None else None
    return Database(settings.url or site.path("gateway", "registry.db"), password)


def _message_ids() -> Callable[[], int]:
    """Message IDs in turn from a random one (RFC 7252 section 4.4)."""
    numbers = itertools.count(secrets.randbelow(0x10000))
    return lambda: next(numbers) & 0xFFFF
