"""Value sources: seeded, bounded, and told apart by their text forms."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from sensor_sim.errors import BoardSettingsError
from sensor_sim.sources import Constant, Replay, Sine, Walk, parse_source


def take(text: str, count: int, *, seed: str = "0") -> list[float]:
    source = parse_source(text, seed=seed)
    return [source.value(float(number)) for number in range(count)]


@pytest.mark.parametrize("text", ["22.5", "constant:22.5"])
def test_constant(text: str) -> None:
    assert take(text, 3) == [22.5] * 3


def test_equal_seeds_walk_alike_and_others_do_not() -> None:
    text = "walk:20,0.5,15,25"
    assert take(text, 50, seed="1") == take(text, 50, seed="1")
    assert take(text, 50, seed="1") != take(text, 50, seed="2")


def test_a_walk_keeps_its_bounds_and_its_step() -> None:
    values = take("walk:15,2,15,17", 500)
    assert all(15 <= value <= 17 for value in values)
    assert all(abs(after - before) <= 2 for before, after in pairwise(values))
    assert len(set(values)) > 100


def test_sine_is_a_function_of_the_clock() -> None:
    assert take("sine:20,5,4", 5) == pytest.approx([20, 25, 20, 15, 20])
    assert math.isclose(Sine(0, 1, 60).value(1e9), Sine(0, 1, 60).value(1e9))


def test_replay(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    path.write_text("time,temp,level\n1,20.5,7\n2,21.5,8\n")
    assert take(f"replay:{path},temp", 5) == [20.5, 21.5, 20.5, 21.5, 20.5]
    assert take(f"replay:{path}", 2) == [7, 8]


BAD = [
    "",
    "x",
    "walk:1",
    "walk:1,2,3,x",
    "walk:1,1,2,3",
    "sine:1,2,0",
    "replay:/nowhere.csv",
    "noise:1",
    "constant:",
    "nan",
    "constant:inf",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_source_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BoardSettingsError) as caught:
        parse_source(text)
    assert "walk:START" in caught.value.fix


@pytest.mark.parametrize("cell", ["", "n/a"])
def test_a_csv_without_numbers_is_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "values.csv"
    path.write_text(f"temp\n{cell}\n" if cell else "")
    with pytest.raises(BoardSettingsError):
        parse_source(f"replay:{path}")


def test_constructors_check_their_ranges() -> None:
    for make in (lambda: Walk(5, 1, 6, 7), lambda: Walk(6, -1, 6, 7), lambda: Sine(1, 1, -1), lambda: Replay([])):
        with pytest.raises(ValueError, match=r"needs"):
            make()
    assert Constant(1).value(0) == 1
