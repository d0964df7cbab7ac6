"""docs/reference/conformance.md holds the table of cases as the data has it."""

from __future__ import annotations

from pathlib import Path

from hardware.conform.case import Group
from hardware.conform.catalogue import CASES, markdown

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "conformance.md"


def test_the_table_in_the_documentation_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.endswith("## Cases\n\n" + markdown()), "write hardware.conform.catalogue.markdown() behind ## Cases"


def test_each_case_has_a_name_of_its_own_a_rule_and_a_clause() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.rule.endswith(".") and case.clause, case.id
        assert bool(case.dialect) == bool(case.dialect_clause), case.id
        assert set(case.needs) <= {other.id for other in CASES}, case.id


def test_every_group_has_cases_and_groups_stand_together() -> None:
    groups = [case.group for case in CASES]
    assert groups == sorted(groups, key=list(Group).index)
    assert set(groups) == set(Group)
