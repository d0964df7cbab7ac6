"""The gateway's CoAP side towards client applications, put together: from their datagrams to devices and back.

This is an assembly file: it knows which part knows which, and opens and closes them in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.access import Access
from gateway.addresses import Address
from gateway.blocks import BlockTable
from gateway.bodies import Bodies, Devices
from gateway.cache import Cache
from gateway.client_exchanges import ClientExchanges
from gateway.coap_context.tls_server import TlsListener, server_context
from gateway.commands.service import CommandService
from gateway.credentials import Credentials
from gateway.deadlines import Deadlines
from gateway.device_exchanges import DeviceExchanges
from gateway.device_reader import DeviceReader
from gateway.device_sockets import DeviceSockets
from gateway.discovery import Discovery
from gateway.exchange import Handler
from gateway.nic_oscore import NicKeys
from gateway.nic_oscore.devices import ProtectedDevices
from gateway.observations import Observations
from gateway.proxy import Proxy
from gateway.reception import Reception
from gateway.registry import Registry
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings, NicOscore, OscoreSettings
from gateway.sockets import DatagramSockets
from gateway.statistics import Statistics
from meshwire.coap import Message
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.tokens import VerifyingKeys

if TYPE_CHECKING:
    from gateway.coap_context.oscore_door import OscoreContext

__all__ = ["ClientSide"]


class ClientSide:
    """See the module's text.

    Args:
        settings: of the whole gateway.
        sockets: of the CoAP port; bound.
        registry: whose device is whose, and where.
        keys: verify tokens.
        credentials: verify names and passwords.
        sessions: open ones.
        statistics: counted here.
        commands: what may wait; sends by the same message layer.
        nic_keys: protect what goes to NICs; None: it goes in plain.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        sockets: DatagramSockets,
        registry: Registry,
        keys: VerifyingKeys,
        credentials: Credentials,
        sessions: Sessions,
        statistics: Statistics,
        commands: CommandService,
        nic_keys: NicKeys | None,
    ) -> None:
        now_s: Callable[[], float] = asyncio.get_running_loop().time
        limits = settings.proxy
        contexts = [_context(one) for one in settings.oscore]
        protected = {context.security: principal for context, principal in contexts}
        access = Access(keys, credentials, sessions, registry, statistics, time.time, protected)
        self._deadlines = Deadlines()
        self._device_sockets = DeviceSockets(loopback_only=not settings.allow_plain_beyond_loopback)
        self._devices = DeviceExchanges(
            self._device_sockets.send, now_s=now_s, deadlines=self._deadlines, max_under_way=limits.max_under_way
        )
        devices: Devices = self._devices
        if nic_keys is not None:
            devices = ProtectedDevices(self._devices, nic_keys, required=settings.nic_oscore is NicOscore.REQUIRED)
        self._bodies = bodies = Bodies(devices, limits.max_body_octets)
        self.cache = Cache(limits.cache_octets)
        """What devices have said and may be said again."""
        commands.deliver_by(bodies, self.cache.changing)
        blocks = BlockTable(limits.max_body_octets, limits.max_bodies_octets)
        self.observations = Observations(bodies, registry, self.cache, self._deadlines, now_s, limits.timeout_s)
        """At devices, each shared by all who observe the same."""
        self.reader = DeviceReader(bodies, self.observations, registry, limits.timeout_s)
        """Asks devices for the console."""
        own = _OwnAddresses(sockets.port, settings.listen)
        self._proxy = proxy = Proxy(
            access,
            registry,
            bodies,
            self.observations,
            self.cache,
            blocks,
            commands.coap,
            self._deadlines,
            now_s,
            domains=settings.domains,
            write_roles=limits.write_roles,
            timeout_s=limits.timeout_s,
            max_observers=limits.max_observers,
            is_own=own,
        )
        discovery = Discovery(
            access, registry, bodies, now_s, domains=settings.domains, timeout_s=min(limits.timeout_s, 10.0)
        )
        self._reception = Reception(access, proxy, discovery, commands.coap, statistics, blocks, now_s)
        handler: Handler = self._reception
        if contexts:
            # Imported where it is needed: the cryptography costs start-up time.
            from gateway.coap_context.oscore_door import OscoreDoor

            handler = OscoreDoor(handler, [context for context, _ in contexts], statistics)
        self._tls: TlsListener | None = None
        if (certificate := settings.tls.certificate_file) is not None:
            context = server_context(certificate, settings.tls.key_file or certificate)
            self._tls = TlsListener(handler, context, settings.tls.listen, settings.tls.port, access.close)
        self._clients = ClientExchanges(
            handler,
            sockets.send,
            statistics,
            now_s=now_s,
            deadlines=self._deadlines,
            empty_ack_s=limits.empty_ack_s,
        )

    async def open(self) -> None:
        """Must be awaited before the first datagram."""
        self._deadlines.open()
        self._device_sockets.start(self._devices.receive, self._devices.unreachable)
        if self._tls is not None:
            await self._tls.open()

    @property
    def tls_port(self) -> int:
        """TCP port of CoAP over TLS; 0: it is not served."""
        return 0 if self._tls is None else self._tls.port

    def status(self) -> dict[str, int]:
        """What is held for clients now."""
        return {
            "observations": len(self.observations),
            **{f"observations{state.capitalize()}": count for state, count in self.observations.by_state().items()},
            "observers": self._proxy.observers,
            "cached": len(self.cache),
            "cachedOctets": self.cache.octets,
        }

    async def close(self) -> None:
        """End every exchange; observations are cancelled at the devices."""
        self.observations.close()
        self._clients.close()
        if self._tls is not None:
            await self._tls.close()
        await self._reception.close()
        await self._bodies.close()
        self._devices.close()
        self._deadlines.close()
        self._device_sockets.close()

    def receive(self, octets: bytes, message: Message, source: Address) -> None:
        """Take one datagram of a client; `message` is what the codec read in it."""
        self._clients.receive(octets, message, source)


def _context(settings: OscoreSettings) -> tuple[OscoreContext, Principal]:
    from gateway.coap_context.oscore_door import load

    principal = Principal(settings.name, TenantId(settings.tenant), frozenset(settings.roles), LoginKind.TOKEN)
    return load(settings.name, settings.folder), principal


class _OwnAddresses:
    """Whether an address is one of the gateway's own CoAP sockets."""

    def __init__(self, port: int, hosts: list[str]) -> None:
        self._port = port
        self._hosts = frozenset(hosts)
        self._everywhere = bool(self._hosts & {"0.0.0.0", "::"})

    def __call__(self, address: Address) -> bool:
        if address.port != self._port:
            return False
        return address.host in self._hosts or (self._everywhere and address.is_loopback)
