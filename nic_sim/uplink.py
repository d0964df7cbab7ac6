"""The NIC's conversation with its gateway: registration of its address, and bubble-up data, one POST in flight.

Decides what each answer of the gateway means and how long to wait after a failure. Does not: hold what is queued
(`uplink_queue`), or speak UDP (`GatewayChannel` does, on the NIC's own listening socket, so that the gateway learns
from the datagram's source where the NIC listens).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import structlog

from meshwire.coap import codes
from meshwire.coap.options import LINK_FORMAT
from meshwire.identity import DeviceId
from meshwire.logs import tells_messages
from meshwire.mesh_place import MeshPlace, place_arguments
from meshwire.notification import Notification, uplink_request
from nic_sim.uplink_queue import UplinkQueue

__all__ = ["ChannelError", "GatewayAnswer", "GatewayChannel", "Uplink", "Verdict", "judge"]

REGISTER: Final = "register"
FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 5.0
"""With the channel's own repetition of at most 9 s, data resumes within 15 s after the gateway is back."""
REFUSED_WAIT_S: Final = 30.0
"""An unknown device asks again this often, so that data flows soon after it was provisioned."""
DEFAULT_MAX_AGE_S: Final = 60
"""RFC 7252 section 5.10.5, for 5.03 without Max-Age."""
LONGEST_MAX_AGE_S: Final = 300

_REMEDIES: Final = {
    codes.UNAUTHORIZED: "give it a key that fits: meshwire device provision {mac} --out FILE, then --oscore-key FILE",
}

_log = structlog.get_logger(__name__)


class ChannelError(Exception):
    """No answer of the gateway: time-out, ICMP error, or its name does not resolve."""


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """What of an answer matters here."""

    code: int
    max_age_s: int | None = None
    diagnostic: str = ""


class GatewayChannel(Protocol):
    """A confirmable POST to the gateway."""

    async def post(
        self, path: tuple[str, ...], query: tuple[str, ...], content_format: int | None, payload: bytes
    ) -> GatewayAnswer:
        """Raises ChannelError."""
        ...


class Verdict(Enum):
    """What to do with the request that was answered."""

    TAKEN = "taken"
    DROP = "drop"
    """The gateway will never take it."""
    LATER = "later"
    """It can't take it now."""
    REFUSED = "refused"
    """It does not know this device."""


def judge(code: int) -> Verdict:
    """The meaning of the gateway's answer to a POST."""
    if codes.is_success(code):
        return Verdict.TAKEN
    if code in (codes.FORBIDDEN, codes.NOT_FOUND, codes.UNAUTHORIZED):
        return Verdict.REFUSED
    if code >> 5 == 4 and code != codes.TOO_MANY_REQUESTS:
        return Verdict.DROP
    return Verdict.LATER


class Uplink:
    """Sends what is queued and keeps the NIC registered.

    Args:
        device: this NIC.
        queue: what is to be sent.
        channel: to the gateway.
        register_s: seconds between registrations.
        links: link-format of the NIC's resources, the registration's payload.
        place: where the NIC hangs in the mesh, told with the registration.
    """

    def __init__(
        self,
        device: DeviceId,
        queue: UplinkQueue,
        channel: GatewayChannel,
        *,
        register_s: float,
        links: Callable[[], bytes],
        place: Callable[[], MeshPlace] = MeshPlace,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.last_failure = ""
        self._device = device
        self._queue = queue
        self._channel = channel
        self._register_s = register_s
        self._links = links
        self._place = place
        self._register_at = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._changed = asyncio.Event()
        self._reachable: bool | None = None
        self._provisioned: bool | None = None
        self._log = _log.bind(mac=device.value)

    @property
    def reachable(self) -> bool | None:
        """Whether the gateway answered the last request; None before the first."""
        return self._reachable

    def deliver(self, notification: Notification) -> None:
        """Queue one notification."""
        dropped = self._queue.put(notification)
        if tells_messages():
            self._log.debug("notification queued", key=notification.key)
        if dropped is not None:
            self.counters["dropped-overflow"] += 1
            if self.counters["dropped-overflow"] % 100 == 1:
                self._log.warning(
                    "uplink queue is full, the oldest is dropped",
                    key=dropped.key,
                    total=self.counters["dropped-overflow"],
                )
        self._changed.set()

    async def run(self) -> None:
        """Register and send, until cancelled."""
        while True:
            now = asyncio.get_running_loop().time()
            if now >= self._register_at:
                wait_s = await self._register()
            elif (head := self._queue.head()) is not None:
                wait_s = await self._send(head)
            else:
                await self._rest(self._register_at)
                continue
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    async def _rest(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _register(self) -> float:
        query = (f"lt={self._register_s:.0f}", *place_arguments(self._place()))
        answer = await self._post((REGISTER, self._device.value), query, LINK_FORMAT, self._links())
        if answer is None:
            return self._back_off()
        verdict = judge(answer.code)
        if verdict is Verdict.TAKEN:
            self.counters["registered"] += 1
            self._accept()
        self._register_at = asyncio.get_running_loop().time() + self._register_s
        if verdict is Verdict.DROP:  # a gateway without registration: its loss, bubble-up may work all the same
            self.counters["registration-rejected"] += 1
            return 0.0
        return self._wait_for(verdict, answer)

    async def _send(self, head: Notification) -> float:
        path, query = uplink_request(head)
        answer = await self._post(path, query, head.content_format, head.payload)
        if answer is None:
            return self._back_off()
        verdict = judge(answer.code)
        if tells_messages():
            self._log.debug("notification sent", key=head.key, code=codes.code_text(answer.code))
        if verdict is Verdict.TAKEN:
            self.counters["taken"] += 1
            self._accept()
            self._queue.pop(head)
        elif verdict is Verdict.DROP:
            self.counters[f"dropped-{codes.code_text(answer.code)}"] += 1
            self._log.warning(
                "gateway rejects a notification, dropped",
                key=head.key,
                code=codes.code_text(answer.code),
                diagnostic=answer.diagnostic,
            )
            self._queue.pop(head)
        return self._wait_for(verdict, answer)

    async def _post(
        self, path: tuple[str, ...], query: tuple[str, ...], content_format: int | None, payload: bytes
    ) -> GatewayAnswer | None:
        self.counters["posts"] += 1
        try:
            answer = await self._channel.post(path, query, content_format, payload)
        except ChannelError as error:
            self.counters["unanswered"] += 1
            self.last_failure = str(error)
            if self._reachable is not False:
                self._log.warning(
                    "gateway not reachable",
                    error=str(error),
                    queued=len(self._queue),
                    do="start the gateway there, or correct --gateway; nothing is lost while the queue has room",
                )
            self._reachable = False
            return None
        self._reachable = True
        return answer

    def _back_off(self) -> float:
        wait_s = self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        self._register_at = 0.0  # when it is back, it may have been restarted and have forgotten our address
        return wait_s

    def _accept(self) -> None:
        self._backoff_s = FIRST_BACKOFF_S
        if self._provisioned is not True:
            self._log.info("gateway accepted", queued=len(self._queue))
        self._provisioned = True

    def _wait_for(self, verdict: Verdict, answer: GatewayAnswer) -> float:
        if verdict is Verdict.REFUSED:
            self.counters["refused"] += 1
            self.last_failure = f"{codes.code_text(answer.code)} {answer.diagnostic}".strip()
            if self._provisioned is not False:
                self._log.warning(
                    "gateway refuses this device",
                    code=codes.code_text(answer.code),
                    diagnostic=answer.diagnostic,
                    do=_REMEDIES.get(answer.code, "provision it: meshwire device add {mac} --tenant TENANT").format(
                        mac=self._device
                    ),
                )
            self._provisioned = False
            return REFUSED_WAIT_S
        if verdict is Verdict.LATER:
            self.counters["later"] += 1
            self.last_failure = f"{codes.code_text(answer.code)} {answer.diagnostic}".strip()
            wait_s = DEFAULT_MAX_AGE_S if answer.max_age_s is None else answer.max_age_s
            return float(min(max(wait_s, 1), LONGEST_MAX_AGE_S)) if answer.code == codes.SERVICE_UNAVAILABLE else 5.0
        return 0.0
