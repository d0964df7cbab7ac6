"""An enabled alias at work: the bridge that empties its queue over the alias's connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.aliases.publisher import AliasConnection, Health, Relay
from gateway.aliases.records import AliasSettings
from gateway.aliases.route import Route
from gateway.aliases.tee import AliasQueue
from gateway.bridge import Bridge
from gateway.mqtt import Login, MqttVersion
from gateway.mqtt_session import PublishSession
from gateway.settings import BridgeSettings

__all__ = ["PublishingAlias"]


class PublishingAlias:
    """See the module's text.

    Args:
        settings: of the alias; its fields fit.
        route: to its broker.
        login: as whom.
        queue: what waits; it outlives this object.
        bridge: categories, window and patience are the bridge's.
    """

    def __init__(
        self, settings: AliasSettings, route: Route, login: Login, queue: AliasQueue, bridge: BridgeSettings
    ) -> None:
        self.settings = settings
        self._is_first = False
        known = queue.outbox.name(f"{login.client_id} ", self._first_name(login))
        # With a queue on disk, a later process goes on with the session: QoS 2 stays exact over a restart.
        self.login = login = replace(login, is_lasting=known is not None)
        self.queue = queue
        self.health = Health()
        self.relay = Relay()
        self._route = route
        # An earlier connection has not settled all that it has read.
        queue.outbox.rewind()
        self._bridge = Bridge(queue.outbox, bridge, login, queue.statistics, maker=queue.packets, connect=self._connect)
        queue.on_stored = self._bridge.stored

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._bridge.run()

    def _first_name(self, login: Login) -> Callable[[], str]:
        def name() -> str:
            self._is_first = True
            return f"{login.client_id} is the client id of this queue"

        return name

    def _connect(self, version: MqttVersion, session: PublishSession, resume: bool) -> AliasConnection:
        # What the broker may have kept under this client id is not of this queue.
        resume, self._is_first = resume and not self._is_first, False
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
