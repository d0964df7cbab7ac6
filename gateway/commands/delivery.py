"""Bringing commands to devices: one task per device that is worth a try, one request under way for each.

The flow for one command: is the device still the tenant's, and there · ask whether somebody answers, before something
that must not be sent twice · write down that it is sent · send, and stop sending when its time is over · judge what
came. What may be sent when is `queue.py`'s to say, what an answer means `verdict.py`'s.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, assert_never

import structlog
from structlog.contextvars import bound_contextvars

from gateway.addresses import Address
from gateway.blocks import MAX_PAYLOAD_OCTETS
from gateway.bodies import Devices
from gateway.cancellation import to_its_end
from gateway.commands.errors import CommandStoreError
from gateway.commands.queue import CommandQueue
from gateway.commands.records import SAFE_METHODS, Change, Command, Mode, bare
from gateway.commands.verdict import Answered, Lost, Refused, Retry, Verdict, judge_answer, judge_failure
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceSilent
from gateway.exchange import Response
from gateway.registry import Registry
from meshwire.coap import codes
from meshwire.identity import DeviceId

__all__ = ["Delivery"]

LOOK_EVERY_S: Final = 1.0
FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 300.0
AT_ONCE: Final = 256
"""Devices that are spoken to at the same time."""
GOODBYE_S: Final = 2.0
"""On stopping, commands under way may take so long for their answer."""
_NEVER: Final = math.inf
_PING: Final = bare(codes.EMPTY, (), b"")

_log = structlog.get_logger(__name__)


class Delivery:
    """See the module's text.

    Args:
        queue: what waits.
        record: makes changes durable and tells of them; the future is done when they are.
        registry: whose device it is, and where.
        is_present: whether a device has been heard of lately.
        timeout_s: how long a device may take to answer.
        now_s: Unix time.
    """

    def __init__(
        self,
        queue: CommandQueue,
        record: Callable[[Sequence[Change]], asyncio.Future[None]],
        registry: Registry,
        is_present: Callable[[DeviceId], bool],
        *,
        timeout_s: float,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._record = record
        self._registry = registry
        self._is_present = is_present
        self._devices: Devices | None = None
        self._changing: Callable[[DeviceId], None] = lambda mac: None
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._wake = asyncio.Event()
        self._serving: dict[DeviceId, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._pauses: dict[DeviceId, float] = {}
        self._looked_s = 0.0

    def use(self, devices: Devices, changing: Callable[[DeviceId], None]) -> None:
        """Say who sends, and who is told when a device's state is about to change and has changed."""
        self._devices = devices
        self._changing = changing

    def wake(self) -> None:
        """There is something new to do."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then may still be answered for a moment."""
        unwatch = self._registry.watch(self._has_returned)
        try:
            while True:
                self.round()
                await self._wait()
        finally:
            unwatch()
            await to_its_end(asyncio.create_task(self.stop(GOODBYE_S), name="commands' goodbye"))

    def round(self) -> None:
        """See who is back, what has expired, and begin with every device that is worth a try."""
        now_s = self._now_s()
        if now_s - self._looked_s >= LOOK_EVERY_S or now_s < self._looked_s:
            self._looked_s = now_s
            self._look_for_returned()
        self._record(self._queue.expire(now_s))
        for mac in self._queue.due(now_s):
            if mac not in self._serving:
                task = self._serving[mac] = asyncio.create_task(self._serve(mac), name=f"commands of {mac}")
                task.add_done_callback(lambda _, mac=mac: self._served(mac))  # type: ignore[misc]

    def _look_for_returned(self) -> None:
        """The registry tells of new addresses; that a device is heard again at its old one is seen here."""
        for mac, since_s in self._queue.away_devices():
            sighting = self._registry.sighting(mac)
            if sighting is not None and sighting.seen_s > since_s:
                self._queue.returned(mac)

    def _served(self, mac: DeviceId) -> None:
        del self._serving[mac]
        if self._queue.is_due(mac, self._now_s()):
            self._wake.set()

    async def settle(self) -> None:
        """Return when nothing is under way any more."""
        while self._serving:
            await asyncio.wait(self._serving.values())

    async def stop(self, patience_s: float) -> None:
        """End everything that is under way, at the latest after `patience_s`."""
        for mac in self._serving:
            self._record(self._queue.away(mac, self._now_s(), _NEVER, hop="gateway", reason="the gateway stops"))
        if self._serving:
            await asyncio.wait(self._serving.values(), timeout=patience_s)
        for task in list(self._serving.values()):
            task.cancel()
        await self.settle()

    async def _wait(self) -> None:
        deadline_s = self._queue.next_deadline()
        patience_s = LOOK_EVERY_S if deadline_s is None else min(LOOK_EVERY_S, max(deadline_s - self._now_s(), 0.005))
        try:
            async with asyncio.timeout(patience_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _has_returned(self, mac: DeviceId) -> None:
        self._pauses.pop(mac, None)
        self._queue.returned(mac)
        if self._queue.waiting(mac):
            self._wake.set()

    # --- one device

    async def _serve(self, mac: DeviceId) -> None:
        try:
            async with self._turns:
                await self._work_off(mac)
        except CommandStoreError as error:
            _log.error("commands can't be stored; they wait", mac=str(mac), error=str(error))
            self._rest(mac, FIRST_PAUSE_S, "gateway", "commands can't be stored")
        except Exception:  # A fault of ours must not end the service for all other devices.
            _log.exception("commands of a device could not be delivered", mac=str(mac))
            command = self._queue.under_way(mac)
            if command is not None:
                self._record(self._queue.lost(command.key, self._now_s(), hop="gateway", reason="internal error"))
            self._rest(mac, FIRST_PAUSE_S, "gateway", "internal error")

    async def _work_off(self, mac: DeviceId) -> None:
        """One command after the other, as long as the device is there."""
        answers = False
        while self._queue.is_due(mac, now_s := self._now_s()):
            command = self._queue.head(mac, now_s)
            if command is None:
                return
            device = self._registry.device(mac)
            if device is None or not device.enabled or device.tenant != command.key.tenant:
                self._record(self._queue.refused(command.key, now_s, hop="gateway", reason="no such device"))
                continue
            sighting = self._registry.sighting(mac)
            if sighting is None or not self._is_present(mac):
                self._go_away(mac, now_s, _NEVER, "gateway", "device is not reachable")
                return
            if not answers and command.mode is Mode.STORED and not command.may_repeat:
                failure = await self._ping(sighting.address)
                if failure is not None:
                    self._go_away(mac, now_s, self._now_s() + self._pause_s(mac), "mesh", str(failure))
                    return
                answers = True
                continue
            answers = await self._deliver(command, sighting.address)

    async def _deliver(self, command: Command, address: Address) -> bool:
        """Send one command and see what comes; whether the device is there."""
        key = command.key
        begun = self._queue.begin(key, self._now_s())
        if begun is None:
            return True
        try:
            await self._record([begun])
        except CommandStoreError:
            # Not on disk, so it must not leave; and as it has not left, it may wait on.
            self._queue.put_back(key, self._now_s(), hop="gateway", reason="it can't be stored")
            raise
        if self._now_s() >= command.expires_s:
            self._record(self._queue.lapsed(key, self._now_s()))
            return True
        if command.request.code not in SAFE_METHODS:
            self._changing(key.mac)
        verdict = await self._exchange(begun.command, address)
        if command.request.code not in SAFE_METHODS:
            self._changing(key.mac)
        return self._take(begun.command, verdict)

    def _take(self, command: Command, verdict: Verdict) -> bool:
        key, mac, now_s = command.key, command.key.mac, self._now_s()
        match verdict:
            case Answered(answer):
                self._pauses.pop(mac, None)
                self._record(self._queue.answered(key, now_s, answer))
                return True
            case Refused(hop, reason):
                self._record(self._queue.refused(key, now_s, hop=hop, reason=reason))
            case Lost(hop, reason):
                self._record(self._queue.lost(key, now_s, hop=hop, reason=reason))
            case Retry(hop, reason, after_s):
                self._record(self._queue.put_back(key, now_s, hop=hop, reason=reason))
                self._rest(mac, after_s or self._pause_s(mac), hop, reason)
            case _:
                assert_never(verdict)
        return False

    async def _ping(self, address: Address) -> DeviceFailure | None:
        """Ask whether somebody is there; why not, or None."""
        end: asyncio.Future[DeviceFailure | None] = asyncio.get_running_loop().create_future()

        def on_end(failure: DeviceFailure | None) -> None:
            if not end.done():
                # The Reset is what a ping asks for (RFC 7252 section 4.3); any answer is a sign of life.
                end.set_result(None if isinstance(failure, DeviceRefused) else failure)

        assert self._devices is not None
        try:
            give_up = self._devices.start(
                _PING, address, lambda answer: on_end(None), on_end, self._timeout_s, lambda: on_end(None)
            )
        except DeviceFailure as failure:
            return failure
        try:
            return await end
        finally:
            give_up()

    async def _exchange(self, command: Command, address: Address) -> Verdict:
        loop = asyncio.get_running_loop()
        end: asyncio.Future[Response | DeviceFailure] = loop.create_future()
        acknowledgement: asyncio.Future[None] = loop.create_future()

        def on_end(what: Response | DeviceFailure) -> None:
            if not end.done():
                end.set_result(what)

        def on_acknowledged() -> None:
            if not acknowledgement.done():
                acknowledgement.set_result(None)
                self._record(self._queue.acknowledged(command.key, self._now_s()))

        started_s = loop.time()
        assert self._devices is not None
        try:
            with bound_contextvars(tenant=command.key.tenant.value, mac=command.key.mac.value, id=command.key.id):
                give_up = self._devices.start(
                    command.request, address, on_end, on_end, self._timeout_s, on_acknowledged
                )
        except DeviceFailure as failure:
            # Nothing has left.
            is_stored = command.mode is Mode.STORED
            return Retry("mesh", str(failure)) if is_stored else Refused("mesh", str(failure))
        try:
            # Unacknowledged requests are repeated: not beyond the command's time. A body in blocks may take all of
            # it: each block has a time of its own.
            left_s = command.expires_s - self._now_s()
            if len(command.request.payload) <= MAX_PAYLOAD_OCTETS:
                left_s = min(self._timeout_s, left_s)
            either: set[asyncio.Future[Any]] = {end, acknowledgement}
            await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if acknowledgement.done() and not end.done():
                await asyncio.wait({end}, timeout=self._timeout_s)
        finally:
            give_up()
        what = end.result() if end.done() else DeviceSilent(f"no answer in {loop.time() - started_s:.1f} s")
        if isinstance(what, Response):
            return judge_answer(command, bare(what.code, what.options, what.payload))
        return judge_failure(command, what, loop.time() - started_s, acknowledged=acknowledgement.done())

    # --- a device that is not there

    def _go_away(self, mac: DeviceId, since_s: float, ready_at_s: float, hop: str, reason: str) -> None:
        _log.info("commands wait for a device", mac=str(mac), hop=hop, reason=reason)
        self._record(self._queue.away(mac, since_s, ready_at_s, hop=hop, reason=reason, until_heard=True))

    def _rest(self, mac: DeviceId, pause_s: float, hop: str, reason: str) -> None:
        """The device is there and asks for time: being heard of does not shorten it."""
        now_s = self._now_s()
        self._record(self._queue.away(mac, now_s, now_s + pause_s, hop=hop, reason=reason))

    def _pause_s(self, mac: DeviceId) -> float:
        pause_s = self._pauses.get(mac, FIRST_PAUSE_S)
        self._pauses[mac] = min(2.0 * pause_s, LONGEST_PAUSE_S)
        return pause_s
