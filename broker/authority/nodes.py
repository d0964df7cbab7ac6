"""The nodes of an engine of another maker, announced for it: it can't do that itself.

Does: look every few seconds which of the named listeners take a connection, and say so as our own broker does
(`broker/announcement.py`), one announcement a node. Does not: speak to it, or count its clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

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
        engine: which broker it is.
        release: of the broker; empty: not known.
        nodes: gives where its listeners are now; their names differ.
        site: where it is announced.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        instance: str,
        engine: str,
        release: str,
        nodes: Callable[[], Sequence[EngineNode]],
        site: Site,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._instance, self._engine, self._release = instance, engine, release
        self._nodes, self._site, self._wall_clock = nodes, site, wall_clock
        self._there: dict[str, Announcement] = {}

    async def run(self) -> None:
        """Look until cancelled; then nothing is announced any more."""
        try:
            while True:
                nodes = self._nodes()
                for name in self._there.keys() - {node.name for node in nodes}:
                    self._there.pop(name).withdraw()
                await asyncio.gather(*map(self._look, nodes))
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
            facts = Node(self._instance, node.name, self._engine, self._release, now_s, node.options, (listener,))
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
