"""An observation through the gateway: the device's notifications to one client, as long as its session lasts.

The first answer passes as it is, an empty 2.03 as well as a 2.05. The observation at the device is made again when it
is lost: the network failed, the device moved, or nothing has come for long after Max-Age. Observe numbers pass
unchanged until then; afterwards they are shifted so that the client, which knows nothing of it, never sees them fall.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import structlog

from gateway.coap_context import DeviceContext, DeviceFailure, DeviceSilent, DeviceUnreachable
from gateway.exchange import Response
from gateway.forwarding import failure_response, returned_response
from gateway.registry import Registry
from gateway.sessions import Session
from meshwire.coap import Message, codes, options
from meshwire.coap.observe import SEQUENCE_MODULUS, is_fresh
from meshwire.identity import DeviceId

__all__ = ["ObserveRelay", "SequenceShift"]

QUIET_S: Final = 256.0
"""A device that is silent for so long, and for twice its Max-Age, is asked again. Not sooner: some boards start their
reporting period anew at each registration, and would never come to report."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0
_DEFAULT_MAX_AGE_S: Final = 60
_QUEUE: Final = 64
_SESSION_ENDED: Final = Response(codes.UNAUTHORIZED, b"gateway: the session has ended")
_NOT_THEIRS: Final = Response(codes.NOT_FOUND, b"gateway: no such device")
"""The device went to another tenant, was disabled or removed."""

_log = structlog.get_logger(__name__)


class _Signal(Enum):
    MOVED = "the device has a new address, or has started anew"
    ENDED = "the session has ended"
    QUIET = "the device has been silent for long"


_Happening = Response | DeviceFailure | _Signal


@dataclass(slots=True)
class SequenceShift:
    """Observe numbers for the client: the device's own, shifted after each new registration."""

    shift: int = 0
    last: int | None = None

    def begin_again(self, number: int) -> None:
        """The device has begun a new sequence with `number`: the client's goes on above the last one."""
        if self.last is not None:
            self.shift = (self.last + 1 - number) % SEQUENCE_MODULUS

    def client_number(self, number: int) -> int:
        """The number that the client gets."""
        self.last = (number + self.shift) % SEQUENCE_MODULUS
        return self.last


class ObserveRelay:
    """One observation of one client.

    Args:
        devices: asks the device.
        registry: where the device is; tells when it moves.
        mac: the device.
        request: the registration as it is forwarded.
        session: the client's; None when the request carried its own token.
        ends_in_s: then the life that the token has left, in seconds; None: it has no end.
        timeout_s: how long the device may take for its first answer.
    """

    def __init__(
        self,
        devices: DeviceContext,
        registry: Registry,
        mac: DeviceId,
        request: Message,
        session: Session | None,
        timeout_s: float,
        ends_in_s: float | None = None,
    ) -> None:
        self._devices = devices
        self._registry = registry
        self._mac = mac
        self._tenant = None if (device := registry.device(mac)) is None else device.tenant
        self._request = request
        self._session = session
        self._timeout_s = timeout_s
        self._ends_in_s = ends_in_s
        self._inbox: asyncio.Queue[tuple[int, _Happening]] = asyncio.Queue(_QUEUE)
        self._shift = SequenceShift()
        self._started = self._session_ended = False
        self._last_payload: bytes | None = None
        self._registration = 0
        self._give_up: Callable[[], None] | None = None
        self._seen: tuple[int, float] | None = None
        self._quiet_s = QUIET_S
        self._retry_s = FIRST_RETRY_S

    async def run(self) -> AsyncGenerator[Response, None]:
        """The answers for the client; being cancelled ends the observation at the device, too."""
        with self._listening():
            try:
                while True:
                    answer = await self._next_answer()
                    self._started = True
                    yield answer
                    if answer.last:
                        return
            finally:
                self._unregister()

    async def _next_answer(self) -> Response:
        """What the client gets next; on the way the registration is made again as often as it takes."""
        while not self._session_ended:
            if self._give_up is None:
                await self._register()
            match await self._next_happening():
                case Response() as response:
                    answer = self._judge(response)
                    if answer is not None:
                        return answer
                case DeviceFailure() as failure if not self._started:
                    return failure_response(failure)
                case _Signal.MOVED:
                    self._unregister()
                    if not self._is_still_theirs():
                        return _NOT_THEIRS
                case _Signal.ENDED:
                    break
                case DeviceFailure() | _Signal.QUIET as reason:
                    _log.info("an observation is made again", mac=str(self._mac), reason=str(reason))
                    await self._pause()
        return _SESSION_ENDED

    def _is_still_theirs(self) -> bool:
        """Whether the device is enabled, and of the tenant that it was of when the observation began."""
        device = self._registry.device(self._mac)
        return device is not None and device.enabled and device.tenant == self._tenant

    # --- the registration at the device

    async def _register(self) -> None:
        self._registration += 1
        self._seen = None
        number = self._registration
        sighting = self._registry.sighting(self._mac)
        try:
            if sighting is None:
                raise DeviceUnreachable("it has not told its address yet")
            self._give_up = await self._devices.start(
                self._request,
                sighting.address,
                lambda response: self._tell(response, number),
                lambda failure: self._tell(failure, number),
            )
        except DeviceFailure as failure:
            self._give_up = lambda: None
            self._tell(failure, number)

    def _unregister(self) -> None:
        if self._give_up is not None:
            self._give_up()
            self._give_up = None

    async def _pause(self) -> None:
        """Before the device is asked again; a new address or the session's end cuts it short."""
        self._unregister()
        pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, LONGEST_RETRY_S)
        try:
            async with asyncio.timeout(pause_s):
                while (await self._inbox.get())[1] not in (_Signal.MOVED, _Signal.ENDED):
                    pass
        except TimeoutError:
            pass

    # --- what happens

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        unwatch = self._registry.watch(self._on_change)
        end = None
        if self._session is not None:
            self._session.on_end.append(self._on_session_end)
        elif self._ends_in_s is not None:
            end = asyncio.get_running_loop().call_later(self._ends_in_s, self._on_session_end)
        try:
            yield
        finally:
            unwatch()
            if end is not None:
                end.cancel()
            if self._session is not None and self._on_session_end in self._session.on_end:
                self._session.on_end.remove(self._on_session_end)

    def _on_change(self, mac: DeviceId) -> None:
        if mac == self._mac:
            self._tell(_Signal.MOVED, self._registration)

    def _on_session_end(self) -> None:
        self._session_ended = True
        self._tell(_Signal.ENDED, self._registration)

    def _tell(self, happening: _Happening, registration: int) -> None:
        if self._inbox.full():
            # The client is slower than the device: it gets the newest states (RFC 7641 section 1.3).
            self._inbox.get_nowait()
        self._inbox.put_nowait((registration, happening))

    async def _next_happening(self) -> _Happening:
        """What belongs to the registration in force, or that nothing came in time."""
        waits_for_first = self._seen is None
        try:
            async with asyncio.timeout(self._timeout_s if waits_for_first else self._quiet_s):
                while True:
                    registration, happening = await self._inbox.get()
                    if registration == self._registration:
                        return happening
        except TimeoutError:
            return DeviceSilent(f"{self._timeout_s:g} s") if waits_for_first else _Signal.QUIET

    # --- one answer of the device

    def _judge(self, response: Response) -> Response | None:
        """The answer as the client gets it; None when it gets nothing of it."""
        number = _observe(response)
        if response.last or number is None:
            if self._started and response.code >= codes.INTERNAL_SERVER_ERROR:
                # The device can't go on now, say while its board starts: the client need not know.
                self._tell(DeviceUnreachable(codes.code_text(response.code)), self._registration)
                return None
            return replace(returned_response(response), last=True)
        now = asyncio.get_running_loop().time()
        is_first, seen = self._seen is None, self._seen
        if seen is not None and not is_fresh(*seen, number, now):
            return None
        self._seen = (number, now)
        self._quiet_s = max(QUIET_S, 2.0 * _max_age_s(response))
        self._retry_s = FIRST_RETRY_S
        if is_first:
            self._shift.begin_again(number)
            if self._started and (response.code == codes.VALID or response.payload == self._last_payload):
                # The answer to a registration that the client does not know of, and nothing new in it.
                return None
        self._last_payload = response.payload
        return _renumbered(returned_response(response), self._shift.client_number(number))


def _observe(response: Response) -> int | None:
    for number, value in response.options:
        if number == options.OBSERVE:
            return options.decode_uint(value)
    return None


def _max_age_s(response: Response) -> int:
    for number, value in response.options:
        if number == options.MAX_AGE:
            return options.decode_uint(value)
    return _DEFAULT_MAX_AGE_S


def _renumbered(response: Response, observe: int) -> Response:
    """With another Observe number; one that is right already keeps its octets."""
    if _observe(response) == observe:
        return response
    pairs = tuple(
        (number, options.encode_uint(observe) if number == options.OBSERVE else value)
        for number, value in response.options
    )
    return replace(response, options=pairs)
