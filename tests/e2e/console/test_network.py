"""The pages about NICs, by clicks in a real browser, with a NIC and a board on a pseudo-terminal behind them."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from console_site import ConsoleSite
from nic_and_board import nic_and_board
from patience import PATIENCE_S
from playwright.async_api import expect

from gateway.addresses import Address
from meshwire.identity import INTERNAL_TENANT, DeviceId
from meshwire.mesh_place import MeshPlace
from nic_sim.nic import Nic

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAC = DeviceId("0013500500470001")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nic(site: ConsoleSite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nic]:
    site.gateway.registry.add_device(MAC, INTERNAL_TENANT)
    async with nic_and_board(site.gateway.coap_port, MAC, tmp_path_factory.mktemp("nic"), parent="ap-north") as nic:
        yield nic


async def open_tab(page: Any, name: str) -> None:
    """The NIC's page, from the table of all, and there a tab."""
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Network").click()
    await page.get_by_role("link", name=str(MAC)).first.click()
    await page.get_by_role("navigation", name="This NIC").get_by_role("link", name=name).click()


async def test_frames_are_watched_filtered_paused_unfolded_copied_and_saved(administrator: Any, nic: Nic) -> None:
    page = administrator
    await open_tab(page, "Live frames")
    lines = page.get_by_role("region", name="Frames").get_by_role("listitem")
    messages = page.locator("li.coap")
    await expect(page.get_by_role("button", name="Pause")).to_be_disabled()
    await page.get_by_role("button", name="Watch").click()
    await expect(page.get_by_role("status")).to_have_text("Watching.")
    await expect(messages.first).to_contain_text("observe=")
    await expect(page.locator("li.poll").first).to_be_visible()

    await page.get_by_label("Show").select_option("messages (CoAP)")
    await expect(page.locator("li.poll").first).to_be_hidden()
    await page.get_by_label("Filter").fill("no such words")
    await expect(messages.first).to_be_hidden()
    await page.get_by_label("Filter").fill("OBSERVE=")
    await page.get_by_role("button", name="Pause").click()
    shown = await lines.count()
    await expect(page.locator("[data-count]")).to_contain_text("wait")
    assert await lines.count() == shown, "nothing moves while it is paused"

    await messages.first.locator("summary").first.focus()
    await page.keyboard.press("Enter")
    tree = messages.first.locator(".tree").first
    await expect(tree).to_contain_text("Content-Format application/cbor")
    await expect(tree.get_by_text("Message ID")).to_be_visible()
    await messages.first.get_by_role("button", name="Copy octets").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("7e a0")
    await page.get_by_role("button", name="Copy", exact=True).click()
    text = await page.evaluate("navigator.clipboard.readText()")
    assert "observe=" in text and "RR" not in text and copied in text, "what is shown, and its octets"

    async with page.expect_download() as saved:
        await page.get_by_role("link", name="Download pcapng").click()
    path = await (await saved.value).path()
    assert path.read_bytes()[:4] == bytes.fromhex("0a0d0d0a")
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("status")).to_have_text("Stopped.")


async def test_the_map_shows_where_a_nic_hangs_and_changes_by_itself(
    administrator: Any, site: ConsoleSite, nic: Nic
) -> None:
    page, registry = administrator, site.gateway.registry
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Network").click()
    canvas = page.get_by_role("img", name="Map of")
    await expect(page.get_by_role("status")).to_have_text("live")
    box = await canvas.bounding_box()
    online = page.locator("[data-tally=online]")
    await expect(online).to_have_text("1")
    seen = page.locator(f"tr[data-mac='{MAC}'] [data-cell=seen]")
    await seen.evaluate("(cell) => (cell.textContent = 'long ago')")
    await expect(seen, "the table follows what is heard").to_have_text(re.compile(r"^\d+ s ago$"))

    relayed = DeviceId("0013500500470099")
    registry.add_device(relayed, INTERNAL_TENANT)
    registry.registered(relayed, Address("fd00::99", 4849), time.time(), 60.0, MeshPlace(str(MAC), 2, -81))
    await expect(online).to_have_text("2")
    assert await canvas.bounding_box() == box, "nothing moves when it grows"
    picked = page.locator("[data-picked]")
    await point_at(page, f"{relayed} ")
    await expect(picked).to_contain_text(f"online · 2 hops · sends through {MAC} · -81 dBm")
    await picked.get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(str(relayed))
    registry.remove_device(relayed)


SEE = """(isSeen) => {
  Object.defineProperty(document, "hidden", { value: !isSeen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""As if another tab came in front of the page, or it came back."""


async def test_a_page_that_nobody_sees_has_no_stream_and_misses_nothing_when_it_is_seen_again(
    administrator: Any, nic: Nic
) -> None:
    page = administrator
    await expect(page.locator("[data-live-state]")).to_have_text("live")
    async with page.expect_event("requestfailed", lambda request: request.url.endswith("/console/live")):
        await page.evaluate(SEE, False)
    is_of_the_page = lambda request: request.url.endswith("/console/") and request.resource_type == "fetch"  # noqa: E731
    async with page.expect_request("**/console/live"), page.expect_request(is_of_the_page):
        await page.evaluate(SEE, True)

    await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Network").click()
    await expect(page.get_by_role("status")).to_have_text("live")
    async with page.expect_event("requestfailed", lambda request: request.url.endswith("/console/mesh/live")):
        await page.evaluate(SEE, False)
    silence = lambda route: route.fulfill(content_type="text/event-stream", body=":\n\n")  # noqa: E731
    await page.route("**/console/mesh/live", silence)
    async with page.expect_request("**/console/mesh/live"), page.expect_request("**/console/mesh"):
        await page.evaluate(SEE, True)


FIND = """(text) => {
  const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
  for (let y = 2; y < box.height; y += 4)
    for (let x = 2; x < box.width; x += 4) {
      const at = { clientX: box.left + x, clientY: box.top + y, pointerType: "mouse" };
      canvas.dispatchEvent(new PointerEvent("pointermove", at));
      if (document.querySelector("[data-picked]").textContent.includes(text)) return [at.clientX, at.clientY];
    }
}"""
"""Points here and there until the line below the map says it."""


async def point_at(page: Any, text: str) -> None:
    """Move the mouse to a NIC on the map."""
    found = await page.evaluate(FIND, text)
    assert found, f"{text} is nowhere on the map"
    await page.mouse.move(0, 0)
    await page.mouse.move(*found)


async def test_readings_are_plotted_with_a_table_beside(administrator: Any, nic: Nic) -> None:
    page = administrator
    await open_tab(page, "Readings")
    plot = page.get_by_role("img", name=re.compile("temperature from .* °C"))
    await expect(plot.locator("polyline")).to_have_count(1)
    await expect(plot.locator("polyline")).to_have_attribute("points", re.compile(r"\S+ \S+"))
    value = page.locator(".keys .now")
    async with asyncio.timeout(PATIENCE_S):
        for x in itertools.cycle(range(100, 200)):
            await plot.hover(position={"x": x, "y": 50})
            if " at " in await value.inner_text():
                break  # else it was drawn anew in between, which ends the pointing
    await expect(page.get_by_role("region", name="Newest values").get_by_role("row").nth(1)).to_contain_text("°C")
    await page.get_by_role("checkbox", name="temperature").uncheck()
    await expect(plot).to_have_count(0)
    await page.get_by_role("checkbox", name="temperature").check()
    await expect(plot).to_be_visible()


async def test_the_observe_ledger_and_the_link_are_the_nics_own_words(administrator: Any, nic: Nic) -> None:
    page = administrator
    await open_tab(page, "Link and observes")
    ledger = page.get_by_role("region", name="Observes").get_by_role("row").filter(has_text="snsr/arduino/temp")
    await expect(ledger).to_contain_text("active")
    await expect(page.get_by_role("region", name="Serial link")).to_contain_text("Frames in")
    await page.get_by_role("button", name="Renew snsr/arduino/temp").click()
    await expect(page.get_by_role("status").filter(has_text="sys/observe")).to_contain_text("answered")
    await open_tab(page, "Link and observes")
    await expect(ledger).to_contain_text(re.compile("[1-9], next if silent"))
    await page.get_by_role("link", name="Ask for sys/coap").click()
    await expect(page.get_by_label("Path")).to_have_value("sys/coap")


async def test_a_discovered_resource_is_asked_observed_and_commanded(administrator: Any, nic: Nic) -> None:
    page = administrator
    await open_tab(page, "Summary")
    choice = page.get_by_label("Resource")
    await expect(choice.locator("option").first).to_contain_text("choose one of")
    await choice.select_option(label="snsr/arduino/temp – temp (observable)")
    await expect(page.get_by_label("Path")).to_have_value("snsr/arduino/temp")
    await page.get_by_role("button", name="Observe").click()
    rows = page.get_by_role("region", name="Observed notifications").locator("tbody tr")
    await expect(rows.nth(1)).to_contain_text("2.05")
    await page.get_by_role("button", name="Stop observing").click()
    await expect(page.get_by_text("Stopped.")).to_be_visible()

    await page.get_by_label("Path").fill("snsr/arduino/temp?cfg=C")
    await page.get_by_label("Method").select_option("PUT")
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.get_by_role("status").filter(has_text="cfg=C")).to_contain_text("answered")


async def test_an_image_is_chosen_and_reaches_the_board(administrator: Any, nic: Nic) -> None:
    page = administrator
    await open_tab(page, "Software")
    image = {"name": "image.bin", "mimeType": "application/octet-stream", "buffer": b"meshwire-board 2.1.0\n" * 64}
    await page.get_by_label("Image, at most 256 KiB").set_input_files(image)
    await page.get_by_role("button", name="Send the image").click()
    await expect(page.get_by_role("status")).to_contain_text("1344 octets: ")
    await page.get_by_role("link", name="Follow or cancel it").click()
    await expect(page.get_by_role("row").filter(has_text="PUT snsr/sys/fw?sha256=")).to_contain_text("answered")


async def test_commands_come_and_go_on_an_open_page(administrator: Any, site: ConsoleSite) -> None:
    away = DeviceId("0013500500470088")
    site.gateway.registry.add_device(away, INTERNAL_TENANT)
    page, other = administrator, await administrator.context.new_page()
    other.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.goto(f"{site.url}network/{away}")
    cancel = page.get_by_role("button", name="Cancel PUT snsr/arduino/temp?cfg=C")
    for number in (1, 2):
        await other.goto(f"{site.url}network/{away}")
        await other.get_by_label("Method").select_option("PUT")
        await other.get_by_label("Path").fill("snsr/arduino/temp?cfg=C")
        await other.get_by_label("When it is away").select_option("stored")
        await other.get_by_role("button", name="Send", exact=True).click()
        await expect(cancel).to_have_count(number)
        await cancel.first.focus()
    await expect(page.locator("[data-commands-waiting]")).to_have_text("2")
    await expect(cancel.first).to_be_focused()
    await other.get_by_role("button", name="Cancel all 2 that wait").click()
    await expect(cancel).to_have_count(0)
    await expect(page.get_by_role("cell", name="cancelled")).to_have_count(2)
