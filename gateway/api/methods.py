"""Which methods a path has: those of its routes, HEAD beside GET, and OPTIONS (RFC 9110 sections 9.3.2 and 9.3.7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

__all__ = ["has_head", "methods_of"]

_NO_HEAD: Final = re.compile(r"/api/(messages|consumers/[^/]+/messages)|/(api|console)/.*(events|live|observe)")
"""Paths at which GET takes messages, waits, or is a stream."""


def has_head(path: str) -> bool:
    """Whether HEAD is possible where GET is."""
    return _NO_HEAD.fullmatch(path) is None


def methods_of(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Every method of the path; a route of its own for each method knows only that one (RFC 9110 section 10.2.1)."""
    methods = _routed_methods(routes, scope) | {"OPTIONS"}
    return sorted(methods | {"HEAD"} if "GET" in methods and has_head(scope["path"]) else methods)


def _routed_methods(routes: Iterable[BaseRoute], scope: Scope) -> set[str]:
    found: set[str] = set()
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            found |= _routed_methods(inner.routes, scope)
        elif route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
