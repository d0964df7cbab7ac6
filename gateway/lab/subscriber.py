"""The demo's back office: one real MQTT client for each tenant, with a token, over TCP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiomqtt

from gateway.tools.mqtt import Connection, message_properties, open_client, subscribe
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Reading, decode_reading
from meshwire.topics import parse_topic

__all__ = ["Arrival", "TenantSubscriber"]

RECONNECT_S = 0.5
"""Pause before a lost connection is made anew."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as the application got it."""

    topic: str
    tenant: TenantId
    mac: DeviceId
    kind: str
    payload: bytes
    reading: Reading | None
    qos: int
    arrived_at_s: float
    """Unix seconds."""
    latency_s: float | None
    """From the NIC's receipt to here; None where the broker gave no `time` property."""

    def age_s(self, now_s: float) -> float:
        """Seconds at `now_s` since the board sampled, where the record tells (in whole seconds), else since arrival."""
        sampled = self.reading.values.get("epoch_s") if self.reading else None
        return max(0.0, now_s - (sampled if isinstance(sampled, float) else self.arrived_at_s))


class TenantSubscriber:
    """Subscribes to a tenant's readings and alarms and hands each arrival on; reconnects until it is cancelled."""

    def __init__(
        self, tenant: TenantId, host: str, port: int, token: Callable[[], str], on_arrival: Callable[[Arrival], None]
    ) -> None:
        self._tenant = tenant
        self._host = host
        self._port = port
        self._token = token
        self._on_arrival = on_arrival
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Connect, subscribe, hand on; never returns."""
        while True:
            try:
                await self._listen()
            except (aiomqtt.MqttError, OSError):
                _heed_cancellation()
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        connection = Connection(self._host, self._port, "notused", self._token(), version="5", keep_alive_s=10)
        async with open_client(connection) as client:
            _heed_cancellation()
            await subscribe(client, [f"{self._tenant}/read/#", f"{self._tenant}/alert/#"], qos=1)
            self.ready.set()
            async for message in client.messages:
                arrival = _arrival(message)
                if arrival is not None:
                    self._on_arrival(arrival)


def _heed_cancellation() -> None:
    """aiomqtt may swallow a cancellation, when it comes with CONNACK or when leaving fails; the task still knows."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _arrival(message: aiomqtt.Message) -> Arrival | None:
    now = time.time()
    parsed = parse_topic(message.topic.value)
    if parsed is None or not isinstance(message.payload, bytes):
        return None
    sent_at = message_properties(message).get("time")
    return Arrival(
        topic=message.topic.value,
        tenant=parsed.tenant,
        mac=parsed.mac,
        kind=parsed.rest[0],
        payload=message.payload,
        reading=decode_reading(parsed.rest[0], message.payload),
        qos=message.qos,
        arrived_at_s=now,
        latency_s=max(0.0, now - float(str(sent_at))) if sent_at is not None else None,
    )
