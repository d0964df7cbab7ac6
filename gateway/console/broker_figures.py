"""Clients and queues of the broker for the overview: asked every few seconds while somebody looks, not waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.console.watch import Watch
from gateway.operations.errors import OperationsError

__all__ = ["BrokerFigures", "Figures"]

EVERY_S: Final = 5.0
PATIENCE_S: Final = 0.3
"""A page waits so long for the first answer; later ones come while it is open."""


@dataclass(frozen=True, slots=True)
class Figures:
    """None: the broker does not tell, or not yet."""

    clients: int | None = None
    """Connected."""
    queued: int | None = None
    """Messages that wait for connected clients."""
    stored: int | None = None
    """Messages at queues and other addresses that store."""


class BrokerFigures:
    """See the module.

    Args:
        watch: asks the broker.
        now_s: monotonic time.
    """

    def __init__(self, watch: Watch, now_s: Callable[[], float] = time.monotonic) -> None:
        self._watch = watch
        self._now_s = now_s
        self._figures = Figures()
        self._asking: asyncio.Task[None] | None = None
        self._due_s = float("-inf")

    async def look(self) -> Figures:
        """What is known now; asks for more when that is old."""
        if self._asking is None and self._now_s() >= self._due_s:
            self._asking = asyncio.create_task(self._ask(), name="figures of the broker")
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        return self._figures

    async def _ask(self) -> None:
        try:
            self._figures = Figures(*await self._clients(), await self._stored())
        finally:
            self._due_s = self._now_s() + EVERY_S
            self._asking = None

    async def _clients(self) -> tuple[int | None, int | None]:
        try:
            page = (await self._watch.clients(None, "")).result
        except OperationsError:
            return None, None
        told = [client.queued for client in page.clients if client.queued is not None]
        return page.total, sum(told) if told or not page.total else None

    async def _stored(self) -> int | None:
        try:
            return sum(row.stored for row in (await self._watch.addresses(None)).result)
        except OperationsError:
            return None
