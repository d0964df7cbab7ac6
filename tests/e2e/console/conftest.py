"""One site and one browser a file: both take a second to start. Pages are the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from console_site import ConsoleSite
from patience import PATIENCE_S
from playwright.async_api import expect

from bench.chromium import chromium
from bench.compiled import Unobtainable

PATIENCE_MS = 1000 * PATIENCE_S
"""For a page and for what it is expected to say; a busy machine takes seconds for one password."""
expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome() -> AsyncIterator[Any]:
    try:
        async with chromium() as browser:
            yield browser
    except Unobtainable as reason:
        pytest.skip(str(reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.server.TICK_S", 0.05)
        patch.setattr("gateway.gateway.HOUSEKEEPING_S", 0.1)
        async with ConsoleSite(tmp_path_factory.mktemp("site")).running() as site:
            yield site


@pytest_asyncio.fixture(loop_scope="module")
async def page(chrome: Any, site: ConsoleSite) -> AsyncIterator[Any]:
    """A page of a visitor whom nobody knows; what its scripts or its security policy complain of fails the test."""
    complaints: list[str] = []
    context = await chrome.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    await context.close()
    assert not complaints, complaints


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cookie(site: ConsoleSite) -> dict[str, str]:
    return await site.cookie()


@pytest_asyncio.fixture(loop_scope="module")
async def administrator(page: Any, site: ConsoleSite, cookie: dict[str, str]) -> Any:
    """A page of an administrator, on the overview; it says yes to what it is asked."""
    await page.context.add_cookies([cookie])
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.goto(site.url)
    return page
