"""Between the network's messages (aiocoap) and the board's (`meshwire.coap`): what passes and what does not.

Code, payload and options pass as they are, octet for octet; hop-by-hop options, and what only the NIC can know, do not.
The only file of this package, besides `endpoint`, that looks inside aiocoap's messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import aiocoap
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption

from meshwire.coap import options
from meshwire.coap.message import CON, Message
from meshwire.oscore import Response

__all__ = [
    "HOP_BY_HOP",
    "for_board",
    "for_network",
    "from_network",
    "read_request",
    "request_for_network",
    "to_network",
]

HOP_BY_HOP: Final = frozenset(
    {
        options.URI_HOST,
        options.URI_PORT,
        options.HOP_LIMIT,
        options.PROXY_URI,
        options.PROXY_SCHEME,
        options.ENDPOINT_ID,
        189,  # Endpoint-ID-2 of the same expired draft
        options.NO_RESPONSE,
    }
)
"""Options that end at the NIC."""

# aiocoap is not annotated; these are the calls into it, named once.
_new_message: Callable[..., aiocoap.Message] = aiocoap.Message
_new_option: Callable[..., Any] = OpaqueOption


def read_request(message: Any) -> Message:
    """An aiocoap request as a plain value, all options as octets."""
    pairs = tuple((int(option.number), bytes(option.encode())) for option in message.opt.option_list())
    return Message(CON, int(message.code), 0, b"", pairs, message.payload)


def request_for_network(request: Message, outer: Any) -> Any:
    """The request inside of a protected one, as an aiocoap message from the same party and with the same token."""
    message: Any = _with_options(_new_message(code=request.code, payload=request.payload), request.options)
    message.remote, message.token, message.mid, message.mtype = outer.remote, outer.token, outer.mid, outer.mtype
    return message


def to_network(response: Response) -> Any:
    """An answer as an aiocoap message, all options as they are."""
    return _with_options(_new_message(code=response.code, payload=response.payload), response.options)


def from_network(message: Any) -> Response:
    """An aiocoap answer as a plain value, without what is meant for aiocoap itself (RFC 7967)."""
    pairs = read_request(message).options
    kept = tuple(pair for pair in pairs if pair[0] != options.NO_RESPONSE)
    return Response(int(message.code), kept, message.payload)


def _with_options(message: Any, pairs: tuple[tuple[int, bytes], ...]) -> Any:
    for number, value in pairs:
        message.opt.add_option(_new_option(OptionNumber(number), value))
    return message


def for_board(request: Message) -> Message:
    """A request for `/snsr/…` as the board gets it: without that segment and without hop-by-hop options."""
    kept: list[tuple[int, bytes]] = []
    segments = 0
    for number, value in request.options:
        if number == options.URI_PATH:
            segments += 1
            if segments == 1 or (segments == 2 and not value and len(request.path()) == 2):
                continue  # `snsr` itself; and `/snsr/` is `/` on the board
        if number not in HOP_BY_HOP:
            kept.append((number, value))
    return Message(CON, request.code, 0, b"", tuple(kept), request.payload)


def for_network(response: Message, request: Message, observe: int | None = None) -> aiocoap.Message:
    """A response as an aiocoap message.

    Args:
        response: of the board, or of the NIC's own resources.
        request: whose No-Response option, if any, is heeded (RFC 7967).
        observe: the number of a notification; None: none, whatever the board said.
    """
    message = _new_message(code=response.code, payload=response.payload)
    pairs = [
        (number, value) for number, value in response.options if number not in HOP_BY_HOP and number != options.OBSERVE
    ]
    if observe is not None:
        pairs.append((options.OBSERVE, options.encode_uint(observe)))
    _with_options(message, tuple(pairs))
    if (no_response := request.uint(options.NO_RESPONSE)) is not None:
        message.opt.no_response = no_response
    return message
