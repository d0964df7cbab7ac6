"""An enabled alias at work: its queue, and the bridge that empties it over the alias's connection."""

from __future__ import annotations

from gateway.aliases.packets import AliasPackets
from gateway.aliases.publisher import AliasConnection, Health, Relay
from gateway.aliases.records import AliasSettings
from gateway.aliases.route import Route
from gateway.aliases.tee import AliasQueue
from gateway.bridge import Bridge
from gateway.mqtt import Login, MqttVersion
from gateway.mqtt_session import PublishSession
from gateway.outbox import Outbox
from gateway.settings import BridgeSettings
from gateway.statistics import Statistics
from gateway.storage import Storage

__all__ = ["PublishingAlias"]


class PublishingAlias:
    """See the module's text.

    Args:
        settings: of the alias; its fields fit.
        route: to its broker.
        login: as whom.
        storage: of its queue.
        segment_octets: of a file of the queue.
        bridge: categories, window and patience are the bridge's.
    """

    def __init__(
        self,
        settings: AliasSettings,
        route: Route,
        login: Login,
        storage: Storage,
        *,
        segment_octets: int,
        bridge: BridgeSettings,
    ) -> None:
        self.settings = settings
        self.login = login
        self.health = Health()
        self.relay = Relay()
        self.statistics = Statistics()
        self._route = route
        packets = AliasPackets(settings.publish, bridge)
        outbox = Outbox(storage, max_octets=settings.queue_max_octets, segment_octets=segment_octets)
        self.queue = AliasQueue(settings.name, outbox, packets, self.statistics)
        self._bridge = Bridge(outbox, bridge, login, self.statistics, maker=packets, connect=self._connect)
        self.queue.on_stored = self._bridge.stored

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            await self._bridge.run()
        finally:
            self.queue.close()

    def _connect(self, version: MqttVersion, session: PublishSession, resume: bool) -> AliasConnection:
        return AliasConnection(
            self.settings,
            self._route,
            self.login,
            version,
            session,
            resume=resume,
            health=self.health,
            relay=self.relay,
        )
