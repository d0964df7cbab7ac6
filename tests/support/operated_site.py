"""A site whose broker has a WebSocket listener, addresses and a plan; tenants' clients; and users of the console."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
from console_browser import PASSWORD, Browser, set_up
from console_site import ConsoleSite

from broker.addresses.address import Address
from broker.addresses.book import AddressBook
from broker.server import Broker
from broker.settings import BrokerSettings, ListenerSettings
from broker.tenants import Plan
from gateway.console.visitors import Visitors
from gateway.credentials import Credentials
from meshwire.identity import TenantId

__all__ = ["OperatedSite"]


class OperatedSite(ConsoleSite):
    """See the module. Every account is served: the broker belongs to no instance."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        book = AddressBook(self.site.path("broker", "addresses.json"))
        book.put(Address(tenant="acme", name="orders", type="queue", max_ttl_s=3600))
        book.put(Address(tenant="globex", name="secret-plans", type="queue"))

    def make_broker(self, instance: str, **listener: object) -> Broker:
        settings = BrokerSettings(
            listener=(ListenerSettings(port=0), ListenerSettings(kind="ws", port=0)),
            durability="memory",
            plan={"acme": Plan(max_addresses=4)},
        )
        return Broker(settings, site=self.site)

    @property
    def websocket(self) -> str:
        """Origin of the broker's WebSocket listener."""
        return f"ws://127.0.0.1:{self.broker.ports[1]}"

    @asynccontextmanager
    async def client(self, tenant: str, name: str, *roles: str, version: int = 5) -> AsyncIterator[aiomqtt.Client]:
        """A tenant's MQTT client."""
        token = self.site.signing_keys().issue(TenantId(tenant), roles, now=time.time())
        spoken = aiomqtt.ProtocolVersion.V5 if version == 5 else aiomqtt.ProtocolVersion.V311
        async with aiomqtt.Client(
            "127.0.0.1",
            self.broker.ports[0],
            username="notused",
            password=token,
            identifier=name,
            protocol=spoken,
        ) as client:
            yield client

    async def administrator(self) -> Browser:
        """Signed in; made at the first call."""
        browser = await set_up(Browser(self.gateway.http_port))
        return await browser.go("/console/sign-in", {"name": "ada", "password": PASSWORD, "next": ""})

    async def user_of(self, tenant: str) -> Browser:
        """Signed in as a user of one tenant."""
        registry = self.gateway.registry
        registry.add_tenant(TenantId(tenant))
        await Visitors(registry, Credentials(registry)).add_tenant_user(f"user-{tenant}", PASSWORD, TenantId(tenant))
        browser = Browser(self.gateway.http_port)
        return await browser.go("/console/sign-in", {"name": f"user-{tenant}", "password": PASSWORD, "next": ""})
