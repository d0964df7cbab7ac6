"""An answer before it has a message type, message ID and token, which follow from the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, Message, encode
from meshwire.coap.options import CONTENT_FORMAT, encode_uint
from sensor_sim.milli.request import Header, Request

__all__ = ["BARE", "Reply", "Resource", "content", "encode_empty", "encode_reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """Code, options and body of an answer."""

    code: int
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""


Resource = Callable[[Request, float], Reply]
"""Answers a request at a time `now`."""

BARE: Final = Reply(codes.EMPTY)
"""The bug answer `60 00 mid`: an empty ACK without token, whatever was asked (dialect B.3)."""


def content(content_format: int, payload: bytes) -> Reply:
    """A 2.05 with a body; format 0 is coded in no octets."""
    return Reply(codes.CONTENT, ((CONTENT_FORMAT, encode_uint(content_format)),), payload)


def encode_empty(mtype: int, mid: int) -> bytes:
    """The four octets of an empty message."""
    return encode(Message(mtype, codes.EMPTY, mid))


def encode_reply(header: Header, reply: Reply) -> bytes:
    """Piggybacked on a CON, a NON with the same message ID on a NON (dialect B.1)."""
    if reply is BARE:
        return encode_empty(ACK, header.mid)
    mtype = ACK if header.mtype == CON else NON
    return encode(Message(mtype, reply.code, header.mid, header.token, reply.options, reply.payload))
