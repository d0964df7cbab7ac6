"""The file between `meshwire learn` and `meshwire sensor --profile`: read as written, and refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.learned_board import BASES, LearnedBoard, LearnedBoardError, LearnedResource, LearnedSensor

formats = st.none() | st.integers(0, 65535)
milliseconds = st.integers(0, 9_000).map(lambda value: value / 1000)
names = st.text(min_size=1, max_size=20).filter(lambda text: text.strip("/"))
sensors = st.builds(
    LearnedSensor,
    path=names.map("s/".__add__),
    samples=st.lists(st.binary(max_size=40), min_size=1, max_size=4).map(tuple),
    query=st.sampled_from(["", "sens"]),
    content_format=formats,
    observable=st.booleans(),
    period_s=milliseconds,
    jitter_s=milliseconds,
    max_age_s=formats,
    configuration=st.binary(max_size=10),
)
resources = st.builds(LearnedResource, path=names.map("r/".__add__), payload=st.binary(), content_format=formats)


@given(
    st.builds(
        LearnedBoard,
        base=st.sampled_from(BASES),
        sensors=st.lists(sensors, max_size=3, unique_by=lambda sensor: sensor.path).map(tuple),
        resources=st.lists(resources, max_size=3, unique_by=lambda resource: resource.path).map(tuple),
        turn_around_s=milliseconds,
        round_trip_s=milliseconds,
        source=st.text(max_size=30),
    )
)
def test_it_is_read_as_it_was_written(board: LearnedBoard) -> None:
    assert LearnedBoard.from_toml(board.to_toml()) == board


GOOD = """
schema_version = 1
base = "standard"
[[sensor]]
path = "arduino/temp"
samples = ["a0"]
[[resource]]
path = ""
payload = "6869"
"""


def test_what_is_missing_has_a_default() -> None:
    board = LearnedBoard.from_toml(GOOD)
    assert (board.root_text(), board.sensors[0].period_s, board.sensors[0].observable) == ("hi", 0.0, False)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema_version = 1", "", "schema_version"),
        ('base = "standard"', 'base = "other"', "base is one of"),
        ('base = "standard"', "", "base"),
        ('"a0"', '"a"', "samples is not hexadecimal"),
        ('["a0"]', "[]", "1 to"),
        ('["a0"]', "7", "samples is not hexadecimal"),
        ('path = "arduino/temp"', 'path = "/"', "needs a path"),
        ('path = "arduino/temp"', 'path = ""', "needs a path"),
        ('path = "arduino/temp"', "path = 7", "path is not of type str"),
        ('path = ""', 'path = "arduino/temp"', "twice"),
        ("[[resource]]", "period_s = -1\n[[resource]]", "period_s is 0 to"),
        ("[[resource]]", 'period_s = "x"\n[[resource]]', "period_s is not of type float"),
        ("[[resource]]", "observable = 1\n[[resource]]", "observable is not of type bool"),
        ("[[resource]]", "content_format = -1\n[[resource]]", "content_format is not of type int"),
        ("[[resource]]", "colour = 1\n[[resource]]", "no key 'colour'"),
        ("[[sensor]]", "[sensor]", "sensor is no list of tables"),
        ('payload = "6869"', "", "payload"),
        ("base", "= base", "no TOML"),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(LearnedBoardError, match=says):
        LearnedBoard.from_toml(GOOD.replace(old, new, 1))
