"""What is repeated and what is not: every fate, reason and method."""

from __future__ import annotations

import itertools

import pytest

from meshwire.coap import codes
from meshwire.hdlc.events import DownReason
from nic_sim.errors import BoardError, LinkUnavailable, NoAnswer, OutcomeUnknown, RequestRefused, UnreadableAnswer
from nic_sim.repetition import Fate, Outcome, failure_of

SAFE = (codes.GET, codes.FETCH)
UNSAFE = (codes.PUT, codes.POST, codes.DELETE, codes.PATCH, codes.IPATCH)
AT_ONCE = (DownReason.RELEASED, DownReason.PEER_RESET, DownReason.FRAME_REJECTED)
NOT_AT_ONCE = (DownReason.NO_ANSWER, DownReason.REFUSED, DownReason.PIPE_LOST)


def repeats_of(fate: Fate, reason: DownReason | None, method: int) -> tuple[int, BoardError]:
    for repeats in range(10):
        error = failure_of(Outcome(fate, reason), method, repeats, 5)
        if error is not None:
            return repeats, error
    raise AssertionError("repeated for ever")


@pytest.mark.parametrize(("reason", "method"), list(itertools.product(AT_ONCE, SAFE + UNSAFE)))
def test_unsent_is_repeated_whatever_the_method(reason: DownReason, method: int) -> None:
    repeats, error = repeats_of(Fate.UNSENT, reason, method)
    assert repeats == 2
    assert isinstance(error, LinkUnavailable) and error.max_age_s == 5 and error.response_code == 0xA3


@pytest.mark.parametrize(("reason", "method"), list(itertools.product(NOT_AT_ONCE, SAFE + UNSAFE)))
def test_a_link_that_is_away_is_said_at_once(reason: DownReason, method: int) -> None:
    repeats, error = repeats_of(Fate.UNSENT, reason, method)
    assert (repeats, type(error)) == (0, LinkUnavailable)


@pytest.mark.parametrize(("fate", "method"), list(itertools.product((Fate.UNCERTAIN, Fate.SILENT), SAFE)))
def test_uncertain_safe_request_is_repeated_once(fate: Fate, method: int) -> None:
    repeats, error = repeats_of(fate, DownReason.NO_ANSWER, method)
    assert (repeats, type(error), error.response_code) == (1, NoAnswer, 0xA4)


@pytest.mark.parametrize(("fate", "method"), list(itertools.product((Fate.UNCERTAIN, Fate.SILENT), UNSAFE)))
def test_uncertain_unsafe_request_is_never_repeated(fate: Fate, method: int) -> None:
    repeats, error = repeats_of(fate, DownReason.NO_ANSWER, method)
    assert (repeats, type(error), error.response_code) == (0, OutcomeUnknown, 0xA4)
    assert "outcome unknown: the board may have executed" in error.what


@pytest.mark.parametrize("method", SAFE + UNSAFE)
def test_unreadable_is_bad_gateway(method: int) -> None:
    repeats, error = repeats_of(Fate.UNREADABLE, None, method)
    assert (repeats, type(error), error.response_code) == (0, UnreadableAnswer, 0xA2)


def test_too_long_for_the_link() -> None:
    repeats, error = repeats_of(Fate.UNSENT, DownReason.SDU_TOO_LONG, codes.PUT)
    assert (repeats, type(error), error.response_code) == (0, RequestRefused, 0x8D)
