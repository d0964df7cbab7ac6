"""The demo's site: every component of the product in one process, joined by real ptys, UDP and TCP on loopback.

This is an assembly file: with `boards` it is the one place that may import all components, and it decides nothing but
addresses.
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from broker.credentials import UsersFile
from broker.server import Broker
from broker.settings import BrokerSettings, ListenerKind, ListenerSettings
from gateway.gateway import Gateway
from gateway.lab.boards import HOST, Boards, SeatedBoard
from gateway.lab.plan import TENANTS, PlannedDevice
from gateway.lab.subscriber import Arrival, TenantSubscriber
from gateway.lab.view import ReadySite
from gateway.settings import BridgeSettings, GatewaySettings
from meshwire.identity import INTERNAL_TENANT, Role, TenantId
from meshwire.site import Site

__all__ = ["DemoSite"]

_log = structlog.get_logger(__name__)

PREFERRED_PORTS: Final = {"mqtt": 1883, "ws": 8083, "coap": 5683, "http": 8080}
BACK_OFFICE: Final = "backoffice"
TOKEN_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)
TOKEN_TTL_S: Final = 24 * 3600.0


class DemoSite:
    """Broker, gateway, and a NIC with a board for each planned device.

    Args:
        devices: who takes part.
        state_dir: an empty folder (or one of an earlier run) for everything the site must remember.
        seed: for the boards' value sources.
        on_arrival: called for each message that a tenant's MQTT client gets.
        on_replaced: called when a NIC has got another board.
    """

    def __init__(
        self,
        devices: Sequence[PlannedDevice],
        state_dir: Path,
        *,
        seed: int,
        on_arrival: Callable[[Arrival], None],
        on_replaced: Callable[[SeatedBoard], None],
    ) -> None:
        self._devices = devices
        self._site = Site(state_dir)
        self.boards = Boards(devices, self._site, seed, on_replaced)
        """The NICs and their boards."""
        self._on_arrival = on_arrival
        self._claim = _claim()

    async def run(self, on_ready: Callable[[ReadySite], None]) -> None:
        """Start everything in the order of the arrows, say when it is ready, run until cancelled.

        What was started last ends first, so that every client takes its leave of a server that is still there.
        """
        listener = ListenerSettings(host=HOST, port=self._port("mqtt"))
        web = ListenerSettings(kind=ListenerKind.WS, host=HOST, port=self._port("ws"))
        broker = Broker(BrokerSettings(listener=(listener, web)), site=self._site)
        async with _beside(broker.run()):
            await broker.ready.wait()
            gateway = Gateway(self._gateway_settings(broker.ports[0]), site=self._site, more_routes=self._routes)
            async with _beside(gateway.run()):
                await gateway.ready.wait()
                tenants = self._provision(gateway)
                subscribers = [self._subscriber(tenant, broker.ports[0]) for tenant in TENANTS]
                async with _beside(*(subscriber.run() for subscriber in subscribers)):
                    for subscriber in subscribers:
                        await subscriber.ready.wait()
                    async with _beside(self.boards.run(gateway.coap_port)):
                        await self.boards.ready.wait()
                        on_ready(self._ready_site(broker.ports[0], gateway, tenants))
                        await asyncio.Event().wait()

    def _routes(self) -> Sequence[Any]:
        """Imported here: FastAPI takes most of a second, and the gateway asks on a thread."""
        api: Any = importlib.import_module("gateway.lab.api")
        return (api.router(self.boards),)

    def _gateway_settings(self, mqtt_port: int) -> GatewaySettings:
        http = f"{HOST}:{self._port('http')}"
        bridge = BridgeSettings(port=mqtt_port)
        return GatewaySettings(listen=[HOST], port=self._port("coap"), http=http, bridge=bridge)

    def _port(self, name: str) -> int:
        """The usual port when it is free, so that pasted lines stay the same from run to run; else 0: any free one."""
        return PREFERRED_PORTS[name] if self._claim is not None and _is_free(name) else 0

    def _ready_site(self, mqtt_port: int, gateway: Gateway, tenants: dict[str, dict[str, str]]) -> ReadySite:
        return ReadySite(
            mqtt=f"mqtt://{HOST}:{mqtt_port}",
            coap=f"coap://{HOST}:{gateway.coap_port}",
            http=f"http://{HOST}:{gateway.http_port}",
            tenants=tenants,
            caas=self._add_back_office(),
            devices=self._devices,
            ports={board.mac: board.port for board in self.boards.seated()},
            admin_token=self._site.signing_keys().issue(
                INTERNAL_TENANT, (), now=time.time(), ttl_s=TOKEN_TTL_S, scope="api admin"
            ),
        )

    def _token(self, tenant: TenantId) -> str:
        return self._site.signing_keys().issue(tenant, TOKEN_ROLES, now=time.time(), ttl_s=TOKEN_TTL_S)

    def _subscriber(self, tenant: TenantId, port: int) -> TenantSubscriber:
        return TenantSubscriber(tenant, HOST, port, lambda: self._token(tenant), self._on_arrival)

    def _provision(self, gateway: Gateway) -> dict[str, dict[str, str]]:
        """Devices and an OAuth client for each tenant, before the first datum flows."""
        credentials: dict[str, dict[str, str]] = {}
        for tenant in TENANTS:
            client = gateway.registry.add_client(tenant, TOKEN_ROLES)
            credentials[str(tenant)] = {
                "token": self._token(tenant),
                "clientId": client.id,
                "clientSecret": client.secret,
            }
        for device in self._devices:
            gateway.registry.add_device(device.mac, device.tenant)
        return credentials

    def _add_back_office(self) -> dict[str, str]:
        """An internal ("CAAS") user who may read all tenants; the broker reads its users file again by itself."""
        password = secrets.token_urlsafe(18)
        users = UsersFile(self._site.path("broker", "users.json"))
        roles = (Role.BUBBLE_UP_READ_CONSUMER_ALL, Role.BUBBLE_UP_ALERT_CONSUMER_ALL)
        users.add(BACK_OFFICE, password, tenant=INTERNAL_TENANT, roles=roles)
        return {"username": BACK_OFFICE, "password": password}


@asynccontextmanager
async def _beside(*works: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `works` beside the block and end them when the block ends; a failure of one ends the block."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(work) for work in works]
        yield
        for task in started:
            task.cancel()


def _claim() -> socket.socket | None:
    """Whoever has this may take the usual ports; None: another demo has it. To look whether they are free is not enough
    when two demos start together.
    """
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind("\0meshwire-demo-ports")
    except OSError:
        claim.close()
        return None
    return claim


def _is_free(name: str) -> bool:
    kind = socket.SOCK_DGRAM if name == "coap" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, PREFERRED_PORTS[name]))
        except OSError:
            return False
    return True
