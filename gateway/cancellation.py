"""Letting something finish though we are told to stop."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["to_its_end"]

ResultT = TypeVar("ResultT")


async def to_its_end(task: asyncio.Task[ResultT]) -> ResultT:
    """Wait for a task however often we are cancelled meanwhile; the cancellation is raised when the task is done.

    For what must not be left half-way: a thread that writes to a file, a library that loses cancellations.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()
