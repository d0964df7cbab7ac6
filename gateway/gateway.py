"""The gateway, put together: which part knows which, one task group, start and end in order.

This is the component's assembly file; it decides nothing but the order. NICs are served as soon as the CoAP socket is
bound; `ready` is set when the HTTP API is, too. The broker may come and go at any time.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, cast

import structlog

from gateway.addresses import Address, parse_endpoint
from gateway.aliases.command import OwnGateway
from gateway.aliases.service import AliasService
from gateway.aliases.store import AliasStore, declared_in
from gateway.client_side import ClientSide
from gateway.commands.service import CommandService
from gateway.credentials import Credentials
from gateway.decoders import decoders_for
from gateway.delivery import answer
from gateway.endpoint import Endpoint
from gateway.errors import RegistryError
from gateway.lane import MAIN, Lane, drain, left_behind, login
from gateway.live import LiveFeed, Places, Sources
from gateway.messages.desk import MessageDesk
from gateway.messaging.service import MessagingService, closed_for
from gateway.nic_oscore import NicGuard, NicKeys, Seal
from gateway.operations.opening import open_desk
from gateway.presence import Presence, presence_of
from gateway.rate import total_rate
from gateway.registry import Registry
from gateway.registry.epochs import new_epoch
from gateway.registry.opening import open_database
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings, NicOscore
from gateway.shared_port import bind_group
from gateway.sink import is_for_guarded_sink, is_for_sink
from gateway.site_use import hold_as_gateway, tell_url
from gateway.sockets import DatagramSockets
from gateway.statistics import Event, Statistics
from gateway.workers import Workers
from meshwire.site import Site

__all__ = ["Gateway"]

HOUSEKEEPING_S: Final = 1.0
FLUSH_EVERY_S: Final = 30.0
FORGET_EVERY_S: Final = 3600.0

_log = structlog.get_logger(__name__)


class Gateway:
    """See the module's text.

    Args:
        settings: section `[gateway]`.
        site: the state folder; default: the user's own.
        more_routes: makes further routers of the HTTP API; asked on a thread when the API is put together.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        site: Site | None = None,
        *,
        more_routes: Callable[[], Iterable[Any]] = tuple,
    ) -> None:
        self.settings = settings
        self._more_routes = more_routes
        self.ready = asyncio.Event()
        """Set when CoAP and HTTP are served."""
        self.coap_port = 0
        """UDP port, once `ready` is set."""
        self.tls_port = 0
        """TCP port of CoAP over TLS, once `ready` is set; 0: it is not served."""
        self.http_port = 0
        """TCP port of the HTTP API, once `ready` is set; 0 when it is switched off."""
        self.http_app: Any = None
        """The HTTP application, once `ready` is set."""
        self.statistics = Statistics()
        self._site = site or Site.default()
        self.registry = Registry(
            open_database(settings.registry, self._site),
            max_devices=settings.registry.max_devices,
            closed=closed_for(settings.instance),
            protects=settings.nic_oscore is not NicOscore.OFF,
        )
        self.messaging = MessagingService(self.registry, self._site)
        self._keys = self._site.signing_keys()
        self._credentials = Credentials(self.registry)
        self._sessions = Sessions(
            lifetime_s=settings.sessions.lifetime_s,
            max_per_account=settings.sessions.max_per_account,
            statistics=self.statistics,
        )
        self._nic_keys = self._open_nic_keys()
        self._registry_failed = False
        self._in_use = -1
        """Descriptor that says that this gateway works on the site."""
        self._started_s = time.time()
        self._client_side: ClientSide | None = None
        self._lane: Lane | None = None
        self._workers: Workers | None = None
        self._aliases = self._aliases_of(MAIN)
        self._commands: CommandService | None = None

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            AddressInUseError: a socket can't be bound.
            GatewayError: state folder or outbox belong to another gateway.
        """
        self._in_use = await asyncio.to_thread(hold_as_gateway, self._site)
        try:
            await self._run()
        finally:
            os.close(self._in_use)

    async def _run(self) -> None:
        lane = self._lane = Lane(0, self.settings, self._site, self.statistics)
        try:
            sockets, others = self._bind()
            commands = self._commands = self._open_commands()
            clients = self._clients(sockets, commands)
            await clients.open()
            self._client_side = clients
            self.tls_port = clients.tls_port
            try:
                await commands.open()
                await self._serve(lane, sockets, others, clients, commands)
            finally:
                self.ready.clear()
                await self._aliases.stop()
                await clients.close()
                await commands.close()
                sockets.close()
                for sock in itertools.chain(*others):
                    sock.close()
        finally:
            lane.close()
            self.registry.close()

    async def _serve(
        self,
        lane: Lane,
        sockets: DatagramSockets,
        others: list[list[socket.socket]],
        clients: ClientSide,
        commands: CommandService,
    ) -> None:
        presence = Presence(
            self.registry, self.settings.presence, login(self.settings.bridge, self._site, "gw-presence"), time.time
        )
        keys, required = self._nic_keys, self.settings.nic_oscore is NicOscore.REQUIRED
        guard = None if keys is None else NicGuard(keys, required=required)
        sink = lane.sink(self.registry, presence.registered, guard)
        tee = self._aliases.tee(lane.outbox)
        endpoint = Endpoint(
            sockets,
            sink,
            tee,
            clients,
            self.statistics,
            sync=lane.sync,
            on_stored=lane.bridge.stored,
            is_own=is_for_sink if guard is None else is_for_guarded_sink,
        )

        def passed_on(octets: bytes, source: Address, position: int) -> None:
            sockets.note(source, position)
            endpoint.passed_on(octets, source)

        workers = self._workers = Workers(self.settings, self._site, others, self.registry, self.statistics, passed_on)
        # Their queues are open before the first notification comes.
        await self._aliases.apply()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(endpoint.run(), name="coap endpoint")
            tasks.create_task(self._aliases.run(), name="aliases")
            tasks.create_task(workers.run(), name="workers")
            tasks.create_task(lane.run(), name="lane")
            if self.settings.bridge.enabled:
                tasks.create_task(lane.bridge.run(), name="bridge")
                tasks.create_task(presence.run(), name="presence")
                for number in left_behind(self._site, len(others)):
                    tasks.create_task(drain(number, self.settings, self._site), name=f"drain outbox {number}")
            for number in self._aliases.store.lanes_left_behind(len(others)):
                tasks.create_task(self._aliases_of(number).drain(), name=f"drain aliases {number}")
            tasks.create_task(commands.run(), name="commands")
            tasks.create_task(self._housekeeping(), name="housekeeping")
            if self.settings.http:
                await self._start_http(tasks)
            tell_url(self._in_use, self._endpoints()["http"] if self.settings.http else "")
            await workers.ready.wait()
            self.ready.set()
            _log.info("gateway is ready", coap=self.coap_port, http=self.http_port or None, workers=len(others) or None)

    # --- parts

    def _bind(self) -> tuple[DatagramSockets, list[list[socket.socket]]]:
        """Our own sockets, and those of each worker."""
        settings = self.settings
        bound: list[socket.socket] = []
        others: list[list[socket.socket]] = []
        if settings.bridge.workers > 1:
            bound, *others = bind_group(
                settings.listen,
                settings.port,
                settings.bridge.workers,
                receive_buffer_octets=settings.receive_buffer_octets,
            )
        sockets = DatagramSockets(
            settings.listen,
            settings.port,
            receive_buffer_octets=settings.receive_buffer_octets,
            statistics=self.statistics,
            bound=bound,
        )
        self.coap_port = sockets.port
        return sockets, others

    def _open_commands(self) -> CommandService:
        return CommandService(
            self.settings,
            self._site.path("gateway", "commands.db"),
            self.registry,
            self.statistics,
            login(self.settings.bridge, self._site, "gw-commands") if self.settings.bridge.enabled else None,
        )

    def _clients(self, sockets: DatagramSockets, commands: CommandService) -> ClientSide:
        return ClientSide(
            self.settings,
            sockets,
            self.registry,
            self._keys.public(),
            self._credentials,
            self._sessions,
            self.statistics,
            commands,
            self._nic_keys,
        )

    def _open_nic_keys(self) -> NicKeys | None:
        if self.settings.nic_oscore is NicOscore.OFF:
            return None
        return NicKeys(self.registry.device, Seal(self._site), partial(new_epoch, self.registry.database))

    def _aliases_of(self, lane: int) -> AliasService:
        store = AliasStore(self._site, declared_in(self.settings))
        return AliasService(store, self.settings.bridge, self.settings.outbox, self._commander(), lane=lane)

    def _commander(self) -> OwnGateway:
        host = self.settings.listen[0]
        return OwnGateway(lambda: str(Address(host, self.coap_port)), self._keys)

    async def _start_http(self, tasks: asyncio.TaskGroup) -> None:
        """Bind at once, so that a taken port is told at once; the slow import runs beside the CoAP side."""
        api: Any = await asyncio.to_thread(importlib.import_module, "gateway.api")
        http_server: Any = await asyncio.to_thread(importlib.import_module, "gateway.http_server")
        await asyncio.to_thread(importlib.import_module, "gateway.console")
        sock = http_server.bind_http(parse_endpoint(self.settings.http))
        self.http_port = sock.getsockname()[1]
        callers = api.Callers(self._keys.public(), self.registry, api.Limits(self.settings.api, self.statistics))
        console = self._console()
        tasks.create_task(console.run(), name="console")
        deliveries: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.deliveries")
        keys: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.keys")
        commands: Any = await asyncio.to_thread(importlib.import_module, "gateway.commands.api")
        aliases: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.aliases")
        messaging: Any = await asyncio.to_thread(importlib.import_module, "gateway.messaging.api")
        asyncapi: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.asyncapi")
        messages: Any = await asyncio.to_thread(importlib.import_module, "gateway.messages.api")
        message_desk = MessageDesk(self.settings.bridge, self.settings.messages)
        tasks.create_task(message_desk.run(), name="messages over http")
        event_streams: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.event_streams")
        live_api: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.live")
        assert self._commands is not None
        feed, streams = LiveFeed(), event_streams.EventStreams(callers)
        tasks.create_task(self._live(feed, console.pulse).run(), name="live events")
        own = (
            live_api.router(self.registry, feed, streams),
            asyncapi.router(self.settings.bridge),
            messages.router(message_desk, streams),
            deliveries.router(self.registry, self.ask),
            keys.router(self.registry, Seal(self._site)),
            commands.router(self._commands.desk, self.registry, streams),
            aliases.router(self._aliases),
            messaging.router(self.messaging),
        )
        more = (*own, *await asyncio.to_thread(self._more_routes))
        self.http_app = api.create_app(
            self.registry,
            self._keys,
            self._credentials,
            self.status,
            first=(console.router,),
            more=more,
            callers=callers,
        )
        tasks.create_task(http_server.HttpServer(self.http_app, sock).run(), name="http api")

    def _live(self, feed: LiveFeed, pulse: Any) -> Sources:
        places: Any = importlib.import_module("gateway.live.places")
        sources = Sources(
            feed,
            Places(
                self.registry,
                partial(presence_of, self.registry, self.settings.presence),
                self.ask,
                self._sessions.all,
                partial(places.site_states, self.status, self.messaging),
                partial(places.site_alarms, pulse),
                bool(self.settings.direct.tenants),
            ),
        )
        assert self._commands is not None
        self._commands.desk.on_event.append(sources.commanded)
        return sources

    def _console(self) -> Any:
        console: Any = importlib.import_module("gateway.console")
        bridge = self.settings.bridge
        own = partial(login, bridge, self._site, "gw-console") if bridge.enabled else None
        desk, line = open_desk(self.settings.operations, own)
        state = partial(presence_of, self.registry, self.settings.presence)
        assert self._commands is not None and self._client_side is not None
        return console.Console(
            self.registry,
            self._credentials,
            self.status,
            state,
            self._endpoints,
            self._commands.desk,
            self.ask,
            self.messaging,
            self._aliases,
            self._client_side.reader,
            desk,
            line,
            lambda: self._keys,
            self.settings.direct.tenants,
            decoders_for(self.settings.bridge.decoders),
        )

    def _endpoints(self) -> dict[str, str]:
        """Where clients connect, as this machine sees it."""
        bridge, host = self.settings.bridge, self.settings.listen[0]
        return {
            "mqtt_host": bridge.host,
            "mqtt_port": str(bridge.port),
            "mqtt_scheme": bridge.scheme,
            "coap": f"coap://{Address(host, self.coap_port)}",
            "http": f"http://{Address(parse_endpoint(self.settings.http).host, self.http_port)}",
        }

    async def _housekeeping(self) -> None:
        """What must happen though nobody asks: sessions end, other processes' changes are seen, places are written."""
        for turn in itertools.count(1):
            await asyncio.sleep(HOUSEKEEPING_S)
            self._sessions.expire(time.time())
            await self._keep_registry(moved_only=turn % int(FLUSH_EVERY_S / HOUSEKEEPING_S) != 0)
            if turn % int(FORGET_EVERY_S / HOUSEKEEPING_S) == 1:
                await self._forget_old_lines()

    async def _keep_registry(self, *, moved_only: bool) -> None:
        """The database may be slow, or away for a while; what is in memory serves on."""
        unsaved = self.registry.take_unsaved(moved_only=moved_only)
        try:
            changes = await asyncio.to_thread(self.registry.read_changes)
            if changes is not None:
                self.registry.show_changes(changes)
            await asyncio.to_thread(self.registry.save, unsaved)
            await asyncio.to_thread(self.registry.audit.save)
            await asyncio.to_thread(self.messaging.keep)
        except (RegistryError, OSError) as error:
            self.registry.keep_unsaved(unsaved)
            if not self._registry_failed:
                _log.warning("registry is not up to date", reason=str(error))
            self._registry_failed = True
        else:
            self._registry_failed = False

    async def _forget_old_lines(self) -> None:
        before_s = time.time() - self.settings.registry.audit_days * 86_400.0
        try:
            await asyncio.to_thread(self.registry.audit.forget, before_s)
        except RegistryError as error:
            _log.warning("old lines of the audit log are kept", reason=str(error))

    # --- for operators

    async def ask(self, question: dict[str, object]) -> list[dict[str, object]]:
        """Put a question about deliveries (`delivery.answer`) to every lane."""
        if self._lane is None or self._workers is None:
            return []
        own, others = await asyncio.gather(answer(self._lane.deliveries, question), self._workers.ask(question))
        return [own, *cast("list[dict[str, object]]", others)]

    def status(self) -> dict[str, object]:
        """What the status page shows; sums over all lanes, and each worker's own figures beside."""
        workers = [] if self._workers is None else self._workers.status()
        statistics = self.statistics if self._workers is None else self.statistics.merged(*self._workers.counts())
        lanes = [] if self._lane is None else [self._lane.status(), *workers]

        def figures(name: str) -> list[float]:
            return [value for lane in lanes if isinstance(value := lane.get(name), int | float)]

        return {
            "upS": round(time.time() - self._started_s, 1),
            "counters": statistics.snapshot(),
            "outbox": {
                **{name: sum(figures(name)) for name in ("depth", "octets", "damaged", "tornOctets")},
                "ageS": max(figures("ageS"), default=0.0),
                "writable": all(lane.get("writable", True) for lane in lanes),
                "maxOctets": self.settings.outbox.max_octets * max(1, len(lanes)),
                "rate": total_rate([lane["rate"] for lane in lanes if "rate" in lane]),
            },
            "bridge": {
                "enabled": self.settings.bridge.enabled,
                "connected": bool(lanes) and all(lane.get("connected") for lane in lanes),
                "trouble": next((found for lane in lanes if (found := lane.get("trouble"))), None),
            },
            "workers": workers,
            **self._aliases.status(),
            "commands": {"open": 0 if self._commands is None else len(self._commands.queue)},
            "losses": dict(statistics.by_reason(Event.LOST)),
            "proxy": {} if self._client_side is None else self._client_side.status(),
            "sessions": len(self._sessions),
            "devices": self.registry.device_count,
        }
