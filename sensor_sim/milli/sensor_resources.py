"""`/<classifier>/<type>` on a Milli board: reading, configuring, observing, and the notifications (dialect B.4, B.5).

Does: everything that a sensor path answers, and the octets of a notification. Does not: decide whether the pending
slot has room, or pulse the wake line; the station does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import NON, Message, encode
from meshwire.coap.options import CONTENT_FORMAT, MAX_AGE, OBSERVE, encode_uint
from sensor_sim.clock import BoardClock
from sensor_sim.errors import SensorError, SensorFailure
from sensor_sim.milli.observers import ObserverTable
from sensor_sim.milli.profile import MilliProfile
from sensor_sim.milli.reply import Reply, content
from sensor_sim.milli.request import BoardCrash, Request
from sensor_sim.sensors import Sensor

__all__ = ["SensorResources"]

_NOTIFICATION_MAX_AGE_S: Final = 90
_FAILURE_CODES: Final = {
    SensorFailure.NOT_IMPLEMENTED: codes.NOT_IMPLEMENTED,
    SensorFailure.BAD_DATA: codes.NOT_ACCEPTABLE,
    SensorFailure.FAILED: codes.INTERNAL_SERVER_ERROR,
}


class SensorResources:
    """The sensors of one board since its last boot.

    Args:
        profile: the firmware version.
        sensors: at most four.
        periods_s: seconds between notifications, by device type; 0 for push only.
        clock: the board's clock, by which the timers run.
    """

    def __init__(
        self, profile: MilliProfile, sensors: Sequence[Sensor], periods_s: Mapping[str, float], clock: BoardClock
    ) -> None:
        self.observers = ObserverTable()
        self.deregistrations = 0
        """How many were answered; 1.4.5 forgets its wake line after each."""
        self.samples = 0
        """How often a sensor was read, which takes the real board time."""
        self._profile = profile
        self._sensors = {sensor.type: sensor for sensor in sensors}
        self._periods_s = periods_s
        self._clock = clock
        self._deleted: set[str] = set()
        self._notification_mid: int | None = None

    def serves(self, device_type: bytes) -> bool:
        """Whether the board has a sensor of this type."""
        return device_type in [name.encode() for name in self._sensors]

    # ------------------------------------------------------------------ requests

    def respond(self, request: Request, now: float) -> Reply:
        """Answer a request for `/<classifier>/<type>`; `serves` was asked before."""
        sensor = self._sensors[request.path[1].decode()]
        try:
            return self._dispatch(sensor, request, now)
        except SensorError as error:
            if error.failure is SensorFailure.NO_HANDLER:
                raise BoardCrash(f"GET ?cfg of sensor {sensor.type} calls a null handler on the board") from error
            return Reply(_FAILURE_CODES[error.failure])

    def _dispatch(self, sensor: Sensor, request: Request, now: float) -> Reply:
        match request.header.code, request.query:
            case codes.GET, bytes(query):
                return self._get(sensor, query, request, now)
            case codes.PUT, bytes(query):
                return self._put(sensor, query)
            case codes.DELETE, b"all" if self._profile.deletes:
                self._deleted.add(sensor.type)
                return Reply(codes.DELETED)
        return Reply(codes.METHOD_NOT_ALLOWED)

    def _get(self, sensor: Sensor, query: bytes, request: Request, now: float) -> Reply:
        if query not in (b"sens", b"cfg"):
            return Reply(codes.NOT_IMPLEMENTED)
        match request.observe:
            case None:
                return self._representation(sensor, query, now)
            case b"" | b"\x00":
                return self._register(sensor, query, request.header.token, now)
            case b"\x01":
                self.deregistrations += 1
                self.observers.deregister(sensor.type, request.header.token)
                return Reply(codes.CONTENT)
        return Reply(codes.NOT_ACCEPTABLE)

    def _representation(self, sensor: Sensor, query: bytes, now: float) -> Reply:
        if query == b"cfg":
            return content(self._profile.content_format, sensor.configuration(self._clock.epoch(now)))
        return content(self._profile.content_format, self._read(sensor, now))

    def _read(self, sensor: Sensor, now: float) -> bytes:
        if sensor.type in self._deleted:
            raise SensorError(SensorFailure.FAILED)
        self.samples += 1
        return sensor.read(self._clock.epoch(now))

    def _put(self, sensor: Sensor, query: bytes) -> Reply:
        name, equals, text = query.partition(b"=")
        if name != b"cfg" or not equals:
            return Reply(codes.NOT_IMPLEMENTED)
        try:
            sensor.configure(text.decode())
        except UnicodeDecodeError:
            return Reply(codes.NOT_ACCEPTABLE)
        self._deleted.discard(sensor.type)
        return Reply(codes.CHANGED)

    # ------------------------------------------------------------------ observation

    def _register(self, sensor: Sensor, query: bytes, token: bytes, now: float) -> Reply:
        # An odd one: a configuration is answered with its body, the registration is noted, and no timer starts.
        body = self._representation(sensor, query, now) if query == b"cfg" else Reply(codes.VALID)
        if not self.observers.register(sensor.type, token):
            return Reply(codes.INTERNAL_SERVER_ERROR)
        if query == b"sens":
            self._start_timer(sensor.type, now)
        return Reply(body.code, ((OBSERVE, self._observe_number()), *body.options), body.payload)

    def _start_timer(self, device_type: str, now: float) -> None:
        if period_s := self._periods_s[device_type]:
            self.observers.start_timer(device_type, self._clock.time_s(now) + period_s)

    def _observe_number(self) -> bytes:
        return self.observers.take_number().to_bytes(3, "big")

    # ------------------------------------------------------------------ notifications

    def due(self, now: float) -> list[str]:
        """Device types whose timer has run out by the board's clock."""
        return [device_type for device_type, due_s in self.observers.timers() if self._clock.reached(due_s, now)]

    def next_due(self) -> float | None:
        """The `now` at which the next timer runs out, or None."""
        return min((self._clock.moment(due_s) for _, due_s in self.observers.timers()), default=None)

    def skip(self, device_type: str, now: float) -> None:
        """Let a due notification pass: a whole period to the next one, and the Observe counter stays."""
        self._start_timer(device_type, now)

    def notification(self, device_type: str, now: float) -> bytes | None:
        """Sample and build one notification and restart the timer if one runs.

        Returns:
            The message, or None when nobody observes or the sensor fails.
        """
        observer = self.observers.get(device_type)
        if observer is None:
            return None
        if observer.due_s is not None:
            self._start_timer(device_type, now)
        try:
            record = self._read(self._sensors[device_type], now)
        except SensorError:
            return None
        options = (
            (OBSERVE, self._observe_number()),
            (CONTENT_FORMAT, encode_uint(self._profile.content_format)),
            (MAX_AGE, struct.pack(">I", _NOTIFICATION_MAX_AGE_S)),
        )
        return encode(Message(NON, codes.CONTENT, self._take_mid(now), observer.token, options, record))

    def _take_mid(self, now: float) -> int:
        # The low 16 bits of the epoch at first use, then one more each time.
        mid = self._clock.epoch(now) & 0xFFFF if self._notification_mid is None else self._notification_mid
        self._notification_mid = (mid + 1) & 0xFFFF
        return mid
