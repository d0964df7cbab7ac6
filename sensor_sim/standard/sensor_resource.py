"""`/<classifier>/<type>` on the standard board: GET with or without `?sens`, `?cfg`, PUT `?cfg=…`, observe (RFC 7641).

Does: representations with ETag and Max-Age, validation, the Observe sequence. aiocoap numbers each registration from 0
again, which a client that registers anew may take for old news (RFC 7641 section 4.4); so observation is done here,
with one rising number for the whole board. Does not: decide when to sample; `StandardBoard` calls `notify`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from aiocoap import Message, error
from aiocoap.numbers.codes import CHANGED, CONTENT, GET, VALID
from aiocoap.numbers.constants import Reliable, Unreliable
from aiocoap.pipe import Pipe

from meshwire.coap.observe import SEQUENCE_MODULUS
from meshwire.coap.options import CBOR
from sensor_sim.clock import BoardClock
from sensor_sim.errors import SensorError, SensorFailure
from sensor_sim.sensors import Sensor
from sensor_sim.standard.journal import Journal
from sensor_sim.standard.system_resources import BoardResource

__all__ = ["ObserveSequence", "SensorResource"]

_ETAG_OCTETS: Final = 8
_PUSH_ONLY_MAX_AGE_S: Final = 60
_CONFIRMABLE_EVERY_S: Final = 86_400.0
"""At least one notification in 24 hours is confirmable, to find out whether the observer still lives (RFC 7641 4.5)."""
_REGISTER: Final = 0

_ERRORS: Final[dict[SensorFailure, type[error.ConstructionRenderableError]]] = {
    SensorFailure.NOT_IMPLEMENTED: error.BadRequest,
    SensorFailure.BAD_DATA: error.BadRequest,
    SensorFailure.FAILED: error.InternalServerError,
    SensorFailure.NO_HANDLER: error.NotImplemented,
}


class ObserveSequence:
    """The board's Observe numbers: rising, 24 bits, the same for all paths."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(1)

    def take(self) -> int:
        """The next number."""
        return next(self._numbers) % SEQUENCE_MODULUS


class _Observer:
    """One client that observes: woken for each new value, ended by a Reset."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.rejected = False
        self.last_mid: int | None = None
        """Message ID of the notification sent last."""

    async def goes_on(self) -> bool:
        """Wait for a new value; False when the client does not want it any more."""
        await self.changed.wait()
        self.changed.clear()
        return not self.rejected


class SensorResource(BoardResource):
    """One sensor.

    Args:
        sensor: what is read.
        clock: the board's clock.
        now: seconds of the driver's clock.
        period_s: seconds between notifications, for Max-Age; 0 for push only.
        confirmable: send notifications as CON instead of NON.
        sequence: shared by all sensors of the board.
        journal: takes every reading.
        content_format: of its records.
        observable: whether it takes registrations (RFC 7641 section 4.1: if not, a registration is a plain GET).
    """

    if_ = "sensor"

    def __init__(
        self,
        sensor: Sensor,
        clock: BoardClock,
        now: Callable[[], float],
        *,
        period_s: float,
        confirmable: bool,
        sequence: ObserveSequence,
        journal: Journal,
        content_format: int = CBOR,
        observable: bool = True,
    ) -> None:
        super().__init__()
        self._observable = observable
        self.ct = content_format
        self.rt = sensor.type
        self._sensor = sensor
        self._clock = clock
        self._now = now
        self._max_age_s = math.ceil(1.5 * period_s) if period_s else _PUSH_ONLY_MAX_AGE_S
        self._confirmable = confirmable
        self._sequence = sequence
        self._journal = journal
        self._observers: set[_Observer] = set()
        self._record = b""
        self._record_epoch: int | None = None

    @property
    def observers(self) -> int:
        """How many observations stand."""
        return len(self._observers)

    def get_link_description(self) -> dict[str, str | None]:
        """What `/.well-known/core` says of this resource (RFC 6690)."""
        links: dict[str, str | None] = {"rt": self.rt, "if": self.if_, "ct": str(self.ct)}
        return links | ({"obs": None} if self._observable else {})

    # ------------------------------------------------------------------ requests

    async def render_to_pipe(self, pipe: Pipe) -> None:
        """Answer once, or for as long as the client observes."""
        request = pipe.request
        later_block = request.opt.block2 is not None and request.opt.block2.block_number > 0
        wants_value = request.code is GET and request.opt.uri_query in ((), ("sens",))
        if self._observable and request.opt.observe == _REGISTER and wants_value and not later_block:
            await self._observe(pipe)
        else:
            await super().render_to_pipe(pipe)

    async def render_get(self, request: Message) -> Message:
        """The value, at most a second old, or the setting."""
        match request.opt.uri_query:
            case () | ("sens",):
                return self._representation(request, self._recent_record())
            case ("cfg",):
                return self._representation(request, self._configuration())
        raise error.BadRequest("query is sens or cfg")

    async def render_put(self, request: Message) -> Message:
        """Take a setting from the query; observers hear what the sensor reports now."""
        query = request.opt.uri_query
        if len(query) != 1 or not query[0].startswith("cfg="):
            raise error.BadRequest("query is cfg=…")
        try:
            self._sensor.configure(query[0].removeprefix("cfg="))
        except SensorError as failure:
            raise _ERRORS[failure.failure](str(failure)) from failure
        self._record_epoch = None
        self.notify()
        return Message(code=CHANGED)

    def _configuration(self) -> bytes:
        try:
            return self._sensor.configuration(self._clock.epoch(self._now()))
        except SensorError as failure:
            raise _ERRORS[failure.failure](str(failure)) from failure

    def _recent_record(self) -> bytes:
        if self._record_epoch != self._clock.epoch(self._now()):
            self._sample()
        return self._record

    def _sample(self) -> None:
        epoch = self._clock.epoch(self._now())
        try:
            self._record = self._sensor.read(epoch)
        except SensorError as failure:
            raise _ERRORS[failure.failure](str(failure)) from failure
        self._record_epoch = epoch
        self._journal.note(epoch, self._sensor.type, self._record)

    def _representation(self, request: Message, record: bytes) -> Message:
        if request.opt.accept not in (None, self.ct):
            raise error.NotAcceptable
        etag = hashlib.sha256(record).digest()[:_ETAG_OCTETS]
        if etag in (request.opt.etags or ()):
            response = Message(code=VALID)
        else:
            response = Message(code=CONTENT, payload=record, content_format=self.ct)
        response.opt.etag = etag
        response.opt.max_age = self._max_age_s
        return response

    # ------------------------------------------------------------------ observation

    def notify(self) -> None:
        """Take a reading and send it to all observers."""
        try:
            self._sample()
        except error.RenderableError:
            return
        for observer in self._observers:
            observer.changed.set()

    def reset(self, mid: int) -> None:
        """The client answered message `mid` with a Reset: if that was a notification, its observation ends.

        aiocoap does this for confirmable notifications only (RFC 7641 section 3.6 asks for both).
        """
        for observer in self._observers:
            if observer.last_mid == mid:
                observer.rejected = True
                observer.changed.set()

    async def _observe(self, pipe: Pipe) -> None:
        """Answer with the present value, then with each new one, until the client rejects one or the task is cancelled:
        aiocoap does so when the client deregisters or the link goes down."""
        observer = _Observer()
        first = self._representation(pipe.request, self._recent_record())
        first.opt.observe = self._sequence.take()
        self._observers.add(observer)
        last_confirmable_s = self._now()
        try:
            pipe.add_response(first)
            while await observer.goes_on():
                confirmable = self._confirmable or self._now() - last_confirmable_s >= _CONFIRMABLE_EVERY_S
                if confirmable:
                    last_confirmable_s = self._now()
                notification = self._notification(pipe.request, confirmable=confirmable)
                pipe.add_response(notification)
                observer.last_mid = notification.mid
        finally:
            self._observers.discard(observer)

    def _notification(self, request: Message, *, confirmable: bool) -> Message:
        message = self._representation(request, self._record)
        message.opt.observe = self._sequence.take()
        message.transport_tuning = Reliable() if confirmable else Unreliable()
        return message
