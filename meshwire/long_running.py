"""The garbage collector of a server process that handles many small objects."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["settle"]

THRESHOLDS: Final = (50_000, 20, 50)
"""Allocations before the youngest generation is looked at, and how often the older ones follow."""


def settle() -> None:
    """Call it once, when a process has started: what is there now stays, and is not walked over again and again.

    Nearly everything that a server makes for a message is freed by its reference count; with Python's own thresholds
    the collector walks over all modules, classes and open exchanges many times a second to find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
