"""SensorBoard: the parts of one simulated board put together, whatever its profile, on a pipe opener.

Does: build sensors, station, Link and CoAP server; run them; pulse the pipe's wake line; say in the log when the board
crashes and why. Does not: choose the port (`open_pipe` does), know the wire (the stations do).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, assert_never

import structlog

from meshwire.coap_link import create_context
from meshwire.hdlc.events import Event
from meshwire.hdlc.profile import STANDARD
from meshwire.hdlc.secondary import SecondaryStation
from meshwire.learned_board import LearnedBoard
from meshwire.link import Link
from meshwire.pipe import FaultPlan, Pipe, PtyPipe, RateLimitedPipe, open_pty
from meshwire.pipe.faults import FaultyLine
from meshwire.pipe.scheduled import ScheduledPipe
from sensor_sim.clock import BoardClock
from sensor_sim.errors import BoardSettingsError
from sensor_sim.milli.events import BoardReset, MilliEvent, WakePulse
from sensor_sim.milli.profile import MILLI_PROFILES, MilliProfile
from sensor_sim.milli.settings import MilliSettings
from sensor_sim.milli.station import MilliBoard
from sensor_sim.recorded import recorded_sensors
from sensor_sim.sensors import Sensor
from sensor_sim.spec import SensorSpec, build_sensor, check_specs
from sensor_sim.standard.board import StandardBoard, StandardSettings
from sensor_sim.standard.firmware_resource import FACTORY

__all__ = ["DEFAULT_BAUD", "PROFILES", "SensorBoard", "pty_opener"]

PROFILES: Final = (*MILLI_PROFILES, "standard")
DEFAULT_BAUD: Final = 38400
_MAX_CLASSIFIER_CHARACTERS: Final = 15

PipeOpener = Callable[[], Awaitable[Pipe]]

_log = structlog.get_logger(__name__)


class SensorBoard:
    """One board. `run()` powers it up and ends only when cancelled; each `run()` is a new power-up.

    Args:
        profile: one of `PROFILES`.
        sensors: 1 to 4, each type once.
        open_pipe: opens the board's end of the line; called again after a loss.
        period_s: seconds between notifications of sensors that name no period; 0 for push only.
        seed: for the value sources; equal seeds give equal readings.
        classifier: first path segment of the sensors, 1 to 15 ASCII characters.
        boot_delay_s: seconds before a Milli board serves its UART, 0 to 16; other profiles have none.
        confirmable: the standard profile sends notifications as CON.
        wall_clock: Unix seconds; the standard board's clock starts right by it.
        name: for logs, and the NIC's host name as the standard board sees it.
        learned: a board to be played (`meshwire learn`); its base, sensors, periods and classifier take the place of
            `profile`, `sensors`, `period_s` and `classifier`.

    Raises:
        BoardSettingsError: a setting that can't be.
    """

    def __init__(
        self,
        profile: str,
        sensors: Sequence[SensorSpec],
        open_pipe: PipeOpener,
        *,
        period_s: float = 60.0,
        seed: int = 0,
        classifier: str = "arduino",
        boot_delay_s: float = 0.0,
        confirmable: bool = False,
        wall_clock: Callable[[], float] = time.time,
        name: str = "board",
        learned: LearnedBoard | None = None,
    ) -> None:
        if learned is not None:
            profile, classifier = learned.base, learned.sensors[0].path.partition("/")[0]
        _check_name(classifier)
        if period_s < 0:
            raise BoardSettingsError(f"a period of {period_s} s", fix="use 0 for push only, or more")
        self.profile = profile
        self.name = name
        self.resets: list[str] = []
        """Why the board crashed, each time, since it was made."""
        self._specs = check_specs(sensors)
        self._open_pipe = open_pipe
        self._seed = seed
        self._wall_clock = wall_clock
        self._milli: MilliSettings | None = None
        self._station: MilliBoard | None = None
        self._standard: StandardBoard | None = None
        self._firmware = FACTORY
        self._link: Link | None = None
        self._learned = learned
        periods_s = {spec.type: spec.period_s for spec in self._specs if spec.period_s is not None}
        if learned is not None:
            periods_s = {sensor.type: sensor.learned.period_s for sensor in recorded_sensors(learned)}
        self._standard_settings = StandardSettings(classifier, period_s, periods_s, confirmable)
        if learned is not None:
            self._standard_settings = _played(self._standard_settings, learned)
        if (firmware := MILLI_PROFILES.get(profile)) is not None:
            firmware = firmware if learned is None else _firmware(firmware, learned)
            self._milli = MilliSettings(firmware, classifier, period_s, periods_s, boot_delay_s)
        elif profile not in PROFILES:
            raise BoardSettingsError(f"no board profile {profile!r}", fix=f"choose one of {', '.join(PROFILES)}")

    @property
    def link(self) -> Link | None:
        """The board's link while it runs."""
        return self._link

    def observers(self) -> int:
        """How many observations stand."""
        board = self._station or self._standard
        return 0 if board is None else board.observers()

    def push(self, device_type: str) -> bool:
        """Report a value now, as for an event; False when it is not observed, or the board has no room for it."""
        if self._station is not None and self._link is not None:
            pushed = self._station.push(device_type, asyncio.get_running_loop().time())
            self._link.poll()
            return pushed
        return self._standard is not None and self._standard.push(device_type)

    async def run(self) -> None:
        """Be a board, until cancelled."""
        sensors = self._sensors()
        try:
            if self._milli is not None:
                await self._run_milli(self._milli, sensors)
            else:
                await self._run_standard(sensors)
        finally:
            self._station = self._standard = self._link = None

    def _sensors(self) -> Sequence[Sensor]:
        if self._learned is not None:
            return recorded_sensors(self._learned)
        return [build_sensor(spec, seed=self._seed) for spec in self._specs]

    async def _run_milli(self, settings: MilliSettings, sensors: Sequence[Sensor]) -> None:
        self._station = _WiredMilliBoard(settings, sensors, asyncio.get_running_loop().time(), self._on_signal)
        self._link = Link(self._open_pipe, self._station, name=self.name)
        await self._link.run()

    async def _run_standard(self, sensors: Sequence[Sensor]) -> None:
        now = asyncio.get_running_loop().time
        clock = BoardClock(self._wall_clock(), now())
        link = self._link = Link(
            self._open_answering, SecondaryStation(STANDARD), name=self.name, attention_on_send=True
        )
        line: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                board = self._standard = StandardBoard(self._standard_settings, sensors, clock, now, self._firmware)
                context = await create_context(link, board.site)
                try:
                    life = tasks.create_task(board.run(link, context))
                    line = line or tasks.create_task(link.run())
                    self._firmware = await life
                finally:
                    await context.shutdown()
                _log.info("board restarts with another firmware", board=self.name, version=self._firmware.version)
                link.station = SecondaryStation(STANDARD)

    async def _open_answering(self) -> Pipe:
        """The line, with the pause that a learned board makes before it answers."""
        pipe = await self._open_pipe()
        if self._learned is None or not self._learned.turn_around_s:
            return pipe
        late, at_once = FaultPlan(delay_s=self._learned.turn_around_s), FaultPlan()
        return ScheduledPipe(pipe, FaultyLine(late), FaultyLine(at_once))

    def _on_signal(self, signal: MilliEvent) -> None:
        match signal:
            case WakePulse():
                if self._link is not None:
                    self._link.pulse_attention()
            case BoardReset(reason=reason):
                self.resets.append(reason)
                _log.warning("board crashed and reset", board=self.name, profile=self.profile, reason=reason)
            case _:
                assert_never(signal)


class _WiredMilliBoard(MilliBoard):
    """A Milli board whose signals leave with its events, so that a Link drives it like any station."""

    def __init__(
        self, settings: MilliSettings, sensors: Sequence[Sensor], now: float, on_signal: Callable[[MilliEvent], None]
    ) -> None:
        super().__init__(settings, sensors, now)
        self._on_signal = on_signal

    def next_event(self) -> Event | None:
        while (signal := self.next_signal()) is not None:
            self._on_signal(signal)
        return super().next_event()

    # A secondary never speaks first. These are here because a Link looks at its station again after a poll, which is
    # how a value that the board's own code pushed gets its wake pulse.

    def poll(self, now: float) -> None:
        """Nothing."""

    def connect(self, now: float) -> None:
        """Nothing."""

    def disconnect(self, now: float) -> None:
        """Nothing."""


def _played(settings: StandardSettings, learned: LearnedBoard) -> StandardSettings:
    """What a standard board needs to be the learned one."""
    sensors = recorded_sensors(learned)
    return replace(
        settings,
        version_text=learned.root_text() or settings.version_text,
        paths={sensor.type: sensor.learned.path for sensor in sensors},
        content_formats={
            sensor.type: sensor.learned.content_format
            for sensor in sensors
            if sensor.learned.content_format is not None
        },
        unobservable=frozenset(sensor.type for sensor in sensors if not sensor.learned.observable),
        recorded=learned.resources,
    )


def _firmware(firmware: MilliProfile, learned: LearnedBoard) -> MilliProfile:
    """The firmware version that says of itself what the learned board said, and writes what it wrote."""
    content_format = learned.sensors[0].content_format
    return replace(
        firmware,
        version_text=learned.root_text() or firmware.version_text,
        content_format=firmware.content_format if content_format is None else content_format,
    )


def _check_name(classifier: str) -> None:
    if not 1 <= len(classifier) <= _MAX_CLASSIFIER_CHARACTERS or not classifier.isascii() or "/" in classifier:
        raise BoardSettingsError(
            f"classifier {classifier!r}", fix=f"use 1 to {_MAX_CLASSIFIER_CHARACTERS} ASCII characters without /"
        )


def pty_opener(
    link: str | None = None, *, baud: int = DEFAULT_BAUD, on_open: Callable[[PtyPipe], None] | None = None
) -> PipeOpener:
    """Opens a new pseudo-terminal that keeps the line rate, which a pty by itself does not.

    Args:
        link: path of a symlink to the other side.
        baud: bits a second.
        on_open: told about each new pty.
    """

    async def open_pipe() -> Pipe:
        pipe = open_pty(link)
        if on_open is not None:
            on_open(pipe)
        return RateLimitedPipe(pipe, baud)

    return open_pipe
