"""Debian's Chromium without a window, driven by Playwright: for tests and benchmarks of the console, and its pictures.

Playwright speaks to the browser that the system has and brings none of its own; it is installed for tests only.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from bench.compiled import Unobtainable

__all__ = ["PROGRAMS", "chromium"]

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
"""Names under which systems have it; the first one found is taken."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser (`playwright.async_api.Browser`), closed at the end.

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
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()
