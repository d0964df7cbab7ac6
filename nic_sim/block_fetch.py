"""The rest of a representation whose first block came with a notification (RFC 7959 section 3.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import CON, Message
from meshwire.coap.options import BLOCK2, ETAG, URI_PATH, URI_QUERY, decode_uint, encode_uint
from nic_sim.errors import UnreadableAnswer

__all__ = ["fetch_rest", "get_request", "has_more"]

MAX_BODY_OCTETS: Final = 8192
"""Longest representation that is put together; it has to fit one datagram to the gateway."""
_MORE: Final = 8
_SZX: Final = 7


def has_more(message: Message) -> bool:
    """Whether the payload is only the first of several blocks."""
    return bool((message.uint(BLOCK2) or 0) & _MORE)


def get_request(path: tuple[str, ...], query: str | None, extra: tuple[tuple[int, bytes], ...] = ()) -> Message:
    """A GET to the board; `extra` options in any order."""
    options = [(URI_PATH, segment.encode()) for segment in path]
    if query:
        options += [(URI_QUERY, part.encode()) for part in query.split("&")]
    return Message(CON, codes.GET, 0).with_options((*options, *extra))


async def fetch_rest(
    first: Message, path: tuple[str, ...], query: str | None, request: Callable[[Message], Awaitable[Message]]
) -> Message:
    """The message with its whole payload and without Block2.

    Args:
        first: the message with block 0.
        path: of the resource on the board.
        query: of the resource.
        request: asks the board.

    Raises:
        BoardError: no answer, the representation changed meanwhile, or it is too long.
    """
    szx = (first.uint(BLOCK2) or 0) & _SZX
    etag = first.option(ETAG)
    body, block = first.payload, first
    while has_more(block):
        number = len(body) >> (szx + 4)
        block = await request(get_request(path, query, ((BLOCK2, encode_uint(number << 4 | szx)),)))
        answered = decode_uint(block.option(BLOCK2) or b"")
        fits = answered >> 4 == number and answered & _SZX == szx and block.option(ETAG) == etag
        if block.code != codes.CONTENT or not fits:
            raise UnreadableAnswer(f"block {number} of a notification does not fit the blocks before it")
        body += block.payload
        if len(body) > MAX_BODY_OCTETS:
            raise UnreadableAnswer(f"a notification of more than {MAX_BODY_OCTETS} octets")
    return replace(first.without(BLOCK2), payload=body)
