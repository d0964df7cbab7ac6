"""`meshwire bench console` judges memory by what is left behind a warm-up."""

from __future__ import annotations

import pytest

from bench.console import SAMPLES, WARM_UP, _growth


def test_a_page_that_fills_at_first_and_stays_does_not_grow() -> None:
    last, growth = _growth([1.0, 2.0, 5.0, 9.0, *[10.0] * (SAMPLES - WARM_UP)])
    assert (last, growth) == (10.0, 0.0)


def test_what_is_kept_of_each_event_is_growth() -> None:
    last, growth = _growth([100.0 + number for number in range(SAMPLES)])
    assert last == pytest.approx(120.5) and growth == pytest.approx(14 / 106.5, abs=0.02)


def test_one_sample_beside_the_others_is_none() -> None:
    assert _growth([10.0] * 12 + [50.0] + [10.0] * 11) == (10.0, 0.0)
