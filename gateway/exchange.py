"""One request of a client and its answers, in the product's own terms: what handlers see in aiocoap's place."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from gateway.addresses import Address
from meshwire.coap import Message

__all__ = ["Handler", "Response"]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, without what belongs to the message layer (type, message ID, token)."""

    code: int
    payload: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    """Ascending, raw values."""
    last: bool = True
    """Whether the exchange ends with it; the notifications of an observation are not the last."""


class Handler(Protocol):
    """Answers requests. An exchange that its client gives up is cancelled where the handler waits."""

    def __call__(self, request: Message, source: Address) -> AsyncGenerator[Response, None]:
        """Give one answer, or several of which only the final one is marked as the last."""
