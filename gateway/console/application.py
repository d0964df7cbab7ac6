"""The console put together: the router of its pages, and the task that feeds the live figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from gateway.aliases.service import AliasService
from gateway.api.deliveries import Ask
from gateway.commands.desk import CommandDesk
from gateway.console import (
    account_pages,
    address_pages,
    alias_pages,
    client_pages,
    connection_pages,
    explain_pages,
    frame_pages,
    link_pages,
    mesh_pages,
    messaging_pages,
    mqtt_client_pages,
    network_pages,
    nic_commands,
    nic_pages,
    overview_pages,
    people_pages,
    reading_pages,
    request_pages,
    software_pages,
    start_pages,
    static_files,
)
from gateway.console.broker_figures import BrokerFigures
from gateway.console.events import Streams
from gateway.console.frame_feed import FrameFeeds
from gateway.console.mesh_watch import MeshWatch
from gateway.console.page_routes import PageRoutes
from gateway.console.pulse import Pulse
from gateway.console.rendering import Pages
from gateway.console.rows import Row
from gateway.console.serial_boards import SerialBoards
from gateway.console.visitors import Visitors
from gateway.console.watch import Watch
from gateway.credentials import Credentials
from gateway.decoders import DecoderSettings
from gateway.device_reader import DeviceReader
from gateway.messaging.service import MessagingService
from gateway.operations.control_line import ControlLine
from gateway.operations.desk import BrokerDesk
from gateway.presence import PresenceState
from gateway.registry import Device, Registry
from meshwire.tokens import SigningKeys

__all__ = ["Console"]

MOST_PAGES: Final = 100
"""Live pages at once; further ones show the figures of their loading."""
LONGEST_S: Final = 3600.0
"""A browser opens its stream anew after so long, by itself."""


class Console:
    """See the module.

    Args:
        registry: tenants, devices, accounts.
        credentials: verifies passwords.
        status: the gateway's status page as a mapping.
        presence: tells a device's state.
        endpoints: where clients connect, by name (`mqtt`, `coap`, `http`), as URLs.
        desk: takes commands.
        ask: knows where notifications are.
        messaging: instances, accounts, endpoints.
        aliases: MQTT connections to other brokers.
        reader: asks devices for the pages.
        broker: is asked about itself.
        line: what it is asked by; it has to run.
        keys: sign tokens.
        direct_tenants: those whose readings are not stored.
        decoders: of payloads, by device type.
    """

    def __init__(
        self,
        registry: Registry,
        credentials: Credentials,
        status: Callable[[], Mapping[str, Any]],
        presence: Callable[..., PresenceState],
        endpoints: Callable[[], Mapping[str, str]],
        desk: CommandDesk,
        ask: Ask,
        messaging: MessagingService,
        aliases: AliasService,
        reader: DeviceReader,
        broker: BrokerDesk,
        line: ControlLine,
        keys: Callable[[], SigningKeys],
        direct_tenants: Collection[str],
        decoders: Mapping[str, DecoderSettings],
    ) -> None:
        self._line = line
        self.pulse = Pulse(status)
        pages, streams = Pages(Visitors(registry, credentials), time.monotonic), Streams(MOST_PAGES, LONGEST_S)
        self.router = PageRoutes()
        self.router.add(static_files.router())
        self.router.add(account_pages.router(pages))
        self.router.add(people_pages.router(pages, registry))
        watch = Watch(broker)
        self.router.add(
            overview_pages.router(pages, self.pulse, streams, registry, presence, status, BrokerFigures(watch))
        )
        self.router.add(
            start_pages.router(pages, registry, self.pulse, streams, ask, endpoints, SerialBoards(), decoders)
        )

        def row(device: Device, now_s: float) -> Row:
            sighting = registry.sighting(device.mac)
            seen_s = sighting.seen_s if sighting is not None else None
            at = sighting.address if sighting is not None else None
            return Row(device, presence(device, now_s), at, seen_s, registry.place(device.mac))

        self.router.add(network_pages.router(pages, registry, row))
        self._mesh = MeshWatch(registry, row)
        self.router.add(mesh_pages.router(pages, registry, row, self._mesh))
        self.router.add(client_pages.router(pages, registry, endpoints, messaging))
        self._feeds = FrameFeeds(reader)
        self.router.add(frame_pages.router(pages, registry, row, self._feeds))
        self.router.add(request_pages.router(pages, registry, reader))
        self.router.add(link_pages.router(pages, registry, row, reader))
        self.router.add(reading_pages.router(pages, registry, row, ask, decoders))
        self.router.add(nic_commands.router(pages, registry, desk, streams))
        self.router.add(nic_pages.router(pages, registry, row, endpoints, desk, ask))
        self.router.add(explain_pages.router(pages, registry, row, ask))
        self.router.add(software_pages.router(pages, registry, row, desk))
        self.router.add(messaging_pages.router(pages, registry, messaging))
        self.router.add(alias_pages.router(pages, aliases))
        self.router.add(address_pages.router(pages, registry, watch, desk, direct_tenants))
        self.router.add(connection_pages.router(pages, registry, watch))
        self.router.add(mqtt_client_pages.router(pages, registry, messaging, watch, keys))
        self.router.add(account_pages.elsewhere(pages))  # the last one: it takes every path that is left

    async def run(self) -> None:
        """Feed the live figures, and keep the line to the broker, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.pulse.run(), name="pulse")
                tasks.create_task(self._line.run(), name="control line")
                tasks.create_task(self._mesh.run(), name="mesh watch")
        finally:
            await self._feeds.close()
