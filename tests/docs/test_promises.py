"""The pages that say which test shows a promise: each test they name exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [REFERENCE / "messaging-conformance.md", *sorted(REFERENCE.glob("promises-*.md"))]
NAMED = re.compile(r"`(tests/[^`:]+\.py)(?:::([a-z0-9_]+))?`")


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_that_is_named_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert len(named) > 20
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert name in functions(ROOT / file), f"{file}::{name}: a test, not a file, shows a promise"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_promise_has_a_test_or_a_reason(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if re.match(r"\| (?!Section)", line)]
    assert len(rows) > 15
    for row in rows:
        _, _, _, shown, _ = row.split("|")
        assert NAMED.search(shown) or "another way" in shown, row
