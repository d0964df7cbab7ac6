"""Publishing in callers' names: a connection for each token, kept for a while, so that a burst costs one login."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Final

from gateway.messages.errors import NoVerdict, refusal
from gateway.messages.link import BrokerPlace, Link, Visitor
from meshwire.mqtt import Publish, ReasonCode

__all__ = ["Senders"]

IDLE_S: Final = 30.0
MOST: Final = 1_000
"""Connections at once; beyond it the one that was used longest ago gives way."""


@dataclass(slots=True)
class _Sender:
    link: Link
    used_s: float
    """Monotonic."""
    under_way: int = 0
    is_retired: bool = False
    """No more messages, and closed when those under way are settled."""


class Senders:
    """See the module's text.

    Args:
        place: where the broker is.
    """

    def __init__(self, place: BrokerPlace) -> None:
        self._place = place
        self._senders: dict[str, _Sender] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    async def publish(self, token: str, message: Publish, timeout_s: float) -> int:
        """Publish, and wait for the broker's verdict unless the QoS is 0.

        Args:
            token: of the caller.
            message: QoS 0 or 1.
            timeout_s: longest wait for the verdict.

        Returns:
            The reason code, one of success.

        Raises:
            MessageError: it was not taken; its kind says why.
        """
        sender = await self._of(token)
        sender.under_way += 1
        try:
            if message.qos == 0:
                sender.link.publish_and_forget(message)
                return ReasonCode.SUCCESS
            async with asyncio.timeout(timeout_s):
                answer = await sender.link.publish(message)
        except TimeoutError:
            # Who leaves takes back what no receiver has yet: it shall not arrive after we have said that it did not.
            sender.is_retired = True
            raise NoVerdict(
                "no verdict came in time", evidence=f"{timeout_s:g} s", fix="allow a longer wait, or start a receiver"
            ) from None
        finally:
            sender.under_way -= 1
            sender.used_s = time.monotonic()
            if sender.is_retired:
                await self._retire(token, sender)
        # Nobody there is no failure when the message is kept for who comes later.
        is_kept = message.retain and answer.reason_code == ReasonCode.NO_MATCHING_SUBSCRIBERS
        if answer.reason_code and not is_kept:
            raise refusal(answer.reason_code, answer.properties.reason_string)
        return answer.reason_code

    async def sweep(self) -> None:
        """Leave where nothing was sent for a while."""
        before_s = time.monotonic() - IDLE_S
        for token, sender in list(self._senders.items()):
            if sender.link.ended.done() or (not sender.under_way and sender.used_s < before_s):
                await self._retire(token, sender)

    async def close(self) -> None:
        """Leave everywhere."""
        for token, sender in list(self._senders.items()):
            sender.under_way = 0
            await self._retire(token, sender)

    async def _of(self, token: str) -> _Sender:
        """The token's connection; of several callers at once one connects."""
        lock = self._opening.setdefault(token, asyncio.Lock())
        try:
            async with lock:
                sender = self._senders.get(token)
                if sender is None or sender.is_retired or sender.link.ended.done():
                    link = await Link.open(self._place, Visitor(token))
                    sender = self._senders[token] = _Sender(link, time.monotonic())
                    await self._make_room()
                return sender
        finally:
            if not lock.locked():
                self._opening.pop(token, None)

    async def _make_room(self) -> None:
        if len(self._senders) > MOST:
            token, oldest = min(self._senders.items(), key=lambda item: item[1].used_s)
            oldest.is_retired = True
            await self._retire(token, oldest)

    async def _retire(self, token: str, sender: _Sender) -> None:
        if self._senders.get(token) is sender:
            del self._senders[token]
        if not sender.under_way:
            with contextlib.suppress(OSError):
                await sender.link.close()
