"""A trigger at work: its subscriptions at the alias's broker, its action for each message, in order.

A message is acknowledged to the broker when its action has succeeded or was given up after `attempts`; so with a kept
session a message is acted upon at least once, whatever stops in between. A message whose connection is lost before is
left to the broker, which sends it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import structlog

from gateway.aliases.actions import ActionFailed, Runner
from gateway.aliases.publisher import Health
from gateway.aliases.records import TriggerSettings
from gateway.aliases.route import Route
from gateway.aliases.subscriber import SubscriberConnection
from gateway.aliases.subscriber_session import Delivery, SubscriberSession
from gateway.mqtt import ConnectionLost, Login, MqttVersion
from gateway.reconnecting import keep_connected

__all__ = ["Trigger", "TriggerCounts"]

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0

_log = structlog.get_logger(__name__)


class TriggerCounts:
    """What a trigger has done since it was started."""

    def __init__(self) -> None:
        self.received = 0
        self.done = 0
        self.failed = 0
        """Given up."""
        self.retried = 0
        self.last_failure = ""


class Trigger:
    """See the module's text.

    Args:
        settings: subscriptions and action.
        route: to the alias's broker.
        login: with the trigger's own client id.
        clean: whether the broker forgets what the trigger has missed.
        runner: runs actions.
    """

    def __init__(self, settings: TriggerSettings, route: Route, login: Login, runner: Runner, *, clean: bool) -> None:
        self.settings = settings
        self.health = Health()
        self.counts = TriggerCounts()
        self._route = route
        self._login = login
        self._clean = clean
        self._runner = runner
        self._session = SubscriberSession([(each.filter, each.qos) for each in settings.subscriptions])
        self._connection: SubscriberConnection | None = None
        self._queue: deque[tuple[SubscriberConnection, Delivery]] = deque()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Listen and act until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work(), name=f"actions of {self.settings.name}")
            tasks.create_task(
                keep_connected(self._login, self._connect, self._serve), name=f"trigger {self.settings.name}"
            )

    def _connect(self, version: MqttVersion) -> SubscriberConnection:
        connection = SubscriberConnection(
            self._route,
            self._login,
            version,
            self._session,
            clean=self._clean,
            health=self.health,
            on_delivery=lambda delivery: self._take(connection, delivery),
        )
        # Before the first packet: a kept session delivers right behind CONNACK.
        self._connection = connection
        return connection

    async def _serve(self, connection: SubscriberConnection) -> ConnectionLost:
        try:
            return await connection.wait_lost()
        finally:
            self._connection = None

    def _take(self, connection: SubscriberConnection, delivery: Delivery) -> None:
        self._queue.append((connection, delivery))
        self._wake.set()

    async def _work(self) -> None:
        while True:
            while self._queue:
                connection, delivery = self._queue.popleft()
                comes_again = delivery.qos and not self._clean
                if connection is not self._connection and comes_again:
                    continue
                self.counts.received += 1
                await self._act(delivery)
                connection.settle(delivery)
            self._wake.clear()
            await self._wake.wait()

    async def _act(self, delivery: Delivery) -> None:
        """Try the action, with growing pauses, until it succeeds or is given up."""
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, self.settings.attempts + 1):
            try:
                await self._runner.run(self.settings, delivery)
            except ActionFailed as failure:
                self.counts.last_failure = str(failure)
                if failure.is_final or attempt == self.settings.attempts:
                    break
                self.counts.retried += 1
            except Exception:  # A fault of ours must not stop the trigger.
                _log.exception("an action failed by our fault", trigger=self.settings.name)
                self.counts.last_failure = "our fault; the log says how"
                break
            else:
                self.counts.done += 1
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self.counts.failed += 1
        _log.warning(
            "a trigger gives a message up",
            trigger=self.settings.name,
            topic=delivery.topic,
            reason=self.counts.last_failure,
        )
