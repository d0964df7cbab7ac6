"""What a live page does when its stream is refused: it says so, and tries again, or sends to the sign-in page."""

from __future__ import annotations

from typing import Any

import pytest
from console_site import ConsoleSite
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGAIN_MS = 10_000


async def test_a_stream_that_is_refused_is_asked_for_again(administrator: Any, site: ConsoleSite) -> None:
    page, asked = administrator, []

    async def refuse(route: Any) -> None:
        asked.append(route.request.resource_type)
        await route.fulfill(status=503, body="too many pages are open")

    await page.clock.install()
    await page.route("**/console/live", refuse)
    await page.goto(site.url)
    state = page.locator("[data-live-state]")
    await expect(state).to_have_text("not live: the gateway does not answer; trying again")
    async with page.expect_response("**/console/live") as asked_again:
        await page.clock.run_for(AGAIN_MS)
    assert (await asked_again.value).status == 503
    assert asked[:2] == ["eventsource", "fetch"], "a stream, then why there is none"
    await page.unroute("**/console/live")
    await page.clock.run_for(2 * AGAIN_MS)
    await expect(state).to_have_text("live")


async def test_a_stream_of_a_session_that_has_ended_says_so_and_is_not_asked_for_again(
    administrator: Any, site: ConsoleSite
) -> None:
    page, asked = administrator, []

    async def refuse_once(route: Any) -> None:
        asked.append(route.request.resource_type)
        if len(asked) > 1:
            await route.continue_()
            return
        await page.context.clear_cookies()
        await route.fulfill(status=503, body="")

    await page.clock.install()
    await page.route("**/console/live", refuse_once)
    await page.goto(site.url)
    await expect(page.locator("[data-live-state]")).to_have_text("ended: sign in again")
    await page.clock.run_for(3 * AGAIN_MS)
    assert asked == ["eventsource", "fetch"]
