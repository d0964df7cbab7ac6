"""An event loop in which an hour of waiting takes no time, however slow the machine is."""

from __future__ import annotations

import asyncio
import selectors
import socket
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits for sockets only as long as that takes no time; otherwise lets the loop's clock jump."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            ready = super().select(0.05)
        else:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer whenever nothing is ready. Threads are not waited for."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        """At once instead of in a thread, during which the clock would jump."""
        return socket.getaddrinfo(host, port, **hints)
