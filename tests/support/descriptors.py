"""Which descriptors a test has left open, whatever other tests of the same process left to the collector.

A number of descriptors says nothing: what another test dropped may be collected in between. So they are told apart
by what they stand for.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path

Descriptors = dict[int, str]
"""Number and target, such as `socket:[4711]`."""


def open_descriptors() -> Descriptors:
    """Those of this process, after what nobody refers to has been collected: its numbers are not given anew later."""
    gc.collect()
    return _open_now()


def opened_since(before: Descriptors) -> Descriptors:
    """Those opened after `before` was taken and still open. Nothing is collected: the code must have closed them."""
    return {number: target for number, target in _open_now().items() if before.get(number) != target}


def _open_now() -> Descriptors:
    found = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the one that listed the folder
            found[int(entry.name)] = str(entry.readlink())
    return found
