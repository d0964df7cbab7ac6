"""Rates from counters that are looked at now and then."""

from gateway.operations.rates import LONGEST_S, Rates


def test_a_rate_is_the_difference_over_the_time() -> None:
    rates = Rates()
    assert rates.of({"a": (10, 0)}, 100.0) == {}, "nothing to compare with"
    assert rates.of({"a": (30, 5), "new": (7, 7)}, 104.0) == {"a": (5.0, 1.25)}
    assert rates.of({"a": (30, 5), "new": (9, 7)}, 105.0) == {"a": (0.0, 0.0), "new": (2.0, 0.0)}


def test_a_counter_that_has_fallen_belongs_to_another_connection() -> None:
    rates = Rates()
    rates.of({"a": (100,)}, 0.0)
    assert rates.of({"a": (3,)}, 1.0) == {"a": (0.0,)}
    assert rates.of({"a": (5,)}, 2.0) == {"a": (2.0,)}


def test_looks_that_follow_at_once_do_not_make_wild_rates_and_old_ones_are_no_measure() -> None:
    rates = Rates()
    rates.of({"a": (0,)}, 0.0)
    assert rates.of({"a": (10,)}, 1.0) == {"a": (10.0,)}
    assert rates.of({"a": (11,)}, 1.001) == {"a": (10.0,)}
    assert rates.of({"a": (12,)}, 2.0) == {"a": (2.0,)}, "measured from the look before the hasty one"
    assert rates.of({"a": (1000,)}, 3.0 + LONGEST_S) == {}
