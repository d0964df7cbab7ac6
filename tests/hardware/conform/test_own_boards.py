"""Our own boards: what they fail against the standards is written down; by the dialect a Milli fails nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import hardware.conform
from hardware.conform.case import Profile, Result, Verdict
from hardware.conform.catalogue import CASES, choose

EXPECTED = tomllib.loads((Path(hardware.conform.__file__).parent / "expected.toml").read_text())

Conform = Callable[..., dict[str, Result]]


def failures(results: dict[str, Result]) -> set[str]:
    return {name for name, result in results.items() if result.outcome.verdict is Verdict.FAIL}


@pytest.mark.parametrize(
    ("board", "sections"),
    [("standard", ["standard"]), ("milli-1.4.8", ["milli"]), ("milli-1.4.5", ["milli", "milli-1.4.5"])],
)
def test_a_board_fails_exactly_what_is_expected_of_it(board: str, sections: list[str], conform: Conform) -> None:
    expected = {name for section in sections for name in EXPECTED[section]}
    assert failures(conform(board, choose())) == expected


@pytest.mark.parametrize("board", ["milli-1.4.8", "milli-1.4.5"])
def test_by_the_dialect_a_milli_board_fails_nothing(board: str, conform: Conform) -> None:
    results = conform(board, choose(), profile=Profile.MILLI)
    assert failures(results) == set()
    passed = [r for r in results.values() if r.outcome.verdict is Verdict.PASS]
    assert len(passed) > 105


def test_expectations_name_cases_that_exist_and_differ_from_the_dialect() -> None:
    known = {case.id: case for case in CASES}
    for name in EXPECTED["milli"]:
        assert known[name].dialect, f"{name} has no rule of the dialect"


def test_a_standard_board_survives_what_crashes_others(conform: Conform) -> None:
    results = conform("standard", [case for case in choose(destructive=True) if case.destructive])
    assert len(results) == 3
    assert failures(results) == set()


def test_the_whole_endurance_run_takes_no_time_when_the_clock_is_made_up(conform: Conform) -> None:
    results = conform("milli-1.4.8", choose(ids=["END-001"]), profile=Profile.MILLI, exchanges=1000)
    assert results["END-001"].outcome.verdict is Verdict.PASS
    assert "damaged" in results["END-001"].outcome.seen
