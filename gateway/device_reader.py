"""Asking devices on behalf of the gateway's own pages: one answer, or the notifications of an observation.

Does: find the device's address, send by the same message layer as the proxy, share observations with CoAP clients.
Does not: decide who may ask; the caller owes that, and owes it again while an observation runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.bodies import Devices
from gateway.cache import CacheKey
from gateway.commands.orders import OrderBody, request_of
from gateway.device_failure import DeviceSilent, DeviceUnreachable
from gateway.exchange import Response
from gateway.forwarding import Forwarded
from gateway.observations import Observations
from gateway.registry import Registry
from meshwire.identity import DeviceId, TenantId

__all__ = ["DeviceReader", "Observed"]

MAX_WAITING: Final = 16
"""Notifications that wait for a slow reader; the newest state counts (RFC 7641 section 1.3)."""


class Observed:
    """Answers of one observation that were not read yet."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[Response] = asyncio.Queue(MAX_WAITING)

    def take(self, response: Response) -> None:
        """One has come; the oldest gives way where the reader is slow."""
        if self._answers.full():
            self._answers.get_nowait()
        self._answers.put_nowait(response)

    async def next(self, patience_s: float = 10.0) -> Response | None:
        """The next answer; None when none has come in this time."""
        try:
            async with asyncio.timeout(patience_s):
                return await self._answers.get()
        except TimeoutError:
            return None


class DeviceReader:
    """See the module.

    Args:
        devices: asks them.
        observations: at devices, shared with everybody who observes the same.
        registry: where they are.
        timeout_s: how long a device may take for an answer, unless a caller is less patient.
    """

    def __init__(self, devices: Devices, observations: Observations, registry: Registry, timeout_s: float) -> None:
        self._devices = devices
        self._observations = observations
        self._registry = registry
        self._timeout_s = timeout_s

    async def ask(self, mac: DeviceId, path: str, *, method: str = "GET", timeout_s: float | None = None) -> Response:
        """One request and its whole answer.

        Args:
            mac: the device.
            path: path and query, such as `sys/link/stats`.
            method: name of the CoAP method.
            timeout_s: how long the answer may take, with all its blocks.

        Raises:
            DeviceFailure: there is none.
        """
        sighting = self._registry.sighting(mac)
        if sighting is None:
            raise DeviceUnreachable("it has not told its address yet")
        timeout_s = min(self._timeout_s, timeout_s or self._timeout_s)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        give_up = self._devices.start(
            request_of(OrderBody(method=method, path=path)),
            sighting.address,
            lambda response: None if answer.done() else answer.set_result(response),
            lambda failure: None if answer.done() else answer.set_exception(failure),
            timeout_s,
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise DeviceSilent(f"{timeout_s:g} s") from None
        finally:
            give_up()

    @asynccontextmanager
    async def observing(self, mac: DeviceId, tenant: TenantId, path: str) -> AsyncIterator[Observed]:
        """Observe a resource while the block runs; the last answer is marked so."""
        request = request_of(OrderBody(method="GET", path=path))
        forwarded = Forwarded(request.code, request.options, b"")
        observed = Observed()
        leave = self._observations.subscribe(CacheKey.of(mac, tenant, forwarded), mac, forwarded, observed.take)
        try:
            yield observed
        finally:
            leave()
