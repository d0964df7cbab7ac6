"""The alias's own connection: that of the bridge, with a last will, a greeting and a farewell, over any transport."""

from __future__ import annotations

import asyncio
import dataclasses
from types import TracebackType
from typing import Final, Self

from gateway.aliases.records import AliasSettings
from gateway.aliases.route import Route
from gateway.bridge import FREE_IDENTIFIERS
from gateway.mqtt import ConnectFailure, ConnectionLost, Login, MqttVersion
from gateway.mqtt_publisher import PublisherConnection
from gateway.mqtt_session import PublishSession, Verdict
from meshwire.mqtt import NO_PROPERTIES, Connect, Will, publish_parts

__all__ = ["AliasConnection", "Health", "Relay"]

_GREETING: Final = -1
_FAREWELL: Final = -2
_FIRST_RELAY: Final = -3
"""Handles below zero are not the bridge's."""
_GREETING_ID, _FAREWELL_ID, _RELAY_ID = FREE_IDENTIFIERS
_FAREWELL_S: Final = 2.0
"""How long an orderly end waits for the broker to take the on-disconnect message, in seconds."""


@dataclasses.dataclass(slots=True)
class Health:
    """How a connection is, for the status page."""

    is_connected: bool = False
    connects: int = 0
    reason: str = ""
    """Why it is not connected, or was lost last."""


class Relay:
    """Messages of triggers that go out through an alias; outlives its connections, as the session does."""

    def __init__(self) -> None:
        self.connection: AliasConnection | None = None
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._next = _FIRST_RELAY
        self._turn = asyncio.Lock()

    async def publish(self, topic: str, payload: bytes, qos: int, *, retained: bool) -> int:
        """Publish and wait for the broker's verdict, which may come on a later connection; gives its reason code.

        Raises:
            ConnectionLost: the alias is not connected, or the broker is slow to acknowledge.
        """
        async with self._turn:
            if self.connection is None:
                raise ConnectionLost("the alias is not connected")
            handle, self._next = self._next, self._next - 1
            verdict: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._waiting[handle] = verdict
            try:
                if not self.connection.say(handle, _RELAY_ID, topic, payload, qos, retained=retained):
                    raise ConnectionLost("the broker has not acknowledged an earlier message")
                return 0 if not qos else await verdict
            finally:
                del self._waiting[handle]

    def settle(self, verdict: Verdict) -> None:
        """The broker has spoken."""
        future = self._waiting.get(verdict.handle)
        if future is not None and not future.done():
            future.set_result(verdict.code)


class AliasConnection(PublisherConnection):
    """One connection of an alias; see `PublisherConnection`.

    Args:
        alias: will, on-connect and on-disconnect payloads.
        route: how the broker is reached.
        login: as whom.
        version: protocol version.
        session: outlives the connection.
        resume: whether the broker is asked for the session of an earlier connection.
        health: told how it goes.
        relay: messages of triggers.
    """

    def __init__(
        self,
        alias: AliasSettings,
        route: Route,
        login: Login,
        version: MqttVersion,
        session: PublishSession,
        *,
        resume: bool,
        health: Health,
        relay: Relay,
    ) -> None:
        super().__init__(login, version, session, resume=resume)
        self.connect_timeout_s = route.connect_timeout_s
        self._alias = alias
        self._route = route
        self._health = health
        self._relay = relay
        self._farewell: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await super().__aenter__()
        except ConnectFailure as failure:
            self._health.reason = str(failure)
            raise
        self._health.is_connected, self._health.reason = True, ""
        self._health.connects += 1
        if self._alias.on_connect_payload:
            self._announce(_GREETING, _GREETING_ID, self._alias.on_connect_payload)
        self._relay.connection = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._health.is_connected = False
        self._relay.connection = None
        if kind is not None and self._alias.on_disconnect_payload:
            # Only an orderly end is announced: of a lost connection the last will tells.
            await self._say_farewell()
        await super().__aexit__(kind, error, trace)

    async def wait_lost(self) -> ConnectionLost:
        lost = await super().wait_lost()
        self._health.is_connected, self._health.reason = False, str(lost)
        return lost

    async def open_transport(self) -> None:
        await self._route.open(lambda: self)

    def connect_packet(self) -> Connect:
        alias, packet = self._alias, super().connect_packet()
        will = None
        if alias.will_enabled:
            will = Will(alias.will_topic, alias.will_payload.encode(), alias.will_qos, alias.will_retained)
        has_password = bool(alias.username and self.login.password)
        return dataclasses.replace(
            packet,
            username=alias.username or None,
            password=self.login.password.encode() if has_password else None,
            will=will,
        )

    def deliver(self, verdicts: list[Verdict]) -> None:
        """The bridge hears of its own messages only."""
        for verdict in verdicts:
            if verdict.handle <= _FIRST_RELAY:
                self._relay.settle(verdict)
        if self._farewell is None:
            super().deliver([verdict for verdict in verdicts if verdict.handle >= 0])
            return
        # The bridge has let go of this connection: QoS 2 goes on here.
        self.session.release([number for number, handle in self.session.held.items() if handle == _FAREWELL])
        self.flush()
        if any(verdict.handle == _FAREWELL for verdict in verdicts) and not self._farewell.done():
            self._farewell.set_result(None)

    async def _say_farewell(self) -> None:
        self._farewell = asyncio.get_running_loop().create_future()
        self._announce(_FAREWELL, _FAREWELL_ID, self._alias.on_disconnect_payload)
        if not self._alias.will_qos:
            return
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self._farewell
        except TimeoutError:
            pass

    def _announce(self, handle: int, packet_id: int, payload: str) -> None:
        """To the last-will topic, with the last will's QoS and retained flag."""
        alias = self._alias
        self.say(handle, packet_id, alias.will_topic, payload.encode(), alias.will_qos, retained=alias.will_retained)

    def say(self, handle: int, packet_id: int, topic: str, payload: bytes, qos: int, *, retained: bool) -> bool:
        """Publish a message that is none of the bridge's; False while the last one of that identifier is under way."""
        head, tail = publish_parts(topic, payload, qos, retained, NO_PROPERTIES, self.version)
        is_sent = self.session.publish(handle, packet_id, head, tail)
        self.flush()
        return is_sent
