"""`meshwire bench` keeps its JSON contract; the link benchmark measures what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from typer.testing import CliRunner

from bench import __main__ as entry
from bench.__main__ import app
from bench.codec import _minimal_decode, _minimal_encode, measure_codec
from bench.link import LineUse, line_use
from bench.result import Comparison, Figure, Result, machine_in_words
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import information
from meshwire.hdlc.frame import Frame, encode_frame


class TestResults:
    def test_a_comparison_is_better_above_one(self) -> None:
        rate = Comparison("broker", "qos1-1to1", [100.0, 300.0, 200.0], "mosquitto", [100.0], "messages/s")
        assert rate.record() == {
            "bench": "broker",
            "case": "qos1-1to1",
            "ours": 200.0,
            "peer": "mosquitto",
            "theirs": 100.0,
            "ratio": 2.0,
            "unit": "messages/s",
            "runs": 3,
            "ours_min": 100.0,
            "ours_max": 300.0,
            "ratio_min": 1.0,
            "ratio_max": 3.0,
        }
        size = Comparison("broker", "idle-1000", [2.0], "mosquitto", [3.0], "KB/client", more_is_better=False)
        assert size.record()["ratio"] == 1.5

    def test_a_figure_says_whether_it_meets_its_bar(self) -> None:
        figure = Figure("link", "line-use", [0.95, 0.85, 0.91234], "fraction", bar=0.9)
        assert figure.record() == {
            "bench": "link",
            "case": "line-use",
            "value": 0.9123,
            "unit": "fraction",
            "runs": 3,
            "min": 0.85,
            "max": 0.95,
            "bar": 0.9,
            "met": True,
        }
        assert Figure("link", "x", [0.8], "fraction", bar=0.9).record()["met"] is False

    def test_the_machine_is_told_in_words(self) -> None:
        assert "cores" in machine_in_words() and "Python" in machine_in_words()


class TestCommand:
    @pytest.fixture(autouse=True)
    def one_bench(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def measure(quick: bool) -> Iterator[Result]:
            yield Figure("fake", "quick" if quick else "whole", [1.0], "fraction", bar=2.0)
            yield Comparison("fake", "pair", [2.0], "peer", [1.0], "things/s")

        monkeypatch.setattr(entry, "BENCHES", {"fake": "fake_module"})
        monkeypatch.setitem(sys.modules, "fake_module", cast(ModuleType, SimpleNamespace(measure=measure)))

    def test_json_begins_with_the_machine(self) -> None:
        result = CliRunner().invoke(app, ["fake", "--json", "--quick"])
        first, *lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert first["machine"] == machine_in_words()
        assert first["quick"] is True
        assert [line["case"] for line in lines] == ["quick", "pair"]

    def test_without_names_all_are_run_and_people_get_a_table(self) -> None:
        result = CliRunner().invoke(app, [])
        assert result.exit_code == 0
        assert "fake whole" in result.stdout
        assert "MISSED" in result.stdout
        assert "things/s (peer)" in result.stdout

    def test_an_earlier_report_is_set_beside(self, tmp_path: Path) -> None:
        report = tmp_path / "before.json"
        old = {"bench": "fake", "case": "pair", "ours": 4.0, "peer": "peer", "theirs": 1.0, "ratio": 4.0}
        report.write_text(json.dumps({"machine": "another one"}) + "\n" + json.dumps(old) + "\n")
        result = CliRunner().invoke(app, ["fake", "--json", "--against", str(report)])
        lines = {line["case"]: line for line in map(json.loads, result.stdout.splitlines()[1:])}
        assert lines["pair"]["before"] == 4.0 and lines["pair"]["change"] == 0.5
        assert "before" not in lines["whole"]
        assert "another one" in result.stderr

    def test_an_unknown_name_is_a_usage_error(self) -> None:
        result = CliRunner().invoke(app, ["nonesuch"])
        assert result.exit_code == 2
        assert "nonesuch" in result.stderr


class TestLink:
    async def test_line_use_is_a_share(self) -> None:
        shares: list[float] = []
        while not shares or not 0.3 < shares[-1] < 0.949:
            assert len(shares) < 10, f"a frame of 200 octets takes 211 on the line: {shares}"
            shares.append(await line_use(LineUse("short", 115_200, 7, 15)))  # again when the machine stalled meanwhile

    def test_the_loop_written_by_hand_makes_the_same_octets(self) -> None:
        address = Address(1)
        ours = encode_frame(Frame(address, address, information(3, 5, False), bytes(range(64))))
        assert _minimal_encode(5 << 5 | 3 << 1) == ours
        assert _minimal_decode(ours[1:-1]) == bytes(range(64))

    def test_the_codec_bench_counts_what_it_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bench.codec._BATCHES", 2)
        cases = [comparison.case for comparison in measure_codec(True)]
        assert cases == ["codec-64", "codec-64-single"]
