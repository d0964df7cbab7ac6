"""A consumer: a subscription in a caller's name, and the messages that it holds until they are acknowledged.

A message of QoS 1 stays until the caller settles it, or the consumer ends; the broker then gives it to another receiver
of the address, or sends it again to the session that it keeps. A message of QoS 0 is handed out once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.messages.errors import ConsumerEnded, TooMany
from gateway.messages.link import Link
from meshwire.mqtt import Disconnect, Packet, Properties, ProtocolVersion, PubAck, Publish, ReasonCode, Unsubscribe

__all__ = ["Consumer", "Held", "Settlement"]

MOST_UNRELIABLE: Final = 1_000
"""Messages of QoS 0 that wait to be fetched; then the oldest one goes."""
MOST_USERS: Final = 10
_GOODBYE: Final = 65_535
"""Packet identifier of the last UNSUBSCRIBE; SUBSCRIBE has used 1."""


class Settlement(Enum):
    """What a receiver says of a message; MQTT 3.1.1 knows acceptance alone."""

    ACCEPTED = ReasonCode.SUCCESS
    REFUSED = ReasonCode.UNSPECIFIED_ERROR
    """Another receiver may have it."""
    UNREADABLE = ReasonCode.PAYLOAD_FORMAT_INVALID
    """It is given up at once."""


@dataclass(frozen=True, slots=True)
class Held:
    """A message, and its number: 1 for the consumer's first one."""

    number: int
    message: Publish
    arrived_s: float
    """Monotonic."""


class Consumer:
    """See the module's text.

    Args:
        id: names it to its caller.
        token: of the caller; nobody else may use it.
        topic_filter: subscribed.
        link: connected; the consumer subscribes and closes it.
    """

    def __init__(self, id: str, token: str, topic_filter: str, link: Link) -> None:
        self.id = id
        self.token = token
        self.topic_filter = topic_filter
        self.dropped = 0
        """Messages of QoS 0 that nobody fetched."""
        self.used_s = time.monotonic()
        self.users = 0
        """Requests that wait for its messages."""
        self._link = link
        self._held: dict[int, Held] = {}
        self._unreliable = 0
        self._last = 0
        self._news = asyncio.Event()
        link.on_message = self._take
        link.ended.add_done_callback(lambda ended: self._news.set())

    async def subscribe(self, qos: int) -> None:
        """Begin; raises what the broker's refusal means."""
        await self._link.subscribe(self.topic_filter, qos)

    @property
    def has_ended(self) -> bool:
        return self._link.ended.done()

    async def fetch(self, *, after: int, count: int, most: int, wait_s: float) -> list[Held]:
        """Messages with higher numbers than `after`, in order.

        Args:
            after: the number of the last one that the caller knows; 0: all that are not settled.
            count: answer as soon as so many are there.
            most: at most so many.
            wait_s: longest wait; then what is there, perhaps nothing.

        Raises:
            ConsumerEnded: the connection has ended; what was held has gone back.
            TooMany: others wait already.
        """
        if self.users >= MOST_USERS:
            raise TooMany("too many requests wait for this consumer", evidence=str(self.users), fix="wait with one")
        end_s = time.monotonic() + wait_s
        self.users += 1
        try:
            while True:
                self._news.clear()
                found = [each for number, each in self._held.items() if number > after][:most]
                left_s = end_s - time.monotonic()
                if self.has_ended:
                    raise ConsumerEnded(
                        "the consumer's connection has ended", evidence=self._link.ended.result(), fix="make a new one"
                    )
                if len(found) >= count or left_s <= 0:
                    break
                try:
                    async with asyncio.timeout(left_s):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            self.users -= 1
            self.used_s = time.monotonic()
        for each in found:
            if not each.message.qos:
                del self._held[each.number]
                self._unreliable -= 1
        return found

    def settle(self, numbers: Iterable[int], settlement: Settlement = Settlement.ACCEPTED) -> int:
        """Acknowledge messages; gives how many of them were held."""
        packets = self._settled(numbers, settlement)
        if packets and not self.has_ended:
            self._link.send(*packets)
        self.used_s = time.monotonic()
        return len(packets)

    async def close(self, accepted: Iterable[int] = (), *, forget: bool = True) -> None:
        """End the consumer.

        Args:
            accepted: acknowledged last, when no further message may come in their place.
            forget: the session as well, where the broker would keep it.
        """
        last: list[Packet] = [Unsubscribe(_GOODBYE, (self.topic_filter,))] if forget else []
        last += self._settled(accepted, Settlement.ACCEPTED)
        if forget and self._link.version is ProtocolVersion.V5:
            last.append(Disconnect(0, Properties(session_expiry_interval=0)))
        await self._link.close(*last)

    def _settled(self, numbers: Iterable[int], settlement: Settlement) -> list[Packet]:
        code = settlement.value if self._link.version is ProtocolVersion.V5 else ReasonCode.SUCCESS
        found = [self._held.pop(number) for number in numbers if number in self._held]
        return [PubAck(each.message.packet_id, code) for each in found if each.message.qos]

    def _take(self, message: Publish) -> None:
        self._last += 1
        self._held[self._last] = Held(self._last, message, time.monotonic())
        if not message.qos:
            self._unreliable += 1
            if self._unreliable > MOST_UNRELIABLE:
                oldest = next(number for number, each in self._held.items() if not each.message.qos)
                del self._held[oldest]
                self._unreliable -= 1
                self.dropped += 1
        self._news.set()
