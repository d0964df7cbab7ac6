"""Requests to NICs that have a key: protected on the way out, their answers opened on the way back.

Stands between block-wise transfers and the message layer: each block is protected by itself, a repeated datagram is the
same octets. A NIC that was restarted asks once for an Echo; its request is sent again with it, and nobody notices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from gateway.addresses import Address, nic_of
from gateway.device_exchanges import DeviceExchanges
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceUnreachable
from gateway.errors import RegistryError
from gateway.exchange import GiveUp, Response
from gateway.nic_oscore.keys import NicKeys
from meshwire.coap import Message, codes, options
from meshwire.coap.observe import SEQUENCE_MODULUS
from meshwire.oscore import OscoreContext, OscoreError, RequestId, challenged
from meshwire.oscore import Response as Protected

__all__ = ["ProtectedDevices"]

_NO_KEY: Final = "it has no OSCORE key, and gateway.nic_oscore is required: meshwire device provision"

_log = structlog.get_logger(__name__)


class ProtectedDevices:
    """See the module's text; a `bodies.Devices`.

    Args:
        devices: the message layer.
        keys: of the site's NICs.
        required: whether nothing may be sent in plain.
    """

    def __init__(self, devices: DeviceExchanges, keys: NicKeys, *, required: bool) -> None:
        self._devices = devices
        self._keys = keys
        self._required = required

    def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> GiveUp:
        """As `Devices.start`; a ping has nothing to protect."""
        context = self._context(address)
        plain = replace(address, security="")
        if context is None or request.code == codes.EMPTY:
            if self._required and request.code != codes.EMPTY:
                raise DeviceUnreachable(_NO_KEY)
            return self._devices.start(request, plain, on_answer, on_end, timeout_s, on_acknowledged)
        exchange = _Exchange(self._devices, context, request, plain, on_answer, on_end, timeout_s, on_acknowledged)
        exchange.send()
        return exchange.give_up

    def _context(self, address: Address) -> OscoreContext | None:
        mac = nic_of(address)
        try:
            return None if mac is None else self._keys.context(mac)
        except RegistryError as error:
            raise DeviceUnreachable(f"its key can't be used: {error}") from None


@dataclass(slots=True)
class _Exchange:
    """One request and its answers."""

    devices: DeviceExchanges
    context: OscoreContext
    request: Message
    address: Address
    on_answer: Callable[[Response], None]
    on_end: Callable[[DeviceFailure], None]
    timeout_s: float
    on_acknowledged: Callable[[], None] | None
    echo: bytes | None = None
    newest: int = -1
    """Sequence number of the latest notification."""
    notifications: int = 0
    is_over: bool = False
    ends: GiveUp | None = None
    sent: RequestId | None = field(default=None, repr=False)

    def send(self) -> None:
        """Raises DeviceUnreachable."""
        try:
            protected, self.sent = self.context.protect_request(self.request, echo=self.echo)
        except (OscoreError, RegistryError) as error:
            raise DeviceUnreachable(f"its request can't be protected: {error}") from None
        self.ends = self.devices.start(
            protected, self.address, self._answered, self.on_end, self.timeout_s, self.on_acknowledged, self._farewell
        )

    def give_up(self) -> None:
        self.is_over = True
        if self.ends is not None:
            self.ends()

    def _farewell(self) -> Message:
        """RFC 7641 section 3.6, protected as a request of its own."""
        cancel = self.request.without(options.OBSERVE).with_options([(options.OBSERVE, b"\x01")])
        return self.context.protect_request(replace(cancel, payload=b""))[0]

    def _answered(self, response: Response) -> None:
        if self.is_over:
            return
        assert self.sent is not None
        try:
            opened, number = self.context.open_response(
                Protected(response.code, response.options, response.payload), self.sent
            )
        except OscoreError as error:
            self._not_taken(response, error)
            return
        if (echo := challenged(opened)) is not None and self.echo is None:
            self.echo = echo
            try:
                self.send()
            except DeviceUnreachable as failure:
                self.on_end(failure)
            return
        pairs = opened.options
        if not response.last:
            # RFC 8613 section 4.1.3.5.2: one that is older, or comes again, is none. What the NIC counts by is not
            # protected, so they are numbered anew here.
            if self.notifications and (number is None or number <= self.newest):
                return
            self.newest = -1 if number is None else number
            count = options.encode_uint(self.notifications % SEQUENCE_MODULUS)
            self.notifications += 1
            pairs = tuple((n, count if n == options.OBSERVE else value) for n, value in pairs)
        last = response.last or not codes.is_success(opened.code)
        self.on_answer(Response(opened.code, opened.payload, pairs, last))

    def _not_taken(self, response: Response, error: OscoreError) -> None:
        """Anybody can send an answer in plain: it ends a request, for want of a better one, and no observation."""
        if self.notifications and not response.last:
            _log.warning("a notification of a NIC is not protected rightly", to=str(self.address), reason=str(error))
            return
        words = f"{codes.code_text(response.code)} {response.payload[:64].decode(errors='replace')}".strip()
        if not response.last:
            self.give_up()
        self.on_end(DeviceRefused(f"its answer is not taken ({error}): {words}"))
