"""All that callers of the HTTP API have at the broker: their senders and consumers, with bounds and an end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from typing import Final

from gateway.broker_tls.tls import tls_of
from gateway.messages.consumer import Consumer
from gateway.messages.errors import BrokerAway, NoSuchConsumer, TooMany
from gateway.messages.link import BrokerPlace, Link, Visitor
from gateway.messages.senders import Senders
from gateway.settings import BridgeSettings, MessageSettings
from meshwire.identity import TenantId
from meshwire.mqtt import Publish

__all__ = ["MessageDesk"]

SWEEP_EVERY_S: Final = 1.0


class MessageDesk:
    """See the module's text.

    Args:
        bridge: says where the broker is.
        settings: bounds.
    """

    def __init__(self, bridge: BridgeSettings, settings: MessageSettings) -> None:
        self.settings = settings
        self._bridge = bridge
        self._place = BrokerPlace(bridge.host, bridge.port, tls_of(bridge.host, bridge.port, bridge.tls))
        self._senders = Senders(self._place)
        self._consumers: dict[str, Consumer] = {}
        self._tenants: dict[str, TenantId] = {}

    async def publish(self, token: str, message: Publish, timeout_s: float) -> int:
        """See `Senders.publish`."""
        self._need_broker()
        return await self._senders.publish(token, message, timeout_s)

    async def open(self, tenant: TenantId, visitor: Visitor, topic_filter: str, qos: int) -> Consumer:
        """Make a consumer.

        Raises:
            TooMany: the bound of consumers is reached.
            MessageError: the broker refuses; its kind says why.
        """
        self._need_broker()
        mine, most = Counter(self._tenants.values())[tenant], self.settings.max_consumers_per_tenant
        if len(self._consumers) >= self.settings.max_consumers or mine >= most:
            raise TooMany(
                "there are too many consumers",
                evidence=f"{len(self._consumers)}, of this tenant {mine}",
                fix="delete some, or raise gateway.messages.max_consumers…",
            )
        id = secrets.token_urlsafe(12)
        self._tenants[id] = tenant
        try:
            link = await Link.open(self._place, visitor)
            consumer = self._consumers[id] = Consumer(id, visitor.token, topic_filter, link)
            await consumer.subscribe(qos)
        except BaseException:
            await self._drop(id, forget=True)
            raise
        return consumer

    def find(self, id: str, token: str) -> Consumer:
        """The consumer that a token has; raises NoSuchConsumer."""
        consumer = self._consumers.get(id)
        if consumer is None or not secrets.compare_digest(consumer.token.encode(), token.encode()):
            raise NoSuchConsumer("no such consumer", evidence=id[:40], fix="make one: POST /api/consumers")
        return consumer

    async def close(self, consumer: Consumer, accepted: tuple[int, ...] = ()) -> None:
        """End a consumer, with what it keeps at the broker."""
        self._consumers.pop(consumer.id, None)
        self._tenants.pop(consumer.id, None)
        await consumer.close(accepted)

    async def run(self) -> None:
        """End what nobody uses, until cancelled; then all."""
        try:
            while True:
                await asyncio.sleep(SWEEP_EVERY_S)
                await self._sweep()
        finally:
            await self._senders.close()
            for id in list(self._consumers):
                await self._drop(id, forget=False)

    async def _sweep(self) -> None:
        await self._senders.sweep()
        before_s = time.monotonic() - self.settings.idle_s
        for id, consumer in list(self._consumers.items()):
            if not consumer.users and consumer.used_s < before_s:
                await self._drop(id, forget=False)

    async def _drop(self, id: str, *, forget: bool) -> None:
        self._tenants.pop(id, None)
        consumer = self._consumers.pop(id, None)
        if consumer is not None:
            await consumer.close(forget=forget)

    def _need_broker(self) -> None:
        if not self._bridge.enabled:
            raise BrokerAway("this gateway has no broker", evidence="gateway.bridge.enabled = false", fix="enable it")
