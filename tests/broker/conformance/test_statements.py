"""The tables of normative statements: complete, and every statement with a test that exists or a reason.

`python tests/broker/conformance/test_statements.py` writes docs/reference/mqtt-conformance.md from them.
"""

import ast
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "mqtt-conformance.md"
TABLES = {"MQTT 3.1.1": ("mqtt_3_1_1.toml", 141), "MQTT 5.0": ("mqtt_5_0.toml", 251)}
"""Version -> file and number of statements in the standard's appendix B."""

BY_VERSION = pytest.mark.parametrize("version", TABLES)

INTRODUCTION = """# Conformance to MQTT 3.1.1 and 5.0

Every numbered normative statement of both standards, in our own words, with the test that proves it or the reason why
there is nothing to prove. A test checks that the list is complete and that each test named exists; this page is
written from `tests/broker/conformance/mqtt_3_1_1.toml` and `mqtt_5_0.toml`, so it can't say anything else.

The numbers are those of appendix B of MQTT 3.1.1 (OASIS Standard with errata 01) and MQTT 5.0 (OASIS Standard). The
tests talk to a broker on a real socket. Tests without a folder are in `tests/broker/conformance/`.

| | statements | bind the server or both | bind clients alone | proved by a test | with a reason instead |
|---|---|---|---|---|---|
"""

CHOICES = """
## Where the standards leave a choice

| Choice | Here |
|---|---|
| Overlapping subscriptions | one copy at the highest QoS with all identifiers |
| QoS 0 for a client that is away | dropped and counted |
| PUBLISH that is not allowed, 3.1.1 | acknowledged and dropped |
| CONNECT that is malformed | the connection ends without CONNACK |
| Unsupported protocol level | CONNACK of 3.1.1 with return code 1 |
| Enhanced authentication | refused with 0x8C |
| Reason String | where a plan or an address refuses; not when it is not wanted, or would not fit |
| Response Information, Server Reference | never sent |
| Remaining length that is not in its shortest form, 3.1.1 | accepted; in 5.0 it ends the connection |
| `$share/…` in 3.1.1 | a shared subscription, as in 5.0 |
"""


def table(version: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((HERE / TABLES[version][0]).read_text())


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def exists(node: str) -> bool:
    file, _, name = node.partition("::")
    path = (TESTS if "/" in file else HERE) / file
    return path.is_file() and name.startswith("test_") and name in functions(path)


def counts(version: str) -> tuple[int, ...]:
    rows = table(version).values()
    who = Counter(row["binds"] for row in rows)
    proved = sum("tests" in row for row in rows)
    return len(rows), who["server"] + who["both"], who["client"], proved, len(rows) - proved


def page() -> str:
    parts = [INTRODUCTION]
    for version in TABLES:
        parts.append(f"| {version} | " + " | ".join(map(str, counts(version))) + " |\n")
    parts.append(CHOICES)
    for version in TABLES:
        parts.append(f"\n## {version}\n\n| Statement | Binds | Says | Proof |\n|---|---|---|---|\n")
        for number, row in table(version).items():
            proof = "<br>".join(f"`{node}`" for node in row.get("tests", ())) or row["reason"]
            parts.append(f"| {number} | {row['binds']} | {row['says']} | {proof} |\n")
    return "".join(parts)


@BY_VERSION
def test_the_list_is_complete(version: str) -> None:
    print(version, counts(version))
    assert len(table(version)) == TABLES[version][1]


@BY_VERSION
def test_numbers_within_a_section_leave_no_gap(version: str) -> None:
    """Misprints of the standards aside: MQTT 5.0 has no 2.2.1-1."""
    sections: dict[str, list[int]] = {}
    for number in table(version):
        section, _, last = number.rpartition("-")
        sections.setdefault(section, []).append(int(last))
    for section, numbers in sections.items():
        first = 2 if (version, section) == ("MQTT 5.0", "MQTT-2.2.1") else 1
        assert numbers == list(range(first, first + len(numbers))), section


@BY_VERSION
def test_every_statement_has_a_test_that_exists_or_a_reason(version: str) -> None:
    for number, row in table(version).items():
        assert row["binds"] in ("server", "client", "both"), number
        assert row["says"] and ("tests" in row) != ("reason" in row), number
        if "tests" in row:
            assert row["tests"] and [node for node in row["tests"] if not exists(node)] == [], number
        else:
            assert len(row["reason"]) > 10, number


def test_every_test_here_proves_something_or_says_what() -> None:
    """What no statement names must at least say in its own words why it is here."""
    named = {
        node.partition("::")[2]
        for version in TABLES
        for row in table(version).values()
        for node in row.get("tests", ())
    }
    written = {name for path in HERE.glob("test_*.py") for name in functions(path) if name.startswith("test_")}
    unnamed = written - named - functions(Path(__file__))
    assert len(unnamed) < len(written) / 4, sorted(unnamed)


def test_the_page_is_written_from_the_tables() -> None:
    assert PAGE.read_text() == page(), "run python tests/broker/conformance/test_statements.py"


if __name__ == "__main__":
    PAGE.write_text(page())
