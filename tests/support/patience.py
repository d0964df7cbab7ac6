"""How long tests wait for what must come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["PATIENCE_S", "until"]

PATIENCE_S: Final = 120.0
"""A bound for what never comes, not a verdict on how quick the machine is: a busy one may stall for many seconds."""


async def until(
    condition: Callable[[], object], why: Callable[[], object] = lambda: "", timeout_s: float = PATIENCE_S
) -> None:
    """Return when `condition` holds; when it never does, say `why`, which is asked then."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - the condition is in another task's hands, and has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {why()}") from None
