"""The forward proxy: a client's request to a device of its tenant, and the answer back.

The flow, in order: who asks (4.01) · for what (4.02, 5.05) · whose is it (4.04, the same octets for unknown and
foreign devices) · what is forwarded · where is the device (5.03) · ask it, or observe it. Authentication and ownership
are decided before anything changes or leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from gateway.access import Access
from gateway.addresses import Address
from gateway.coap_context import DeviceContext, DeviceFailure, DeviceSilent, DeviceUnreachable
from gateway.exchange import Response
from gateway.forwarding import failure_response, forwarded_request, returned_response
from gateway.observing import ObserveRelay
from gateway.registry import Registry
from gateway.target import TargetError, target_of
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId, Principal

__all__ = ["Proxy"]

_UNAUTHORIZED: Final = Response(codes.UNAUTHORIZED, b"gateway: open a session first (POST /sessions)")
_NOT_FOUND: Final = Response(codes.NOT_FOUND, b"gateway: no such device")


class Proxy:
    """See the module's text.

    Args:
        access: who asks, and whose device it is.
        registry: where devices are.
        devices: asks them.
        domains: accepted domains of device host names; empty: any.
        timeout_s: how long a device may take to answer.
    """

    def __init__(
        self, access: Access, registry: Registry, devices: DeviceContext, *, domains: Sequence[str], timeout_s: float
    ) -> None:
        self._access = access
        self._registry = registry
        self._devices = devices
        self._domains = domains
        self._timeout_s = timeout_s

    async def __call__(self, request: Message, source: Address) -> AsyncGenerator[Response, None]:
        """Answer one proxied request."""
        try:
            target = target_of(request, self._domains)
            malformed = None
        except TargetError as error:
            target, malformed = None, error
        principal = self._access.principal(source, target.access_token if target else None)
        if principal is None:
            yield _UNAUTHORIZED
            return
        if target is None:
            assert malformed is not None
            yield Response(malformed.code, str(malformed).encode())
            return
        device = self._access.device(principal, target.mac)
        if device is None:
            yield _NOT_FOUND
            return
        try:
            forwarded = forwarded_request(request, target)
        except TargetError as error:
            yield Response(error.code, str(error).encode())
            return
        if forwarded.code == codes.GET and forwarded.uint(options.OBSERVE) == 0:
            relay = self._relay(device.mac, forwarded, source, principal, own_token=target.access_token is not None)
            async with contextlib.aclosing(relay.run()) as answers:
                async for answer in answers:
                    yield answer
            return
        yield await self._ask(device.mac, forwarded)

    def _relay(
        self, mac: DeviceId, request: Message, source: Address, principal: Principal, *, own_token: bool
    ) -> ObserveRelay:
        """An observation that lasts as long as the session, or as the request's own token."""
        session, ends_in_s = None, None
        if not own_token:
            session = self._access.session(source)
        elif principal.expires_at is not None:
            ends_in_s = principal.expires_at - time.time()
        return ObserveRelay(self._devices, self._registry, mac, request, session, self._timeout_s, ends_in_s)

    async def _ask(self, mac: DeviceId, request: Message) -> Response:
        sighting = self._registry.sighting(mac)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        give_up = None
        try:
            if sighting is None:
                raise DeviceUnreachable("it has not told its address yet")
            async with asyncio.timeout(self._timeout_s):
                give_up = await self._devices.start(request, sighting.address, answer.set_result, answer.set_exception)
                return returned_response(await answer)
        except TimeoutError:
            return failure_response(DeviceSilent(f"{self._timeout_s:g} s"))
        except DeviceFailure as failure:
            return failure_response(failure)
        finally:
            if give_up is not None:
                give_up()
