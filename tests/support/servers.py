"""Servers of ours in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from patience import PATIENCE_S

__all__ = ["serving"]


@asynccontextmanager
async def serving(server: Any) -> AsyncIterator[None]:
    """Anything with `run` and `ready`, from ready to ended; what ends it before it is ready is raised."""
    task = asyncio.create_task(server.run())
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait({task, ready}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            await task
        assert server.ready.is_set(), f"not ready in {PATIENCE_S:g} s"
        yield
    finally:
        ready.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
