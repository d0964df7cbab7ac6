"""Debian's Chromium without a window, driven by Playwright: for tests and benchmarks of the console, and its pictures.

Playwright speaks to the browser that the system has and brings none of its own; it is installed for tests only.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bench.compiled import Unobtainable

__all__ = ["PROGRAMS", "chromium"]

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
"""Names under which systems have it; the first one found is taken."""


@asynccontextmanager
async def chromium(*, is_meek: bool = False) -> AsyncIterator[Any]:
    """A browser (`playwright.async_api.Browser`), closed at the end.

    Args:
        is_meek: it gets only the processor time that nobody else wants.

    Raises:
        Unobtainable: Playwright or Chromium is not installed.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise Unobtainable("Chromium is not installed; to have it: apt-get install chromium")
    try:
        playwright: Any = importlib.import_module("playwright.async_api")
    except ImportError:
        raise Unobtainable("Playwright is not installed; to have it: pip install playwright") from None
    # Chromium refuses to run its sandbox as root, which is what containers run as.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    others = _below() if is_meek else set()
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=arguments)
        if is_meek:
            _yield_to_others(_below() - others)
        try:
            yield browser
        finally:
            await browser.close()


def _yield_to_others(processes: set[int]) -> None:
    """Thread by thread, and as the groups that Linux makes of sessions (sched(7), "The autogroup feature"): Chromium is
    one of its own, and within it gives its threads back what we take. What they start later inherits it.
    """
    own = _autogroup(os.getpid())
    for process in processes:
        if _autogroup(process) != own:
            with suppress(OSError):
                Path(f"/proc/{process}/autogroup").write_text("19")
        for task in Path(f"/proc/{process}/task").glob("*"):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(task.name), 19)


def _autogroup(process: int) -> str:
    """Empty where there are none."""
    try:
        return Path(f"/proc/{process}/autogroup").read_text().partition(" ")[0]
    except OSError:
        return ""


def _below() -> set[int]:
    """All processes below this one."""
    found, parents = {os.getpid()}, _parents()
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _parents() -> dict[int, int]:
    """Each process's parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return found
