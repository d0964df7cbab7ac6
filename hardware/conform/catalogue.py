"""All cases in the order in which they run, and the table of them for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hardware.conform import (
    block,
    coap_core,
    coap_options,
    endurance,
    framing,
    link_procedure,
    observe,
    payload,
    resources,
    timing,
)
from hardware.conform.case import Case, Group
from hardware.conform.errors import NoSuchCase

__all__ = ["CASES", "choose", "markdown"]

CASES: Final[tuple[Case, ...]] = (
    *framing.CASES,
    *link_procedure.CASES,
    *coap_core.CASES,
    *coap_options.CASES,
    *block.CASES,
    *observe.CASES,
    *resources.CASES,
    *payload.CASES,
    *timing.CASES,
    *endurance.CASES,
)


def choose(groups: Sequence[str] = (), ids: Sequence[str] = (), *, destructive: bool = False) -> tuple[Case, ...]:
    """Return the cases of the groups and ids named, all for neither; destructive ones only when wanted.

    Raises NoSuchCase.
    """
    known = {case.id for case in CASES}
    for name in groups:
        if name not in list(Group):
            raise NoSuchCase(f"no group {name!r}", fix=f"choose from {', '.join(Group)}")
    for name in ids:
        if name not in known:
            raise NoSuchCase(f"no case {name!r}", fix="see `meshwire conform --list`")
    named = [case for case in CASES if not (groups or ids) or case.group in groups or case.id in ids]
    return tuple(case for case in named if destructive or not case.destructive)


def markdown(cases: Iterable[Case] = CASES) -> str:
    """Return a table of cases for docs/reference/conformance.md."""
    lines = ["| Case | Rule | Clause | A Milli board instead |", "| --- | --- | --- | --- |"]
    for case in cases:
        mark = " (only with `--destructive`)" if case.destructive else ""
        dialect = f"{case.dialect} ({case.dialect_clause})" if case.dialect else ""
        lines.append(f"| `{case.id}` {case.title}{mark} | {case.rule} | {case.clause} | {dialect} |")
    return "\n".join(lines) + "\n"
