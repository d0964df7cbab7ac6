"""Results as text, JSON lines, JUnit XML and HTML. Each form has the octets of what did not pass."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from hardware.conform.case import Profile, Result, Verdict

__all__ = ["as_html", "as_json_lines", "as_junit", "as_text", "summary"]


def summary(results: Sequence[Result]) -> str:
    """One line: how many of each verdict."""
    counts = Counter(result.outcome.verdict for result in results)
    return ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)


def as_text(results: Sequence[Result], profile: Profile) -> str:
    """A table of what failed with its octets, and the summary."""
    lines = []
    for result in results:
        if result.outcome.verdict is Verdict.FAIL:
            rule, clause = result.case.rule_for(profile)
            lines += [f"{result.case.id}  {result.case.title}", f"    rule  {rule} [{clause}]"]
            lines += [f"    seen  {result.outcome.seen}", *(f"    {exchange}" for exchange in result.evidence)]
    return "\n".join([*lines, summary(results)]) + "\n"


def as_json_lines(results: Sequence[Result], profile: Profile) -> str:
    """One object a case."""
    return "".join(json.dumps(_record(result, profile), ensure_ascii=False) + "\n" for result in results)


def _record(result: Result, profile: Profile) -> dict[str, object]:
    rule, clause = result.case.rule_for(profile)
    return {
        "case": result.case.id,
        "group": result.case.group.value,
        "title": result.case.title,
        "verdict": result.outcome.verdict.value,
        "seen": result.outcome.seen,
        "profile": profile.value,
        "rule": rule,
        "clause": clause,
        "took_s": round(result.took_s, 3),
        "octets": [
            {"at_s": round(e.at_s, 4), "direction": e.direction, "hex": e.octets.hex()} for e in result.evidence
        ],
    }


def _octets(result: Result) -> str:
    return "\n".join(map(str, result.evidence))


def as_junit(results: Sequence[Result], profile: Profile, port: str) -> str:
    """One test suite with a test case a case, as continuous integration servers read it."""
    counts = Counter(result.outcome.verdict for result in results)
    suite = ElementTree.Element(
        "testsuite",
        name=f"meshwire conform {profile.value} {port}",
        tests=str(len(results)),
        failures=str(counts[Verdict.FAIL]),
        skipped=str(counts[Verdict.NOT_APPLICABLE]),
        errors="0",
        time=f"{sum(result.took_s for result in results):.3f}",
    )
    for result in results:
        _add_junit_case(suite, result, profile)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _add_junit_case(suite: ElementTree.Element, result: Result, profile: Profile) -> None:
    name = f"{result.case.id} {result.case.title}"
    entry = ElementTree.SubElement(
        suite, "testcase", classname=result.case.group.value, name=name, time=f"{result.took_s:.3f}"
    )
    match result.outcome.verdict:
        case Verdict.FAIL:
            rule, clause = result.case.rule_for(profile)
            failure = ElementTree.SubElement(entry, "failure", message=f"{rule} [{clause}]")
            failure.text = f"{_printable(result.outcome.seen)}\n{_octets(result)}"
        case Verdict.NOT_APPLICABLE:
            ElementTree.SubElement(entry, "skipped", message=_printable(result.outcome.seen))
        case Verdict.PASS:
            ElementTree.SubElement(entry, "system-out").text = _octets(result)


def _printable(text: str) -> str:
    """Without the control characters that XML cannot carry: a board's own text may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24;"
    "background:#fff}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;"
    "border-bottom:1px solid #d0d7de;"
    "vertical-align:top}pre{font-size:12px;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".fail{color:#b3261e;font-weight:600}"
    ".pass{color:#1a6b32}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#15181c}"
    "td,th{border-color:#333a41}.fail{color:#ff8a80}.pass{color:#7ddc93}}"
)


def as_html(results: Sequence[Result], profile: Profile, port: str) -> str:
    """One page that needs nothing else."""
    head = f"Conformance of {html.escape(port)}"
    rows = "".join(_row(result, profile) for result in results)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{head}</title><style>{_STYLE}</style>'
        f"<h1>{head}</h1><p>Judged against: {profile.value}. {html.escape(summary(results))}.</p>"
        f"<table><thead><tr><th>Case<th>Verdict<th>Rule<th>Seen</thead><tbody>{rows}</tbody></table></html>\n"
    )


def _row(result: Result, profile: Profile) -> str:
    rule, clause = map(html.escape, result.case.rule_for(profile))
    verdict = result.outcome.verdict
    octets = f"<details><summary>octets</summary><pre>{html.escape(_octets(result))}</pre></details>"
    return (
        f"<tr><td><code>{result.case.id}</code><br>{html.escape(result.case.title)}"
        f'<td class="{verdict.name.lower()}">{verdict.value}<td>{rule}<br><small>{clause}</small>'
        f"<td>{html.escape(result.outcome.seen)}{octets if result.evidence else ''}"
    )
