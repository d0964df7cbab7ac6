"""Block-wise transfers with clients (RFC 7959): bodies come in blocks and leave in blocks of the client's size.

The gateway is an end of the transfer: it gathers an upload before a device hears of it, and keeps a large answer for
the client that fetches it block by block. Both are bounded, by size and by age. No clock, no socket.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from gateway.addresses import Address
from gateway.exchange import Response
from meshwire.coap import codes, options

__all__ = ["MAX_PAYLOAD_OCTETS", "Block", "BlockTable", "BodyKey"]

LARGEST_SZX: Final = 6
MAX_PAYLOAD_OCTETS: Final = 1024
"""Longest payload of one message (RFC 7252 section 4.6)."""
TRANSFER_LIFETIME_S: Final = 247.0
MAX_TRANSFERS: Final = 1024
_RESERVED_SZX: Final = 7
_ETAG_OCTETS: Final = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A block option's value (RFC 7959 section 2.2)."""

    number: int
    more: bool
    szx: int

    @classmethod
    def parse(cls, value: bytes) -> Block | None:
        """Read it; None when it is none."""
        whole = options.decode_uint(value)
        if len(value) > 3 or whole & 7 == _RESERVED_SZX:
            return None
        return cls(whole >> 4, bool(whole & 8), whole & 7)

    @property
    def size(self) -> int:
        """Octets of a block."""
        return 1 << self.szx + 4

    @property
    def offset(self) -> int:
        """Where the block begins."""
        return self.number * self.size

    def encode(self) -> bytes:
        """The option's value."""
        return options.encode_uint(self.number << 4 | self.more << 3 | self.szx)


@dataclass(frozen=True, slots=True)
class BodyKey:
    """Which transfer: who, and what of which device (RFC 7959 section 2.10: the cache key, for this client)."""

    source: Address
    resource: object
    """Device, method and options; equal for all blocks of a body."""


_Transfer = tuple[float, Response | bytearray, int]
"""When it was touched last; an answer that is fetched, or an upload; and its length as it was then."""


class BlockTable:
    """See the module's text.

    Args:
        max_body_octets: longest body of one transfer.
        max_octets: of all transfers together; the oldest makes room.
    """

    def __init__(self, max_body_octets: int, max_octets: int) -> None:
        self._max_body_octets = max_body_octets
        self._max_octets = max_octets
        self._octets = 0
        self._transfers: OrderedDict[BodyKey, _Transfer] = OrderedDict()

    @property
    def octets(self) -> int:
        """Of everything that is held."""
        return self._octets

    # --- from the client

    def gather(self, key: BodyKey, block: Block, payload: bytes, now_s: float) -> Response | bytes:
        """Take a block of an upload: the whole body with the last one, else what is answered."""
        if block.more and len(payload) != block.size:
            return Response(codes.BAD_REQUEST, b"gateway: a block that is not the last one has the wrong length")
        if block.offset + len(payload) > self._max_body_octets:
            self._drop(key)
            limit = ((options.SIZE1, options.encode_uint(self._max_body_octets)),)
            return Response(codes.REQUEST_ENTITY_TOO_LARGE, b"gateway: the body is too large", limit)
        known = self._get(key, now_s)
        body = bytearray() if block.number == 0 else known
        if not isinstance(body, bytearray) or len(body) < block.offset:
            return Response(codes.REQUEST_ENTITY_INCOMPLETE, b"gateway: an earlier block is missing")
        # A block that came already begins anew from there.
        del body[block.offset :]
        body += payload
        if not block.more:
            self._drop(key)
            return bytes(body)
        self._put(key, body, now_s)
        return Response(codes.CONTINUE, b"", ((options.BLOCK1, block.encode()),))

    # --- to the client

    def fetch(self, key: BodyKey, block: Block, now_s: float) -> Response | None:
        """A later block of an answer that is held; None: it is not."""
        held = self._get(key, now_s)
        return self._slice(held, block) if isinstance(held, Response) else None

    def sized(self, key: BodyKey, wish: Block | None, response: Response, now_s: float) -> Response:
        """An answer as the client can take it: whole, or the block it asks for, and the rest is held.

        Args:
            key: of the transfer.
            wish: the block that the client asks for; None: it did not say.
            response: whole.
            now_s: for its age.
        """
        block = wish or Block(0, False, LARGEST_SZX)
        if len(response.payload) <= block.size and block.number == 0:
            return response
        if response.option(options.ETAG) is None:
            # The client must see when blocks are of different representations (RFC 7959 section 2.4).
            etag = hashlib.blake2s(response.payload, digest_size=_ETAG_OCTETS).digest()
            response = replace(response, options=response.with_option(options.ETAG, etag))
        self._put(key, response, now_s)
        return self._slice(response, block)

    def _slice(self, response: Response, block: Block) -> Response:
        total, start = len(response.payload), block.offset
        if start >= total:
            return Response(codes.BAD_REQUEST, b"gateway: there is no such block")
        part = response.payload[start : start + block.size]
        ours = Block(block.number, start + len(part) < total, block.szx)
        pairs = response.with_option(options.BLOCK2, ours.encode())
        if block.number == 0:
            pairs = replace(response, options=pairs).with_option(options.SIZE2, options.encode_uint(total))
        return replace(response, payload=part, options=pairs)

    # --- what is held

    def _get(self, key: BodyKey, now_s: float) -> Response | bytearray | None:
        transfer = self._transfers.get(key)
        if transfer is None or now_s - transfer[0] > TRANSFER_LIFETIME_S:
            return None
        return transfer[1]

    def _put(self, key: BodyKey, content: Response | bytearray, now_s: float) -> None:
        self._drop(key)
        length = _length(content)
        self._transfers[key] = now_s, content, length
        self._octets += length
        while self._transfers and (
            self._octets > self._max_octets
            or len(self._transfers) > MAX_TRANSFERS
            or now_s - next(iter(self._transfers.values()))[0] > TRANSFER_LIFETIME_S
        ):
            self._drop(next(iter(self._transfers)))

    def _drop(self, key: BodyKey) -> None:
        transfer = self._transfers.pop(key, None)
        if transfer is not None:
            self._octets -= transfer[2]


def _length(content: Response | bytearray) -> int:
    return len(content.payload) if isinstance(content, Response) else len(content)
