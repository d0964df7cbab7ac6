"""The dashboard asks for figures that there are, and for all of them; the alerts for such ones, and as documented."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from gateway.api.metrics import COUNTERS, GAUGES

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "gateway.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_it_shows_every_figure_of_the_gateway_and_no_other() -> None:
    asked = {name for query in QUERIES for name in re.findall(r"meshwire_\w+", query)}
    assert asked == {f"{name}_total" for name, _, _ in COUNTERS.values()} | set(GAUGES)


def test_figures_are_grouped_by_labels_that_they_have() -> None:
    labels = {f"{name}_total": label for name, label, _ in COUNTERS.values()}
    for query in QUERIES:
        for label, name in re.findall(r"by \((\w+)\) \(\w+\((meshwire_\w+)", query):
            assert labels[name] == label, query


def test_panels_have_their_own_number_and_place() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_alerts_are_about_figures_that_there_are() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    known = {f"{name}_total": label for name, label, _ in COUNTERS.values()} | dict.fromkeys(GAUGES, "")
    expressions = re.findall(r"^        expr: (.+)$", rules, re.MULTILINE)
    assert len(expressions) == rules.count("- alert: ") == rules.count("          do: ")
    for name, label in re.findall(r"(meshwire_\w+)(?:\{(\w+)=)?", " ".join(expressions)):
        assert name in known and label in ("", known[name])
