"""The NIC's server behind its OSCORE key: what the gateway has protected is opened and served, everything else refused.

Stands between aiocoap and `NicSite`, which sees plain requests and gives plain answers. Failures are answered as RFC
8613 section 8.2 has it, in plain, and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import structlog
from aiocoap.pipe import Pipe

from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId
from meshwire.oscore import GATEWAY_ID, Challenge, OscoreContext, OscoreError, OscoreOption, Reason, RequestId, Response
from nic_sim.wire import from_network, read_request, request_for_network, to_network

__all__ = ["OscoreSite"]

_ANSWERS: Final = {
    Reason.MALFORMED: (codes.BAD_OPTION, "Failed to decode COSE"),
    Reason.WRONG_KEY: (codes.BAD_REQUEST, "Decryption failed"),
    Reason.REPLAY: (codes.UNAUTHORIZED, "Replay detected"),
}

_log = structlog.get_logger(__name__)


class Site(Protocol):
    """Who serves plain requests."""

    async def render_to_pipe(self, pipe: Any) -> None:
        """Answer one request."""


class OscoreSite:
    """See the module's text.

    Args:
        device: for the log and the ID Context.
        context: of this NIC.
        site: serves what is inside.
        counters: of requests and answers.
    """

    def __init__(self, device: DeviceId, context: OscoreContext, site: Site, counters: Counter[str]) -> None:
        self._device = device
        self._context = context
        self._site = site
        self._counters = counters

    async def render_to_pipe(self, pipe: Pipe) -> None:
        """Answer one request."""
        answer: Callable[..., None] = pipe.add_response
        try:
            opened = self._open(read_request(pipe.request))
        except _Refused as refusal:
            self._note(refusal.reason)
            answer(to_network(refusal.answer), is_last=True)
            return
        if isinstance(opened, Challenge):
            self._counters["oscore-challenges"] += 1
            answer(to_network(opened.answer), is_last=True)
            return
        inner, request_id = opened
        protect = partial(self._context.protect_response, request_id=request_id)
        await self._site.render_to_pipe(_ProtectedPipe(pipe, inner, protect))

    def _open(self, message: Message) -> tuple[Message, RequestId] | Challenge:
        value = message.option(options.OSCORE)
        if value is None:
            words = f"nic {self._device}: OSCORE is required"
            raise _Refused(Reason.UNPROTECTED.value, codes.UNAUTHORIZED, words)
        try:
            header = OscoreOption.parse(value)
            if header.key_id != GATEWAY_ID or header.context not in (None, self._device.eui64):
                raise _Refused("oscore-no-key", codes.UNAUTHORIZED, "Security context not found")
            return self._context.open_request(message, header)
        except OscoreError as error:
            code, words = _ANSWERS.get(error.reason, (codes.INTERNAL_SERVER_ERROR, error.reason.value))
            raise _Refused(error.reason.value, code, words) from None

    def _note(self, reason: str) -> None:
        self._counters[reason] += 1
        if self._counters[reason] % 100 == 1:
            _log.warning("a request is refused", mac=self._device.value, reason=reason, total=self._counters[reason])


class _Refused(Exception):
    """A request is not served."""

    def __init__(self, reason: str, code: int, words: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = Response(code, ((options.MAX_AGE, b""),), words.encode())


class _ProtectedPipe:
    """A request that was protected, as plain to whoever serves it; its answers are protected on their way out."""

    def __init__(self, pipe: Any, inner: Message, protect: Callable[[Response], Response]) -> None:
        self._pipe = pipe
        self._protect = protect
        self.request: Any = request_for_network(inner, pipe.request)

    def add_response(self, message: Any, is_last: bool = False) -> None:
        """An answer."""
        protected = to_network(self._protect(from_network(message)))
        # For aiocoap, which keeps back what is not wanted (RFC 7967).
        protected.opt.no_response = message.opt.no_response
        self._pipe.add_response(protected, is_last=is_last)
