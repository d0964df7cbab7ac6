"""A whole Milli board as one sans-IO station: UART buffer, link machine, CoAP server, observation timers, wake line.

Does: the 400 ms idle rule, whole-buffer judgement, observation timers by the board's clock, the pending slot, boot,
crash and reset. Does not: sleep, read a clock, log, know pipes. The caller owes `handle_timer` at `next_deadline`,
sends all of `data_to_send`, drains `next_event` and `next_signal`, and passes a `now` in seconds that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from meshwire.hdlc.events import DownReason, Event, LinkDown, LinkUp
from meshwire.hdlc.parameters import LinkParameters
from sensor_sim.clock import MILLI_BOOT_EPOCH, BoardClock
from sensor_sim.milli.events import BoardReset, MilliEvent, WakePulse
from sensor_sim.milli.frame import DropReason, Input, examine
from sensor_sim.milli.link_machine import LinkMachine, Mode
from sensor_sim.milli.request import BoardCrash
from sensor_sim.milli.sensor_resources import SensorResources
from sensor_sim.milli.server import REBOOT_MESSAGE, MilliServer
from sensor_sim.milli.settings import MilliCounters, MilliSettings
from sensor_sim.milli.system_resources import SystemResources
from sensor_sim.sensors import Sensor

__all__ = ["IDLE_S", "MilliBoard"]

IDLE_S: Final = 0.4
"""The board looks at its buffer when the line has been idle for so long (dialect A.7)."""
_BUFFER_OCTETS: Final = 1024
"""The board's UART chunk buffer (A.6); what comes beyond it is lost, and the buffer is dropped for it."""
_RING_OCTETS: Final = 256
"""What the receive ring holds while nobody reads it, that is during the boot delay (A.1)."""
_PARAMETERS: Final = LinkParameters(255, 255, 1, 1)
"""What the board's UA says (A.5)."""
_BOOT_WAKE_PULSE_S: Final = 0.001
_MAX_EVENTS: Final = 1024
"""A driver that never drains loses the oldest."""


class MilliBoard:
    """The board. It boots at once, at the `now` given.

    Args:
        settings: how it is built.
        sensors: 1 to 4 sensors, each type once.
        now: seconds of the driver's clock.
    """

    def __init__(self, settings: MilliSettings, sensors: Sequence[Sensor], now: float) -> None:
        self._settings = settings
        self._sensors = tuple(sensors)
        self._events: deque[Event] = deque(maxlen=_MAX_EVENTS)
        self._signals: deque[MilliEvent] = deque(maxlen=_MAX_EVENTS)
        self._buffer = bytearray()
        self._overflowed = False
        self._idle_at: float | None = None
        self._output = b""
        self._output_at = now
        self._busy_until = now
        self.counters = MilliCounters()
        self._power_up(now)

    # ------------------------------------------------------------------ boot

    def _power_up(self, now: float) -> None:
        settings = self._settings
        self.clock = BoardClock(MILLI_BOOT_EPOCH, now)
        periods_s = {sensor.type: settings.periods_s.get(sensor.type, settings.period_s) for sensor in self._sensors}
        profile, classifier = settings.profile, settings.classifier
        system = SystemResources(profile.version_text, classifier, self.clock)
        self._resources = SensorResources(profile, self._sensors, periods_s, self.clock)
        self._server = MilliServer(profile, classifier, system, self._resources)
        self._link = LinkMachine(self._execute, oldest_pending_wins=profile.oldest_pending_wins)
        self._wake_is_low = False
        self._now = now
        self._boot_at: float | None = now + settings.boot_delay_s
        if settings.boot_delay_s == 0:
            self._serve(now)

    def _serve(self, now: float) -> None:
        """The sketch's set-up is done: the reboot message waits and the NIC is called."""
        self._boot_at = None
        self._link.offer(REBOOT_MESSAGE)
        if self._settings.profile.wake_pin_ready_at_boot:
            self._pulse(_BOOT_WAKE_PULSE_S)
        if self._buffer:
            self._idle_at = max(self._idle_at or now, now + IDLE_S)

    def reset(self, reason: str, now: float) -> None:
        """Start again, as after a crash: all that is kept in memory is lost, the reboot message waits."""
        self.counters.resets += 1
        if self._link.mode is Mode.NORMAL:
            self._events.append(LinkDown(DownReason.FRAME_REJECTED))
        self._signals.append(BoardReset(reason))
        self._buffer.clear()
        self._overflowed = False
        self._idle_at = None
        self._output = b""
        self._busy_until = now
        for sensor in self._sensors:
            sensor.reset()
        self._power_up(now)

    # ------------------------------------------------------------------ station protocol

    def receive_data(self, data: bytes, now: float) -> None:
        """Octets from the UART. Nothing is looked at before the line has been idle for 400 ms."""
        self._catch_up(now)
        if not data:
            return
        self.counters.octets_in += len(data)
        room = (_BUFFER_OCTETS if self._boot_at is None else _RING_OCTETS) - len(self._buffer)
        self._overflowed |= len(data) > room
        self._buffer += data[: max(0, room)]
        self._idle_at = max(now + IDLE_S, self._busy_until)

    def data_to_send(self, now: float) -> bytes:
        """The answer, once it is due; one contiguous frame or nothing."""
        if not self._output or now < self._output_at:
            return b""
        output, self._output = self._output, b""
        self.counters.octets_out += len(output)
        return output

    def next_deadline(self) -> float | None:
        """When `handle_timer` has to be called; None only for a board that nobody talks to and nobody observes."""
        if self._boot_at is not None:
            return self._boot_at
        # The firmware is one loop: observation timers run between frames, never while octets come in.
        work = self._idle_at if self._idle_at is not None else self._resources.next_due()
        output = self._output_at if self._output else None
        return min((moment for moment in (work, output) if moment is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`."""
        self._catch_up(now)

    def next_event(self) -> Event | None:
        """The next link event (up by SNRM, down by DISC or crash), or None."""
        return self._events.popleft() if self._events else None

    def next_signal(self) -> MilliEvent | None:
        """The next thing the board's driver has to act on: a wake pulse, or the news of a crash; None when drained."""
        return self._signals.popleft() if self._signals else None

    def send(self, sdu: bytes, now: float) -> int:
        """Offer a message to the pending slot as the board's own code does; where the oldest wins a full slot skips it.

        Returns:
            Always 0: a Milli board keeps no account of what became of a message.
        """
        self._catch_up(now)
        if self._boot_at is None and self._link.has_room():
            self._link.offer(sdu)
            self._pulse(self._settings.profile.wake_pulse_s)
        return 0

    def pipe_lost(self, now: float) -> None:
        """The cable is gone. The board does not notice: half a frame stays in its buffer until the line is idle."""

    # ------------------------------------------------------------------ the board's code

    @property
    def link(self) -> LinkMachine:
        """The link machine, to look at."""
        return self._link

    def observers(self) -> int:
        """How many paths are observed."""
        return len(self._resources.observers)

    def push(self, device_type: str, now: float) -> bool:
        """Send a value now, as a sketch does for an event; False when that path is not observed or the slot is full."""
        self._catch_up(now)
        return self._boot_at is None and self._notify(device_type, now)

    def _catch_up(self, now: float) -> None:
        self._now = now
        if self._boot_at is not None:
            if now < self._boot_at:
                return
            self._serve(now)
        if self._idle_at is not None and now >= self._idle_at:
            self._look_at_buffer(now)
        if self._idle_at is None and self._boot_at is None:
            self._run_timers(now)

    def _look_at_buffer(self, now: float) -> None:
        buffer, overflowed = bytes(self._buffer), self._overflowed
        self._buffer.clear()
        self._overflowed = False
        self._idle_at = None
        frame = DropReason.TOO_LONG if overflowed else examine(buffer)
        if isinstance(frame, DropReason):
            self.counters.dropped[frame.value] += 1
            return
        if frame.kind is Input.UNKNOWN:
            self.counters.dropped[DropReason.CONTROL.value] += 1
        self.counters.frames_in += 1
        mode = self._link.mode
        try:
            answer = self._link.receive(frame)
        except BoardCrash as crash:
            self.reset(str(crash), now)
            return
        self._tell_mode(mode)
        self._answer(answer, now)

    def _tell_mode(self, before: Mode) -> None:
        match before, self._link.mode:
            case Mode.DISCONNECTED, Mode.NORMAL:
                self._events.append(LinkUp(_PARAMETERS))
            case Mode.NORMAL, Mode.DISCONNECTED:
                self._events.append(LinkDown(DownReason.RELEASED))

    def _execute(self, message: bytes) -> bytes | None:
        resources = self._resources
        deregistrations, samples = resources.deregistrations, resources.samples
        answer = self._server.handle(message, self._now)
        if resources.deregistrations > deregistrations and not self._settings.profile.deregistration_releases_wake:
            self._pulse(None)
        if resources.samples > samples:
            self._busy_until = self._now + self._settings.reading_time_s
        return answer

    def _answer(self, answer: bytes, now: float) -> None:
        if answer:
            self.counters.frames_out += 1
            self._output = answer
            self._output_at = max(now, self._busy_until)

    def _run_timers(self, now: float) -> None:
        for device_type in self._resources.due(now):
            if not self._link.has_room():
                self._resources.skip(device_type, now)
                self.counters.notifications_skipped += 1
            else:
                self._notify(device_type, now)

    def _notify(self, device_type: str, now: float) -> bool:
        if not self._link.has_room():
            self.counters.notifications_skipped += 1
            return False
        message = self._resources.notification(device_type, now)
        if message is None:
            return False
        self._link.offer(message)
        self.counters.notifications += 1
        self._pulse(self._settings.profile.wake_pulse_s)
        return True

    def _pulse(self, width_s: float | None) -> None:
        # A line that is LOW already shows no edge; the pulse's end lets it go at last.
        if not self._wake_is_low:
            self._signals.append(WakePulse(width_s))
        self._wake_is_low = width_s is None
