"""BoardLine: the serial side of a NIC, whose board may be exchanged for another one while everything else goes on.

Does: build station and Link for a kind of board, drive them, hand their events on under one subscription, and put
another port (and another kind of board) in their place. Does not: speak CoAP, decide when. Caller owes: a task for
`run()`, and one `replace` at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

import structlog

from meshwire.hdlc.events import Event
from meshwire.hdlc.primary import PrimaryStation
from meshwire.link import LineTap, Link, LinkStatus
from meshwire.pipe import Pipe
from nic_sim.board_profile import BoardProfile

__all__ = ["BoardLine", "OpenPipe", "ResetAction"]

OpenPipe = Callable[[], Awaitable[Pipe]]

_log = structlog.get_logger(__name__)


class ResetAction(StrEnum):
    """What is done to a board that has been silent for too long."""

    LINK = "link"
    """The port is closed and opened again, and the link made anew."""
    DTR = "dtr"
    """A pulse on DTR: resets an Arduino and whatever has its reset input wired so."""
    RTS = "rts"
    BREAK = "break"
    """A break on the line, for boards that watch for one."""


class BoardLine:
    """See the module.

    Args:
        open_pipe: opens the serial port; called again after each loss.
        profile: what kind of board is there.
        name: of the link, for logs.
    """

    def __init__(self, open_pipe: OpenPipe, profile: BoardProfile, *, name: str) -> None:
        self._name = name
        self._listeners: list[Callable[[Event], None]] = []
        self._driver: asyncio.Task[None] | None = None
        self._tap: LineTap | None = None
        self._built = asyncio.Event()
        self._build(open_pipe, profile)

    def _build(self, open_pipe: OpenPipe, profile: BoardProfile) -> None:
        self.station = PrimaryStation(profile.link)
        self.link = Link(open_pipe, self.station, name=self._name)
        self.link.subscribe(self._tell)
        self.link.tap = self._tap
        self._built.set()

    async def run(self) -> None:
        """Drive the link, and after a replacement the next one, until cancelled."""
        try:
            while True:
                await self._built.wait()
                self._built.clear()
                self._driver = asyncio.create_task(self.link.run(), name=f"{self._name} serial link")
                await asyncio.wait((self._driver,))
                if not self._driver.cancelled():
                    self._driver.result()
        finally:
            if self._driver is not None:
                self._driver.cancel()
                await asyncio.gather(self._driver, return_exceptions=True)

    async def replace(self, open_pipe: OpenPipe, profile: BoardProfile) -> None:
        """Give the port back and go on with another one; counters begin at 0. Everything on the way ends as on a loss
        of the port."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        self._build(open_pipe, profile)

    def reset(self, action: ResetAction) -> ResetAction:
        """Reset the board; a port without that line is opened again instead. Returns what was done."""
        if action is not ResetAction.LINK and self.link.pulse_reset(action.value):
            return action
        self.link.reopen()
        return ResetAction.LINK

    @property
    def tap(self) -> LineTap | None:
        """Who watches the present link and those after it."""
        return self._tap

    @tap.setter
    def tap(self, tap: LineTap | None) -> None:
        self._tap = self.link.tap = tap

    # ---- what BoardClient needs of a link

    def send(self, sdu: bytes) -> int:
        """Queue one SDU (see `Link.send`)."""
        return self.link.send(sdu)

    def poll(self) -> None:
        """Ask the board whether it has something."""
        self.link.poll()

    @property
    def status(self) -> LinkStatus:
        """Where the present link stands."""
        return self.link.status

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have `callback` called with every event of the present link and of those after it."""
        self._listeners.append(callback)

        def unsubscribe() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return unsubscribe

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("listener failed", event_type=type(event).__name__)
