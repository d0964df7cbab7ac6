"""The nodes of an engine of another maker, announced for it: it can't do that itself.

Does: look every few seconds which of the configured listeners take a connection, and say so as our own broker does
(`broker/announcement.py`), one announcement a node. Does not: speak to it, or count its clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from broker.adapters.capabilities import Engine
from broker.announcement import Announcement, Node
from broker.authority.settings import EngineNode
from meshwire.site import Site

__all__ = ["NodeWatch"]

LOOK_EVERY_S: Final = 3.0
PATIENCE_S: Final = 2.0


class NodeWatch:
    """See the module.

    Args:
        instance: its name.
        engine: what it is, and its release.
        nodes: where its listeners are.
        site: where it is announced.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        instance: str,
        engine: Engine,
        nodes: Sequence[EngineNode],
        site: Site,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._instance, self._engine, self._site, self._wall_clock = instance, engine, site, wall_clock
        self._nodes = nodes
        self._there: dict[str, Announcement] = {}

    async def run(self) -> None:
        """Look until cancelled; then nothing is announced any more."""
        try:
            while True:
                await asyncio.gather(*map(self._look, self._nodes))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for announcement in self._there.values():
                announcement.withdraw()

    async def _look(self, node: EngineNode) -> None:
        if not await _takes_connections(node):
            if (announcement := self._there.pop(node.name, None)) is not None:
                announcement.withdraw()
            return
        now_s = self._wall_clock()
        if node.name not in self._there:
            listener = {"kind": node.kind.value, "host": node.host, "port": node.port}
            engine, _, release = self._engine.value.partition("-")
            facts = Node(self._instance, node.name, engine, release, now_s, node.options, (listener,))
            self._there[node.name] = Announcement(self._site, facts)
        self._there[node.name].tell(now_s, now_s, lambda: ())


async def _takes_connections(node: EngineNode) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(node.host, node.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
