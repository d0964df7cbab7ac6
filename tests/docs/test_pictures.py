"""Pictures in the documentation: each is shown somewhere, each that is shown is there, and none is large."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
MOST_OCTETS = 60_000


def test_each_picture_is_shown_is_there_and_is_small() -> None:
    shown = {
        (page.parent / name).resolve()
        for page in DOCS.rglob("*.md")
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", page.read_text())
    }
    there = {path.resolve() for path in DOCS.rglob("*.png")}
    assert shown == there, shown ^ there
    assert not {path.name: size for path in there if (size := path.stat().st_size) > MOST_OCTETS}
