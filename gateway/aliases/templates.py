"""Topics with places to be filled in: `{tenant}/{category}/{mac}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from meshwire.topics import TopicError, validate_topic

__all__ = ["RULE_PLACES", "check_template", "fill"]

RULE_PLACES: Final = frozenset({"tenant", "category", "mac", "type", "path"})
_PLACE: Final = re.compile(r"\{([^{}]*)\}")


def check_template(template: str, places: frozenset[str], *, numbered: bool = False) -> str | None:
    """What is wrong with a template, or None.

    Args:
        template: the text.
        places: names that may stand in braces.
        numbered: whether numbers from 1 may, too.
    """
    for name in _PLACE.findall(template):
        if name not in places and not (numbered and name.isdigit() and name != "0"):
            known = ", ".join(f"{{{place}}}" for place in sorted(places))
            return f"knows no {{{name}}}: use {known}" + (" or {1}, {2} …" if numbered else "")
    try:
        validate_topic(_PLACE.sub("x", template))
    except TopicError as error:
        return str(error)
    return None


def fill(template: str, values: Mapping[str, str]) -> str:
    """The topic; a place without a value becomes `_`."""
    return _PLACE.sub(lambda match: values.get(match[1], "_"), template)
