"""The console's scripts share one scope on a page: a name that two of them have is that of the one loaded last."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files

_DECLARED = re.compile(r"^(?:async )?(?:const|let|var|function|class) (\w+)", re.MULTILINE)


def test_no_two_scripts_declare_the_same_name() -> None:
    scripts = [each for each in (files("gateway.console") / "static").iterdir() if each.name.endswith(".js")]
    found = Counter(name for script in scripts for name in set(_DECLARED.findall(script.read_text())))
    assert len(scripts) > 5 and found["listen"] == 1
    assert not [name for name, times in found.items() if times > 1]
