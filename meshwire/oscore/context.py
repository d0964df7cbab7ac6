"""A Security Context at work: sequence numbers that no restart uses twice, and a replay window that one may lose.

Does: count what is sent from reserves that are durable before they are used (RFC 8613 appendix B.1.1), refuse what was
taken already (section 7.4), and after a start ask the peer once to prove that it is there now, by the Echo option of
RFC 9175 (appendix B.1.2). Does not: write to disk; the caller's function makes reserves durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshwire.coap import Message, codes, options
from meshwire.oscore.errors import OscoreError, Reason
from meshwire.oscore.key import OscoreKey
from meshwire.oscore.option import OscoreOption, partial_iv
from meshwire.oscore.protection import Protection, RequestId, Response

__all__ = ["Challenge", "OscoreContext", "SequenceNumbers"]

WINDOW: Final = 32
"""Requests that may overtake each other (section 3.2.2)."""
LIMIT: Final = 1 << 40
"""Sequence numbers of one key (section 7.2.1)."""
ECHO_OCTETS: Final = 8


class SequenceNumbers:
    """Numbers in turn, taken from durable reserves.

    Args:
        reserve: makes so many numbers ours for ever, durably, and says the first of them.
        at_once: so many.
    """

    def __init__(self, reserve: Callable[[int], int], at_once: int) -> None:
        self._reserve = reserve
        self._at_once = at_once
        self._next = self._end = 0

    def take(self) -> bytes:
        """The next number as a Partial IV.

        Raises:
            OscoreError: EXHAUSTED. What `reserve` raises, too: then no number was used.
        """
        if self._next == self._end:
            first = self._reserve(self._at_once)
            self._next, self._end = first, first + self._at_once
        if self._next >= LIMIT:
            raise OscoreError(Reason.EXHAUSTED)
        number = self._next
        self._next += 1
        return partial_iv(number)


class ReplayWindow:
    """Which of the latest numbers of the peer have been taken; empty until the peer has shown that it is there."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._taken = 0
        """Bit n: number `_newest` - n."""

    @property
    def is_open(self) -> bool:
        """Whether it knows where the peer is."""
        return self._newest is not None

    def open_at(self, number: int) -> None:
        """Numbers up to this one are taken."""
        self._newest, self._taken = number, (1 << WINDOW) - 1

    def takes(self, number: int) -> bool:
        """Whether the number is new."""
        assert self._newest is not None
        behind = self._newest - number
        return behind < 0 or (behind < WINDOW and not self._taken >> behind & 1)

    def note(self, number: int) -> None:
        """The number is taken."""
        assert self._newest is not None
        ahead = number - self._newest
        if ahead > 0:
            self._taken = (self._taken << ahead | 1) & ((1 << WINDOW) - 1)
            self._newest = number
        else:
            self._taken |= 1 << -ahead


@dataclass(frozen=True, slots=True)
class Challenge:
    """The peer has to repeat its request with what the answer says; nothing of the request may be done."""

    answer: Response
    """Protected."""


class OscoreContext:
    """See the module's text.

    Args:
        key: as we have it.
        numbers: of what we send.
    """

    def __init__(self, key: OscoreKey, numbers: SequenceNumbers) -> None:
        self._protection = Protection(key)
        self._numbers = numbers
        self._window = ReplayWindow()
        self._echo = os.urandom(ECHO_OCTETS)

    def protect_request(self, request: Message, *, echo: bytes | None = None) -> tuple[Message, RequestId]:
        """Protect a request of ours.

        Args:
            request: type, message ID and token stay.
            echo: what a challenge of the peer wants to hear.

        Raises:
            OscoreError: EXHAUSTED. What reserving raises, too.
        """
        if echo is not None:
            request = request.without(options.ECHO).with_options([(options.ECHO, echo)])
        return self._protection.protect_request(request, self._numbers.take())

    def open_request(self, request: Message, header: OscoreOption) -> tuple[Message, RequestId] | Challenge:
        """Open a request of the peer.

        Args:
            request: with its OSCORE option.
            header: what that option says.

        Raises:
            OscoreError: MALFORMED, WRONG_KEY or REPLAY; nothing has changed.
        """
        inner, request_id = self._protection.open_request(request, header)
        number = int.from_bytes(request_id.partial_iv, "big")
        echo = inner.option(options.ECHO)
        if not self._window.is_open:
            if echo != self._echo:
                return Challenge(self._challenge(request_id))
            self._window.open_at(number)
        elif not self._window.takes(number):
            raise OscoreError(Reason.REPLAY)
        else:
            self._window.note(number)
        request_id.nonce_is_free = True
        return inner.without(options.ECHO), request_id

    def protect_response(self, response: Response, request_id: RequestId) -> Response:
        """Protect an answer of ours: the first one by the request's nonce, further ones by numbers of our own.

        Raises:
            OscoreError: EXHAUSTED. What reserving raises, too.
        """
        # Notifications are put in order by their own numbers, so each needs one (section 4.1.3.5.2).
        if request_id.nonce_is_free and response.option(options.OBSERVE) is None:
            request_id.nonce_is_free = False
            return self._protection.protect_response(response, request_id, None)
        return self._protection.protect_response(response, request_id, self._numbers.take())

    def open_response(self, response: Response, request_id: RequestId) -> tuple[Response, int | None]:
        """Open an answer of the peer: what is inside, and its own sequence number where it has one.

        Raises:
            OscoreError: UNPROTECTED, MALFORMED or WRONG_KEY.
        """
        return self._protection.open_response(response, request_id)

    def _challenge(self, request_id: RequestId) -> Response:
        """It may be a replay, so its nonce is not used again."""
        response = Response(codes.UNAUTHORIZED, ((options.ECHO, self._echo),))
        return self._protection.protect_response(response, request_id, self._numbers.take())


def challenged(response: Response) -> bytes | None:
    """What a challenge wants to hear with the repeated request; None: the (opened) answer is none."""
    return response.option(options.ECHO) if response.code == codes.UNAUTHORIZED else None
