"""Direct telemetry: readings of some tenants go to the broker without being stored, and the NIC hears whether somebody
took them.

Decides which notifications are direct (readings of the tenants that the settings name; alarms are always stored), and
what the broker's verdict means: taken, or "keep it" (5.03) because no receiver is there, the receivers are busy, or
there is no answer in time. On an anycast or multicast address of the broker the verdict is the receivers' own; on any
other topic of MQTT 5 it says whether somebody is subscribed. A broker of MQTT 3.1.1 has no word for "nobody".

Does not: know CoAP (`sink.py`), connect (`reconnecting.py`), know packets (`mqtt_session.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.direct_record import DirectReading, DirectRecord
from gateway.envelope import StoredNotification
from gateway.mqtt import ConnectionLost, Login, MqttVersion
from gateway.mqtt_publisher import PublisherConnection
from gateway.mqtt_session import PublishSession, Verdict
from gateway.publication import Publisher, categories_for, publication_parts
from gateway.reconnecting import keep_connected
from gateway.settings import BridgeSettings, DirectSettings
from gateway.statistics import Event, Statistics
from meshwire.notification import Category, device_type

__all__ = ["DirectDelivery", "Outcome"]

_TAKEN: Final = 0x00
_ANY_FAILURE: Final = range(0x80, 0x100)
"""Nothing is sent again from here: the NIC has it."""
_IDENTIFIERS: Final = 65_535
_REASONS: Final = {
    0x10: "no-receiver",
    0x87: "not-authorized",
    0x97: "receivers-busy",
}
"""MQTT 5.0 reason codes of PUBACK; the rest is "refused-by-broker"."""

Outcome = Callable[[str], None]
"""Told once: an empty text, or why the NIC has to keep the notification."""


@dataclass(slots=True)
class _Waiting:
    """A reading whose verdict has not come."""

    reading: DirectReading
    outcome: Outcome
    timer: asyncio.TimerHandle


class DirectDelivery:
    """See the module's text.

    Args:
        settings: whose readings are direct, and how long a verdict may take.
        bridge: categories, rules and decoders, as for stored notifications.
        login: towards the broker; the client id is this part's own.
        statistics: counted here.
        record: told of each reading and what became of it.
    """

    def __init__(
        self,
        settings: DirectSettings,
        bridge: BridgeSettings,
        login: Login,
        statistics: Statistics,
        record: DirectRecord,
    ) -> None:
        self.retry_after_s = settings.retry_after_s
        self._settings = settings
        self._bridge = bridge
        self._login = login
        self._statistics = statistics
        self._record = record
        self._tenants = frozenset(settings.tenants)
        self._publisher = Publisher(bridge, statistics)
        self._session = PublishSession(final=_ANY_FAILURE)
        self._connection: PublisherConnection | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._last_handle = 0

    def names(self, tenant: str) -> bool:
        """Whether readings of a tenant are direct."""
        return tenant in self._tenants

    def takes(self, stored: StoredNotification) -> bool:
        """Whether this notification is direct: a reading, and not an alarm as well."""
        return self.names(stored.tenant.value) and categories_for(device_type(stored.notification), self._bridge) == (
            Category.READ,
        )

    def send(self, stored: StoredNotification, outcome: Outcome) -> None:
        """Publish a reading at QoS 1; `outcome` is called later, or at once where it can't be sent."""
        connection = self._connection
        reading = self._record.begin(stored, time.time())
        if connection is None:
            self._tell(reading, outcome, "broker-away")
            return
        if len(self._waiting) >= min(self._settings.max_waiting, connection.receive_maximum):
            self._tell(reading, outcome, "receivers-busy")
            return
        publication, *copies = self._publisher.publications(stored)
        handle = self._last_handle = self._last_handle + 1
        timer = asyncio.get_running_loop().call_later(self._settings.timeout_s, self._end, handle, "no-answer")
        head, tail = publication_parts(replace(publication, qos=1), connection.version)
        if not self._session.publish(handle, handle % _IDENTIFIERS + 1, head, tail):
            timer.cancel()
            self._tell(reading, outcome, "receivers-busy")
            return
        reading.published_at = time.time()
        self._waiting[handle] = _Waiting(reading, outcome, timer)
        for copy in copies:  # for who wants them decoded: without an answer, or we would have two
            self._session.publish(0, 0, *publication_parts(replace(copy, qos=0), connection.version))
        connection.flush()

    async def run(self) -> None:
        """Be connected, until cancelled."""
        await keep_connected(
            self._login, self._connect, self._serve, count=lambda what: self._statistics.count(Event.BRIDGE, what)
        )

    # --- private

    def _connect(self, version: MqttVersion) -> PublisherConnection:
        return PublisherConnection(self._login, version, self._session, resume=False)

    async def _serve(self, connection: PublisherConnection) -> ConnectionLost:
        connection.on_verdicts = self._settle
        self._connection = connection
        try:
            return await connection.wait_lost()
        finally:
            self._connection = None
            self._session.clear()
            for handle in list(self._waiting):
                self._end(handle, "broker-away")

    def _settle(self, verdicts: list[Verdict]) -> None:
        for handle, code, _ in verdicts:
            self._end(handle, "" if code == _TAKEN else _REASONS.get(code, "refused-by-broker"))

    def _end(self, handle: int, reason: str) -> None:
        """A verdict, the end of patience, or the end of the connection; the first of them counts."""
        waiting = self._waiting.pop(handle, None)
        if waiting is None:
            return
        waiting.timer.cancel()
        if reason == "no-answer":
            self._session.forget(handle)
        self._tell(waiting.reading, waiting.outcome, reason)

    def _tell(self, reading: DirectReading, outcome: Outcome, reason: str) -> None:
        self._record.end(reading, reason, time.time())
        outcome(reason)
