"""Link: one station on one Pipe, and the only file under CoAP that reads the clock.

Does: open the pipe, feed the station, write what it has to send, hand out its events, keep one timer, and open the pipe
again when it is lost, for ever. Does not: know anything about frames, sequence numbers or CoAP. Caller owes: a task for
`run()`, which ends only when it is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol, runtime_checkable

import structlog

from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown, LinkUp
from meshwire.pipe import Pipe, pulse_reset

__all__ = ["LineTap", "Link", "LinkCounters", "LinkState", "LinkStatus", "PollingStation", "Station"]

FIRST_RETRY_S: Final = 0.2
"""The first pause before a lost or missing port is tried again; each further pause is twice as long …"""

LONGEST_RETRY_S: Final = 5.0
"""… up to this one, so that a board that is plugged in again is found within seconds."""

STEADY_S: Final = 1.0
"""A pipe that stood this long had really been there: the pauses begin at the first one again."""

_log = structlog.get_logger(__name__)


class Station(Protocol):
    """What the driver needs of a station: octets and `now` in; octets, events and a deadline out. Pure, no clock.

    The stations of `meshwire.hdlc` are of this kind, and so is anything else that wants to live on a Link.
    """

    def receive_data(self, data: bytes, now: float) -> None: ...
    def data_to_send(self, now: float) -> bytes: ...
    def next_deadline(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def next_event(self) -> Event | None: ...
    def send(self, sdu: bytes, now: float) -> int: ...
    def pipe_lost(self, now: float) -> None: ...


@runtime_checkable
class PollingStation(Protocol):
    """A station that may speak first (HDLC: the primary). It is told to connect each time the port was opened."""

    def connect(self, now: float) -> None: ...
    def disconnect(self, now: float) -> None: ...
    def poll(self, now: float) -> None: ...


class LineTap(Protocol):
    """Somebody who watches the line; it is told and asked nothing."""

    def octets(self, outgoing: bool, data: bytes) -> None: ...
    def event(self, outgoing: bool, note: str) -> None: ...


class LinkState(Enum):
    """Where a link stands, for people and for `status`."""

    OPENING = "opening"
    """The port is being opened, or will be tried again soon."""
    CONNECTING = "connecting"
    """The port is open; nobody has answered yet."""
    UP = "up"
    """The two stations are connected."""
    IDLE = "idle"
    """Disconnected in good order; the next exchange connects again."""
    DOWN = "down"
    """The port is open and the peer does not answer, or has broken off."""
    CLOSED = "closed"
    """`run` is not running."""


@dataclass(slots=True)
class LinkCounters:
    """What the driver has seen so far; frames and their errors are counted by the station."""

    pipe_opens: int = 0
    pipe_losses: int = 0
    open_failures: int = 0
    link_ups: int = 0
    link_downs: int = 0
    attentions: int = 0
    octets_in: int = 0
    octets_out: int = 0
    sdus_in: int = 0
    sdus_out: int = 0


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """A snapshot.

    Args:
        state: where the link stands.
        since_s: for how long, in seconds.
        last_error: why the port was last lost or could not be opened; empty when that never happened.
        counters: what happened so far.
    """

    state: LinkState
    since_s: float
    last_error: str
    counters: LinkCounters


class Link:
    """One station on one pipe at a time.

    Args:
        open_pipe: opens the port; called again after each loss.
        station: the link's own procedure; belongs to this Link from now on.
        name: for logs, and the host name of the peer in CoAP URIs.
        attention_on_send: pulse the wake line with each `send` (a secondary that may not speak first).
    """

    def __init__(
        self,
        open_pipe: Callable[[], Awaitable[Pipe]],
        station: Station,
        *,
        name: str,
        attention_on_send: bool = False,
    ) -> None:
        self.name = name
        self.station = station
        self.tap: LineTap | None = None
        """Told of every octet that passes, and of what happens beside them; None: nobody."""
        self._open_pipe = open_pipe
        self._primary = station if isinstance(station, PollingStation) else None
        self._attention_on_send = attention_on_send
        self._listeners: list[Callable[[Event], None]] = []
        self._pipe: Pipe | None = None
        self._closing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._step_due = False
        self._state = LinkState.CLOSED
        self._changed_at: float | None = None
        self._lost = False
        self._last_error = ""
        self._counters = LinkCounters()
        self._log = _log.bind(link=name)

    # ---- for the owner

    async def run(self) -> None:
        """Open, drive, re-open, until cancelled. No failure of the port ends it."""
        pause_s = FIRST_RETRY_S
        try:
            while True:
                steady = await self._one_life()
                pause_s = FIRST_RETRY_S if steady else pause_s
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        finally:
            self._lost = True
            self._become(LinkState.CLOSED)
            self.station.pipe_lost(self._now())  # what waited for the first opening learns that there will be none
            self._hand_out_events()

    @property
    def status(self) -> LinkStatus:
        """Where the link stands now."""
        since_s = 0.0 if self._changed_at is None else self._now() - self._changed_at
        return LinkStatus(self._state, since_s, self._last_error, replace(self._counters))

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have `callback` called with every event from now on; returns what ends that."""
        self._listeners.append(callback)

        def unsubscribe() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return unsubscribe

    def send(self, sdu: bytes) -> int:
        """Queue one SDU and return its handle, which a LinkDown names if the SDU did not, or may not, get through.

        While the port is lost the answer is a LinkDown with PIPE_LOST in the next turn of the loop.
        """
        now = self._now()
        handle = self.station.send(sdu, now)
        self._counters.sdus_out += 1
        if self._lost:
            self.station.pipe_lost(now)
        elif self._pipe is not None and self._attention_on_send:
            self._pipe.pulse_attention()
        self._step_soon()
        return handle

    def poll(self) -> None:
        """Ask the peer whether it has something (no-op on the side that may not ask)."""
        if self._primary is not None and self._pipe is not None:
            self._primary.poll(self._now())
            self._step_soon()

    def connect(self) -> None:
        """Set up the link now (no-op on the side that may not)."""
        if self._primary is not None and self._pipe is not None:
            self._primary.connect(self._now())
            self._step_soon()

    def disconnect(self) -> None:
        """Take the link down in good order (no-op on the side that may not)."""
        if self._primary is not None and self._pipe is not None:
            self._primary.disconnect(self._now())
            self._step_soon()

    def reopen(self) -> None:
        """Give the port back and open it again, as after a loss (no-op while it is not open)."""
        if self._pipe is not None:
            self._closing = asyncio.ensure_future(self._pipe.aclose())

    def pulse_reset(self, line: str) -> bool:
        """Pulse a line that resets the peer: `dtr`, `rts` or `break`; False where the port has no such line."""
        return self._pipe is not None and pulse_reset(self._pipe, line)

    def pulse_attention(self) -> None:
        """Pulse the wake line, where the pipe has one."""
        if self._pipe is not None:
            self._pipe.pulse_attention()

    # ---- one opened pipe after the other

    async def _one_life(self) -> bool:
        """Open the pipe and drive it to its end; True when it had really been there."""
        self._become(LinkState.OPENING)
        try:
            pipe = await self._open_pipe()
        except Exception as error:
            self._counters.open_failures += 1
            self._fail("port not opened", error)
            return False
        self._counters.pipe_opens += 1
        self._log.info("port opened", port=pipe.name)
        opened_at = self._now()
        try:
            await self._drive(pipe)
            self._fail("port lost", ConnectionError(f"{pipe.name} hung up"))
        except Exception as error:
            self._log.exception("link driver failed", port=pipe.name)
            self._fail("port lost", error)
        return self._now() - opened_at >= STEADY_S

    async def _drive(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._lost = False
        pipe.on_attention = self._attend
        self._become(LinkState.CONNECTING)
        try:
            if self._primary is not None:
                self._primary.connect(self._now())
            self._step()
            while data := await pipe.read():
                self._counters.octets_in += len(data)
                if self.tap is not None:
                    self.tap.octets(False, data)
                self.station.receive_data(data, self._now())
                self._step()
                await pipe.drain()
        finally:
            self._let_go(pipe)
            await pipe.aclose()

    def _let_go(self, pipe: Pipe) -> None:
        pipe.on_attention = None
        self._pipe = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._counters.pipe_losses += 1
        if self.tap is not None:
            self.tap.event(False, "port lost")
        self.station.pipe_lost(self._now())
        self._hand_out_events()

    def _fail(self, what: str, error: Exception) -> None:
        text = f"{what}: {error}"
        if text != self._last_error:  # a port that stays away is said once, not every five seconds
            self._log.warning(what, error=str(error))
        self._last_error = text
        self._lost = True
        self._become(LinkState.OPENING)

    # ---- the driver: feed, flush, drain events, re-arm one timer

    def _step(self) -> None:
        self._step_due = False
        self._flush()
        self._hand_out_events()
        self._arm_timer()

    def _step_soon(self) -> None:
        """Step in the next turn of the loop: a sender gets its handle before it hears of it, and sends are gathered."""
        if not self._step_due:
            self._step_due = True
            asyncio.get_running_loop().call_soon(self._step)

    def _flush(self) -> None:
        if self._pipe is not None and (data := self.station.data_to_send(self._now())):
            self._counters.octets_out += len(data)
            if self.tap is not None:
                self.tap.octets(True, data)
            self._pipe.write(data)

    def _hand_out_events(self) -> None:
        while (event := self.station.next_event()) is not None:
            self._note(event)
            for listener in tuple(self._listeners):
                try:
                    listener(event)
                except Exception:
                    self._log.exception("listener failed", event_type=type(event).__name__)

    def _arm_timer(self) -> None:
        deadline = self.station.next_deadline() if self._pipe is not None else None
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.station.handle_timer(self._now())
        self._step()

    def _attend(self) -> None:
        self._counters.attentions += 1
        if self.tap is not None:
            self.tap.event(False, "wake line pulsed")
        self.poll()

    # ---- what is visible

    def _note(self, event: Event) -> None:
        match event:
            case DataReceived():
                self._counters.sdus_in += 1
            case LinkUp():
                self._counters.link_ups += 1
                self._become(LinkState.UP)
            case LinkDown(reason=reason):
                self._counters.link_downs += 1
                if self._pipe is not None:
                    self._become(LinkState.IDLE if reason is DownReason.RELEASED else LinkState.DOWN)

    def _become(self, state: LinkState) -> None:
        if state is not self._state:
            self._log.debug("link state", old=self._state.value, new=state.value)
            self._state = state
            self._changed_at = self._now()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
