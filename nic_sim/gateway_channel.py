"""The way to the gateway: confirmable POSTs from the NIC's own listening socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import aiocoap
from aiocoap import error as coap_error
from aiocoap.message import UndecidedRemote
from aiocoap.numbers.constants import TransportTuning

from meshwire.coap import CON, Message, codes, options
from meshwire.oscore import OscoreContext, OscoreError, Reason, Response, challenged
from nic_sim.settings import HostPort
from nic_sim.uplink import ChannelError, GatewayAnswer
from nic_sim.wire import from_network, to_network

__all__ = ["CoapGatewayChannel"]

ANSWER_TIMEOUT_S: Final = 30.0
"""For a gateway that acknowledges at once and answers later, or never."""
MAX_DIAGNOSTIC_OCTETS: Final = 200
_ROUNDS: Final = 2
_KEY_REFUSED: Final = (codes.UNAUTHORIZED, codes.BAD_REQUEST, codes.BAD_OPTION)
"""How a gateway says that it has not opened a request (RFC 8613 section 8.2)."""

_new_remote: Callable[..., Any] = UndecidedRemote


class _GatewayTuning(TransportTuning):
    """One repetition instead of four: 6 to 9 s until the uplink's own, shorter and endless, repetition takes over."""

    MAX_RETRANSMIT = 1
    reliability = True


class CoapGatewayChannel:
    """See `uplink.GatewayChannel`.

    Args:
        context: the NIC's server context.
        gateway: where to.
        oscore: protects what is said; None: it is said in plain.
    """

    def __init__(self, context: aiocoap.Context, gateway: HostPort, oscore: OscoreContext | None = None) -> None:
        self._context = context
        self._gateway = gateway
        self._oscore = oscore
        self._remote: Any = None
        """The resolved address, used until it fails: aiocoap resolves a name for every request otherwise."""

    async def post(
        self, path: tuple[str, ...], query: tuple[str, ...], content_format: int | None, payload: bytes
    ) -> GatewayAnswer:
        """Send one confirmable POST and return the answer; raises ChannelError."""
        pairs = [(options.URI_PATH, part.encode()) for part in path]
        if content_format is not None:
            pairs.append((options.CONTENT_FORMAT, options.encode_uint(content_format)))
        pairs += [(options.URI_QUERY, part.encode()) for part in query]
        message = Message(CON, codes.POST, 0, b"", tuple(pairs), payload)
        response = await (self._ask(message) if self._oscore is None else self._ask_protected(self._oscore, message))
        max_age = response.option(options.MAX_AGE) if response.code == codes.SERVICE_UNAVAILABLE else None
        diagnostic = "" if codes.is_success(response.code) else _text(response.payload)
        return GatewayAnswer(response.code, None if max_age is None else options.decode_uint(max_age), diagnostic)

    async def _ask_protected(self, oscore: OscoreContext, message: Message) -> Response:
        """A gateway that was restarted asks once whether we are there now (RFC 8613 appendix B.1.2)."""
        echo = None
        for _ in range(_ROUNDS):
            try:
                protected, request_id = oscore.protect_request(message, echo=echo)
                response = await self._ask(protected)
                opened, _number = oscore.open_response(response, request_id)
            except OscoreError as error:
                if error.reason is Reason.UNPROTECTED and response.code in _KEY_REFUSED:
                    # In plain, so it is believed no further than that the NIC keeps what it has.
                    return replace(response, code=codes.UNAUTHORIZED)
                raise ChannelError(f"the gateway's answer is not taken: {error}") from None
            except OSError as error:
                raise ChannelError(f"no sequence numbers can be reserved: {error.strerror or error}") from None
            echo = challenged(opened)
            if echo is None:
                return opened
        raise ChannelError("the gateway asks for an echo again and again")

    async def _ask(self, message: Message) -> Response:
        """One request and its answer, as they are on the wire; raises ChannelError."""
        theirs = to_network(Response(message.code, message.options, message.payload))
        theirs.transport_tuning = _GatewayTuning()
        theirs.remote = self._remote or _new_remote("coap", str(self._gateway))
        request: Any = self._context.request(theirs, handle_blockwise=False)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                response: Any = await request.response
        except TimeoutError:
            self._remote = None
            raise ChannelError(f"{self._gateway}: no response within {ANSWER_TIMEOUT_S:g} s") from None
        except (coap_error.Error, OSError) as error:
            self._remote = None
            raise ChannelError(f"{self._gateway}: {_words(error)}") from None
        self._remote = theirs.remote
        return from_network(response)


def _words(error: BaseException) -> str:
    """aiocoap's network errors say what happened only in their cause."""
    cause = error.__cause__ or error
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return text or type(cause).__name__


def _text(payload: bytes) -> str:
    return payload[:MAX_DIAGNOSTIC_OCTETS].decode(errors="replace")
