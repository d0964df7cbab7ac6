"""Observations at devices, each shared by everybody who observes the same (RFC 7641 section 5): one at the NIC.

The first answer passes as it is, an empty 2.03 as well as a 2.05. The observation at the device is made again when it
is lost: the network failed, the device moved, or nothing has come for long after Max-Age. Observe numbers pass
unchanged until then; afterwards they are shifted so that clients, who know nothing of it, never see them fall. Who
joins later gets what came last; when that is no longer fresh, the device is asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from gateway.bodies import Devices
from gateway.cache import Cache, CacheKey
from gateway.deadlines import Deadlines
from gateway.device_failure import DeviceFailure, DeviceUnreachable
from gateway.exchange import GiveUp, Reply, Response
from gateway.forwarding import Forwarded, failure_response, returned_response
from gateway.registry import Registry
from meshwire.coap import codes, options
from meshwire.coap.observe import SEQUENCE_MODULUS, is_fresh
from meshwire.identity import DeviceId

__all__ = ["Observations", "SequenceShift"]

QUIET_S: Final = 256.0
"""A device that is silent for so long, and for twice its Max-Age, is asked again. Not sooner: some boards start their
reporting period anew at each registration, and would never come to report."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0
_DEFAULT_MAX_AGE_S: Final = 60
_NOT_THEIRS: Final = Response(codes.NOT_FOUND, b"gateway: no such device")
"""The device went to another tenant, was disabled or removed."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SequenceShift:
    """Observe numbers for the clients: the device's own, shifted after each new registration."""

    shift: int = 0
    last: int | None = None

    def begin_again(self, number: int) -> None:
        """The device has begun a new sequence with `number`: the clients' goes on above the last one."""
        if self.last is not None:
            self.shift = (self.last + 1 - number) % SEQUENCE_MODULUS

    def client_number(self, number: int) -> int:
        """The number that the clients get."""
        self.last = (number + self.shift) % SEQUENCE_MODULUS
        return self.last


@dataclass(slots=True, eq=False)
class _Observer:
    """One client's part in a shared observation."""

    reply: Reply
    has_answer: bool = False


@dataclass(slots=True, eq=False)
class _Shared:
    """One observation at a device."""

    key: CacheKey
    mac: DeviceId
    request: Forwarded
    observers: list[_Observer] = field(default_factory=list)
    shift: SequenceShift = field(default_factory=SequenceShift)
    registration: int = 0
    """Counts attempts at the device; what belongs to an earlier one is ignored."""
    give_up: GiveUp | None = None
    seen: tuple[int, float] | None = None
    """The device's last number, and when it came."""
    latest: Response | None = None
    """As clients got it last, with its Observe number."""
    latest_s: float = 0.0
    changes: int = 0
    quiet_s: float = QUIET_S
    retry_s: float = FIRST_RETRY_S


class Observations:
    """See the module's text.

    Args:
        devices: asks them.
        registry: where they are; tells when one moves.
        cache: gets what notifications bring.
        deadlines: for what is due later.
        now_s: their clock.
        timeout_s: how long a device may take for its first answer.
    """

    def __init__(
        self,
        devices: Devices,
        registry: Registry,
        cache: Cache,
        deadlines: Deadlines,
        now_s: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self._devices = devices
        self._registry = registry
        self._cache = cache
        self._deadlines = deadlines
        self._now_s = now_s
        self._timeout_s = timeout_s
        self._by_key: dict[CacheKey, _Shared] = {}
        self._unwatch = registry.watch(self._on_change)

    def __len__(self) -> int:
        """Observations at devices."""
        return len(self._by_key)

    def by_state(self) -> dict[str, int]:
        """How many are established, being made (the device has not answered yet), or lost and tried again later."""
        states = dict.fromkeys(("established", "asking", "lost"), 0)
        for shared in self._by_key.values():
            asked = "asking" if shared.seen is None else "established"
            states["lost" if shared.give_up is None else asked] += 1
        return states

    def close(self) -> None:
        """End all of them at the devices."""
        self._unwatch()
        for shared in list(self._by_key.values()):
            shared.observers.clear()
            self._close(shared)

    def subscribe(self, key: CacheKey, mac: DeviceId, request: Forwarded, reply: Reply) -> GiveUp:
        """Take part in an observation, which begins with its first observer and ends with its last.

        Args:
            key: of what is observed; the same for all who share it.
            mac: the device.
            request: the registration, without Observe.
            reply: takes the first answer and the notifications; one marked as the last ends it.
        """
        shared = self._by_key.get(key)
        if shared is None:
            shared = self._by_key[key] = _Shared(key, mac, replace(request, hop=()))
        observer = _Observer(reply)
        shared.observers.append(observer)
        if shared.registration == 0:
            self._register(shared)
        elif shared.latest is not None:
            self._welcome(shared, observer, shared.latest)
        return partial(self._leave, shared, observer)

    def _leave(self, shared: _Shared, observer: _Observer) -> None:
        if observer in shared.observers:
            shared.observers.remove(observer)
            if not shared.observers:
                self._close(shared)

    def _close(self, shared: _Shared) -> None:
        self._unregister(shared)
        if self._by_key.get(shared.key) is shared:
            del self._by_key[shared.key]

    # --- who comes later

    def _welcome(self, shared: _Shared, observer: _Observer, latest: Response) -> None:
        """The state as it is known, or as the device tells it now."""
        age_s = self._now_s() - shared.latest_s
        left_s = _max_age_s(latest) - int(age_s)
        if left_s > 0 or latest.code == codes.VALID:
            observer.has_answer = True
            aged = latest.with_option(options.MAX_AGE, options.encode_uint(max(0, left_s)))
            observer.reply(replace(latest, options=aged) if int(age_s) and latest.code != codes.VALID else latest)
            return

        def answer(response: Response) -> None:
            if observer in shared.observers and not observer.has_answer:
                observer.has_answer = True
                observer.reply(self._numbered(shared, returned_response(response)))

        def fail(failure: DeviceFailure) -> None:
            if observer in shared.observers and not observer.has_answer:
                self._leave(shared, observer)
                observer.reply(failure_response(failure))

        try:
            self._ask(shared, answer, fail)
        except DeviceFailure as failure:
            self._deadlines.at(self._now_s(), partial(fail, failure))

    def _numbered(self, shared: _Shared, response: Response) -> Response:
        if response.code != codes.CONTENT:
            return response
        number = options.encode_uint(shared.shift.last or 0)
        return replace(response, options=response.with_option(options.OBSERVE, number), last=False)

    def _ask(
        self,
        shared: _Shared,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        *extra: tuple[int, bytes],
    ) -> GiveUp:
        sighting = self._registry.sighting(shared.mac)
        if sighting is None:
            raise DeviceUnreachable("it has not told its address yet")
        request = shared.request.message(*extra)
        return self._devices.start(request, sighting.address, on_answer, on_end, self._timeout_s)

    # --- the registration at the device

    def _register(self, shared: _Shared) -> None:
        shared.registration += 1
        shared.seen = None
        shared.changes = self._cache.changes(shared.mac)
        number = shared.registration
        failed = partial(self._on_end, shared, number)
        try:
            shared.give_up = self._ask(shared, partial(self._on_answer, shared, number), failed, (options.OBSERVE, b""))
        except DeviceFailure as failure:
            self._deadlines.at(self._now_s(), partial(failed, failure))

    def _unregister(self, shared: _Shared) -> None:
        shared.registration += 1
        give_up, shared.give_up = shared.give_up, None
        if give_up is not None:
            give_up()

    def _on_change(self, mac: DeviceId) -> None:
        """The device has a new address, has started anew, or is not theirs any more."""
        for shared in [one for one in self._by_key.values() if one.mac == mac]:
            if self._is_still_theirs(shared):
                self._unregister(shared)
                self._register(shared)
            else:
                self._tell(shared, _NOT_THEIRS)
                self._close(shared)

    def _is_still_theirs(self, shared: _Shared) -> bool:
        """Whether the device is enabled, and of the tenant that it was of when the observation began."""
        device = self._registry.device(shared.mac)
        return device is not None and device.enabled and device.tenant.value == shared.key.tenant

    def _on_end(self, shared: _Shared, registration: int, failure: DeviceFailure) -> None:
        if registration != shared.registration:
            return
        if shared.latest is None:
            self._tell(shared, failure_response(failure))
            self._close(shared)
        else:
            self._retry_later(shared, str(failure))

    def _retry_later(self, shared: _Shared, reason: str) -> None:
        _log.info("an observation is made again", mac=str(shared.mac), reason=reason)
        self._unregister(shared)
        pause_s, shared.retry_s = shared.retry_s, min(2 * shared.retry_s, LONGEST_RETRY_S)
        self._deadlines.at(self._now_s() + pause_s, partial(self._retry, shared, shared.registration))

    def _retry(self, shared: _Shared, registration: int) -> None:
        if registration == shared.registration and shared.observers:
            self._register(shared)

    def _check_quiet(self, shared: _Shared, registration: int) -> None:
        """Has the device been silent for long?"""
        if registration != shared.registration or shared.seen is None:
            return
        due_s = shared.seen[1] + shared.quiet_s
        if self._now_s() >= due_s:
            self._retry_later(shared, "the device has been silent for long")
        else:
            self._deadlines.at(due_s, partial(self._check_quiet, shared, registration))

    # --- one answer of the device

    def _on_answer(self, shared: _Shared, registration: int, response: Response) -> None:
        if registration != shared.registration:
            return
        number = response.uint(options.OBSERVE)
        if response.last or number is None:
            if shared.latest is not None and response.code >= codes.INTERNAL_SERVER_ERROR:
                # The device can't go on now, say while its board starts: the clients need not know.
                self._retry_later(shared, codes.code_text(response.code))
                return
            self._tell(shared, replace(returned_response(response), last=True))
            self._close(shared)
            return
        now = self._now_s()
        is_first, seen = shared.seen is None, shared.seen
        if seen is not None and not is_fresh(*seen, number, now):
            return
        shared.seen = number, now
        shared.quiet_s = max(QUIET_S, 2.0 * _max_age_s(response))
        shared.retry_s = FIRST_RETRY_S
        if is_first:
            self._deadlines.at(now + shared.quiet_s, partial(self._check_quiet, shared, registration))
            shared.shift.begin_again(number)
            latest = shared.latest
            if latest is not None and (response.code == codes.VALID or response.payload == latest.payload):
                # The answer to a registration that the clients do not know of, and nothing new in it.
                shared.latest_s = now
                self._tell_waiting(shared, latest)
                return
        self._pass_on(shared, returned_response(response), number, now)

    def _pass_on(self, shared: _Shared, response: Response, number: int, now_s: float) -> None:
        observe = shared.shift.client_number(number)
        if observe != number:
            response = replace(response, options=response.with_option(options.OBSERVE, options.encode_uint(observe)))
        shared.latest, shared.latest_s = response, now_s
        self._cache.put(shared.key, response, shared.changes, now_s)
        shared.changes = self._cache.changes(shared.mac)
        self._tell(shared, response)

    def _tell(self, shared: _Shared, response: Response) -> None:
        for observer in tuple(shared.observers):
            observer.has_answer = True
            if response.last and observer in shared.observers:
                shared.observers.remove(observer)
            observer.reply(response)

    def _tell_waiting(self, shared: _Shared, response: Response) -> None:
        for observer in tuple(shared.observers):
            if not observer.has_answer:
                observer.has_answer = True
                observer.reply(response)


def _max_age_s(response: Response) -> int:
    max_age = response.uint(options.MAX_AGE)
    return _DEFAULT_MAX_AGE_S if max_age is None else max_age
