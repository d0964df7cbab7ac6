"""The reports: each form has every case, its rule and the octets."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from hardware.conform.case import Exchange, Outcome, Profile, Result, Verdict
from hardware.conform.catalogue import CASES
from hardware.conform.report import as_html, as_json_lines, as_junit, as_text, summary

_OCTETS = (Exchange(0.0, ">", b"\x7e\xa0"), Exchange(0.5, "<", b"\x7e"))
_SEEN = 'said <b> & "x" \x00'


@pytest.fixture
def results() -> list[Result]:
    """One of each verdict, with text that markup must not be broken by."""
    verdicts = (Verdict.PASS, Verdict.FAIL, Verdict.NOT_APPLICABLE)
    return [
        Result(case, Outcome(verdict, _SEEN), _OCTETS, 0.25) for case, verdict in zip(CASES, verdicts, strict=False)
    ]


def test_text_shows_what_failed_with_its_octets_and_counts_the_rest(results: list[Result]) -> None:
    text = as_text(results, Profile.STANDARD)
    assert CASES[1].id in text and CASES[0].id not in text
    assert "0.000 > 7e a0" in text and "0.500 < 7e" in text
    assert text.endswith(summary(results) + "\n")
    assert summary(results) == "1 pass, 1 fail, 1 not applicable"


def test_json_is_one_object_a_case(results: list[Result]) -> None:
    records = [json.loads(line) for line in as_json_lines(results, Profile.STANDARD).splitlines()]
    assert [record["verdict"] for record in records] == ["pass", "fail", "not applicable"]
    assert records[0]["octets"][0] == {"at_s": 0.0, "direction": ">", "hex": "7ea0"}
    assert records[1]["seen"] == _SEEN


def test_junit_counts_and_is_well_formed_whatever_the_board_said(results: list[Result]) -> None:
    suite = ElementTree.fromstring(as_junit(results, Profile.STANDARD, "/dev/ttyUSB0"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.text is not None and "7e a0" in failure.text


def test_html_shows_the_boards_words_as_words(results: list[Result]) -> None:
    page = as_html(results, Profile.STANDARD, "a<b")
    assert "said &lt;b&gt;" in page and "<b>" not in page
    assert "Conformance of a&lt;b" in page


def test_under_the_dialect_its_rule_is_named() -> None:
    case = next(case for case in CASES if case.dialect)
    result = Result(case, Outcome(Verdict.FAIL, "silence"), (), 0.0)
    assert case.dialect in as_text([result], Profile.MILLI)
    assert case.rule in as_text([result], Profile.STANDARD)
