"""One request of a client and its answers, in the product's own terms: what handlers see of any transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.addresses import Address
from meshwire.coap import Message, options

__all__ = ["GiveUp", "Handler", "Reply", "Response"]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, without what belongs to the message layer (type, message ID, token)."""

    code: int
    payload: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    """Ascending, raw values."""
    last: bool = True
    """Whether the exchange ends with it; the notifications of an observation are not the last."""

    def option(self, number: int) -> bytes | None:
        """The first value of an option, or None."""
        for candidate, value in self.options:
            if candidate == number:
                return value
        return None

    def uint(self, number: int) -> int | None:
        """The first value of an option, read as unsigned integer, or None."""
        value = self.option(number)
        return None if value is None else options.decode_uint(value)

    def with_option(self, number: int, value: bytes | None) -> tuple[tuple[int, bytes], ...]:
        """The options with one of them set to a value, or taken out (None); for `dataclasses.replace`."""
        kept = [pair for pair in self.options if pair[0] != number]
        if value is not None:
            kept.append((number, value))
            kept.sort(key=_number)
        return tuple(kept)


def _number(pair: tuple[int, bytes]) -> int:
    return pair[0]


Reply = Callable[[Response], None]
"""Takes an answer of a handler; what comes after the last one is ignored."""

GiveUp = Callable[[], None]
"""Ends what a handler does for a request; may be called when nothing is left to end."""


class Handler(Protocol):
    """Answers requests: at once or later, once or (observations) several times, always through `reply`.

    Callbacks and no coroutines: most requests are answered by one datagram of a device, and a task for each would cost
    more than all the rest. A handler must not raise.
    """

    def __call__(self, request: Message, source: Address, reply: Reply) -> GiveUp | None:
        """Take a request; the result ends it when the client loses interest, None: there is nothing to end."""
