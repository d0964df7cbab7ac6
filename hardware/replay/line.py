"""FrameLine: frames off and onto a Pipe, one at a time, with a time-out."""

from __future__ import annotations

import asyncio
from collections import deque

from meshwire.hdlc.deframer import Deframer, Discarded
from meshwire.hdlc.frame import Frame
from meshwire.pipe import Pipe

__all__ = ["FrameLine"]


class FrameLine:
    """See the module. `pipe` is read by this object alone; octets that are no frame are counted in `discarded`."""

    def __init__(self, pipe: Pipe) -> None:
        self.discarded = 0
        self._pipe = pipe
        self._deframer = Deframer()
        self._frames: deque[Frame] = deque()

    def send(self, octets: bytes) -> None:
        self._pipe.write(octets)

    async def receive(self, timeout_s: float) -> Frame | None:
        """The next frame; None when none came within `timeout_s` seconds, or the line hung up."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._frames:
                    data = await self._pipe.read()
                    if not data:
                        return None
                    self._take(data)
        except TimeoutError:
            return None
        return self._frames.popleft()

    def _take(self, data: bytes) -> None:
        for item in self._deframer.feed(data):
            if isinstance(item, Discarded):
                self.discarded += 1
            else:
                self._frames.append(item)
