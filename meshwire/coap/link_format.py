"""CoRE link format (RFC 6690): text to links and back, and the filter of a discovery request. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Link", "matches", "parse_links", "write_links"]

_VALUE: Final = r"(?:\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^\s;,\"]*)))?"
_TARGET: Final = re.compile(r"\s*<(?P<target>[^>]*)>")
_ATTRIBUTE: Final = re.compile(r"\s*;\s*(?P<name>[^\s;,=\"]+)" + _VALUE)
_COMMA: Final = re.compile(r"\s*,")
_ESCAPED: Final = re.compile(r"\\(.)")
_LISTS: Final = frozenset({"rt", "if", "rel"})
"""Attributes that hold several values, separated by blanks (RFC 6690 section 4.1)."""
_NUMBERS: Final = frozenset({"ct", "sz"})
"""Attributes whose value is a number (RFC 7252 section 7.2.1, RFC 6690 section 3.3); all others are quoted."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link; an attribute without a value is None."""

    target: str
    attributes: tuple[tuple[str, str | None], ...] = ()

    def values(self, name: str) -> list[str]:
        """What an attribute says; `href` is the target."""
        if name == "href":
            return [self.target]
        found = [value or "" for candidate, value in self.attributes if candidate == name]
        return [part for value in found for part in value.split()] if name in _LISTS else found

    def __str__(self) -> str:
        return f"<{self.target}>" + "".join(f";{name}{_written(name, value)}" for name, value in self.attributes)


def _written(name: str, value: str | None) -> str:
    if value is None:
        return ""
    if name in _NUMBERS and value.isdecimal():
        return f"={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'="{escaped}"'


def parse_links(text: str) -> list[Link]:
    """Read link format; what can't be read, and all after it, is left out."""
    links = []
    position = 0
    while (target := _TARGET.match(text, position)) is not None:
        position = target.end()
        attributes: list[tuple[str, str | None]] = []
        while (attribute := _ATTRIBUTE.match(text, position)) is not None:
            position = attribute.end()
            quoted = attribute["quoted"]
            value = attribute["bare"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
            attributes.append((attribute["name"], value))
        links.append(Link(target["target"], tuple(attributes)))
        if (comma := _COMMA.match(text, position)) is None:
            break
        position = comma.end()
    return links


def write_links(links: Iterable[Link]) -> bytes:
    """Link format as a payload."""
    return ",".join(map(str, links)).encode()


def matches(link: Link, query: str) -> bool:
    """Whether a link is what a query argument `name=value` or `name=prefix*` asks for (RFC 6690 section 4.1)."""
    name, equals, wanted = query.partition("=")
    if not equals:
        return True
    values = link.values(name)
    if wanted.endswith("*"):
        return any(value.startswith(wanted[:-1]) for value in values)
    return wanted in values
