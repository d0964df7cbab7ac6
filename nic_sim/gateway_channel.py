"""The way to the gateway: confirmable POSTs from the NIC's own listening socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiocoap
from aiocoap import error as coap_error
from aiocoap.message import UndecidedRemote
from aiocoap.numbers.constants import TransportTuning

from meshwire.coap import codes
from nic_sim.settings import HostPort
from nic_sim.uplink import ChannelError, GatewayAnswer

__all__ = ["CoapGatewayChannel"]

ANSWER_TIMEOUT_S: Final = 30.0
"""For a gateway that acknowledges at once and answers later, or never."""
MAX_DIAGNOSTIC_OCTETS: Final = 200

_new_message: Callable[..., Any] = aiocoap.Message
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
    """

    def __init__(self, context: aiocoap.Context, gateway: HostPort) -> None:
        self._context = context
        self._gateway = gateway
        self._remote: Any = None
        """The resolved address, used until it fails: aiocoap resolves a name for every request otherwise."""

    async def post(
        self, path: tuple[str, ...], query: tuple[str, ...], content_format: int | None, payload: bytes
    ) -> GatewayAnswer:
        """Send one confirmable POST and return the answer; raises ChannelError."""
        message = _new_message(code=codes.POST, payload=payload, transport_tuning=_GatewayTuning())
        message.opt.uri_path = path
        message.opt.uri_query = query
        if content_format is not None:
            message.opt.content_format = content_format
        message.remote = self._remote or _new_remote("coap", str(self._gateway))
        request: Any = self._context.request(message, handle_blockwise=False)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                response: Any = await request.response
        except TimeoutError:
            self._remote = None
            raise ChannelError(f"no response within {ANSWER_TIMEOUT_S:g} s") from None
        except (coap_error.Error, OSError) as error:
            self._remote = None
            raise ChannelError(_words(error)) from None
        self._remote = message.remote
        max_age = response.opt.max_age if int(response.code) == codes.SERVICE_UNAVAILABLE else None
        diagnostic = "" if codes.is_success(int(response.code)) else _text(response.payload)
        return GatewayAnswer(int(response.code), max_age, diagnostic)


def _words(error: BaseException) -> str:
    """aiocoap's network errors say what happened only in their cause."""
    cause = error.__cause__ or error
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return text or type(cause).__name__


def _text(payload: bytes) -> str:
    return payload[:MAX_DIAGNOSTIC_OCTETS].decode(errors="replace")
