"""The client side of aiocoap: requests to devices over one socket, failures in our own words."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

import aiocoap
from aiocoap import error
from aiocoap.numbers.constants import TransportTuning
from aiocoap.pipe import Pipe

from gateway.addresses import Address
from gateway.coap_context.translation import new_message, to_ours, to_theirs
from gateway.deduplication import ExpiringTable
from gateway.exchange import Response
from meshwire.coap import Message, codes

__all__ = ["DeviceContext", "DeviceFailure", "DeviceRefused", "DeviceSilent", "DeviceUnreachable"]

RECEIVE_BUFFER_OCTETS: Final = 4 << 20

# aiocoap is not annotated; these are the calls into it, named once.
_new_context: Callable[..., Any] = aiocoap.Context.create_client_context
_new_pipe: Callable[..., Any] = Pipe


class DeviceFailure(Exception):
    """A request got no answer from a device; the message is for people."""


class DeviceUnreachable(DeviceFailure):
    """The network says that nobody is there."""


class DeviceSilent(DeviceFailure):
    """No answer in time."""


class DeviceRefused(DeviceFailure):
    """The device rejected the message with a Reset."""


class _DeviceTuning(TransportTuning):
    """Two repetitions: a device that never acknowledges is given up after 14 to 21 s, before the client's patience."""

    MAX_RETRANSMIT = 2


class DeviceContext:
    """The client side: requests to devices, one socket for all."""

    def __init__(self) -> None:
        self._context: Any = None
        self._remotes: ExpiringTable[Address, Any] = ExpiringTable(3600.0, 20_000)

    async def open(self) -> None:
        """Must be awaited before the first request."""
        self._context = await _new_context(transports=["udp6"], loggername="gateway.devices")
        sock = self._manager.token_interface.message_interface.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)

    async def close(self) -> None:
        """End every exchange."""
        await self._context.shutdown()

    async def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
    ) -> Callable[[], None]:
        """Send a request.

        Args:
            request: code, options and payload count; Observe 0 registers an observation.
            address: where the device is.
            on_answer: called for the answer, or for each notification; `last` says whether more may come.
            on_end: called in place of an answer when none will come.

        Returns:
            The function that gives the exchange up; an observation is also cancelled at the device.

        Raises:
            DeviceUnreachable: there is no way to that address.
        """
        message = to_theirs(request.code, request.options, request.payload)
        message.transport_tuning = _DeviceTuning()
        message.remote = await self._remote(address)
        pipe = _new_pipe(message, self._context.log)

        def on_event(event: Any) -> bool:
            if event.message is not None:
                ours = to_ours(event.message)
                on_answer(Response(ours.code, ours.payload, ours.options, event.is_last))
            elif event.exception is not None:
                on_end(_failure(event.exception))
            return not event.is_last

        ended = []
        stop = pipe.on_event(on_event)
        pipe.on_interest_end(lambda: ended.append(True))
        self._manager.request(pipe)

        def give_up() -> None:
            if ended:
                return
            stop()
            if message.opt.observe == 0:
                self._deregister(request, message)

        return give_up

    def _deregister(self, request: Message, registered: Any) -> None:
        """Tell the device (RFC 7641 section 3.6): non-confirmable notifications would go on for ever otherwise."""
        message = to_theirs(request.code, request.options, b"")
        message.opt.observe = 1
        message.token, message.remote = registered.token, registered.remote
        message.transport_tuning = _DeviceTuning()
        with contextlib.suppress(OSError):
            self._manager.token_interface.send_message(message, lambda: None)

    async def _remote(self, address: Address) -> Any:
        """The address as aiocoap wants it; looked up once, since a look-up costs more than a request."""
        now = self._context.loop.time()
        remote = self._remotes.get(address, now)
        if remote is None:
            probe = new_message(code=codes.GET)
            probe.unresolved_remote = str(address)
            try:
                await self._context.find_remote_and_interface(probe)
            except (error.Error, OSError) as failure:
                raise DeviceUnreachable(str(failure) or type(failure).__name__) from None
            remote = probe.remote
            self._remotes.put(address, remote, now)
        return remote

    @property
    def _manager(self) -> Any:
        return self._context.request_interfaces[0]


def _failure(failure: object) -> DeviceFailure:
    """aiocoap's errors, and error classes, as ours."""
    kind = failure if isinstance(failure, type) else type(failure)
    if issubclass(kind, error.ConRetransmitsExceeded):
        return DeviceSilent("not acknowledged")
    if issubclass(kind, error.MessageError):
        return DeviceRefused("rejected by Reset")
    return DeviceUnreachable(str(failure) if not isinstance(failure, type) else kind.__name__)
