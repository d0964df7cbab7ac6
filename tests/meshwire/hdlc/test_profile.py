"""LinkProfile: the two that are given, and values that cannot work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.parameters import LinkParameters
from meshwire.hdlc.profile import MILLI, STANDARD, SessionKind


def test_milli_keeps_the_facts_of_the_board() -> None:
    assert MILLI.session is SessionKind.PER_EXCHANGE
    assert MILLI.parameters() == LinkParameters(255, 255, 1, 1)
    assert MILLI.answer_timeout_s >= 1.0, "answers begin at 450 ms, a DHT read takes 250 ms more (dialect A.7)"
    assert MILLI.quiet_time_s > 0.4, "the board takes what comes within 400 ms for one frame (dialect A.7)"
    assert MILLI.retry_pause_s > 0.4
    assert not MILLI.offer_parameters


def test_standard_offers_a_window_of_seven() -> None:
    assert STANDARD.session is SessionKind.STANDING
    assert STANDARD.parameters() == LinkParameters(255, 255, 7, 7)


def test_line_time() -> None:
    assert replace(STANDARD, baud=9600).line_time_s(960) == 1.0
    assert STANDARD.answer_line_time_s(7) == pytest.approx(7 * (255 + 19) * 10 / 38400)


@pytest.mark.parametrize(
    "change",
    [
        {"max_attempts": 0},
        {"baud": 0},
        {"answer_timeout_s": 0},
        {"quiet_time_s": -1},
        {"poll_period_s": -1},
        {"max_queued_sdus": 0},
        {"session": SessionKind.PER_EXCHANGE},
    ],
)
def test_values_that_cannot_work_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(STANDARD, **change)


def test_limits_are_those_of_the_standard() -> None:
    with pytest.raises(ParameterError):
        replace(STANDARD, window=8)
