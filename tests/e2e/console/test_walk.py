"""The walk of somebody new, by clicks and keys alone: from the first start to a client with readings, and its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, STDOUT
from typing import Any

import pytest
from console_browser import PASSWORD
from console_site import ConsoleSite
from patience import PATIENCE_S
from playwright.async_api import expect

from meshwire.identity import DeviceId

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.server]

MAC = DeviceId("001350050047dc9a")


async def copied(page: Any, title: str) -> str:
    """What the button below a line puts into the clipboard."""
    await page.locator("figure", has_text=title).get_by_role("button", name="Copy").click()
    text = await page.evaluate("navigator.clipboard.readText()")
    assert isinstance(text, str)
    return text


async def test_from_the_first_start_to_a_client_that_is_cut_off(page: Any, site: ConsoleSite) -> None:
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))

    await page.goto(site.url)
    for text in ("ada", PASSWORD, PASSWORD):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("region", name="1. The board")).to_contain_text(re.compile("serial port", re.I))
    await page.get_by_role("link", name="Messaging").click()

    await page.get_by_label("Id").fill("new-account")
    await page.get_by_label("Title").fill("A new account")
    await page.get_by_role("button", name="Make").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("A new account")
    await page.get_by_label("Instance").select_option("main")
    await page.get_by_role("button", name="Assign", exact=True).click()
    await expect(page.get_by_text("Assigned to main")).to_be_visible()
    await page.get_by_label("Plain MQTT").check()
    await page.get_by_role("button", name="Set").click()
    await page.get_by_label("Domain name").fill("localhost")
    await page.get_by_label("Port").fill(str(site.broker.ports[0]))
    await page.get_by_role("button", name="Add").click()
    await page.get_by_role("link", name="Clients and their secrets").click()
    await page.get_by_role("button", name="Make").click()
    line = await copied(page, "Readings by mosquitto_sub")
    assert f"-h localhost -p {site.broker.ports[0]}" in line, "at the account's own endpoint"
    script = f"{await copied(page, 'A token')}\nexec {line}\n"

    await page.get_by_role("link", name="Overview").click()
    await page.get_by_role("link", name="Find a board and see the first reading").click()
    await page.get_by_label("MAC").fill(str(MAC))
    await page.get_by_label("Tenant").fill("new-account")
    await page.get_by_role("button", name="Add").click()
    await expect(page.get_by_text("1 known")).to_be_visible()
    await expect(page.get_by_text("None has come so far")).to_be_visible()

    client = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    assert client.stdout is not None
    try:
        first = asyncio.ensure_future(client.stdout.readline())
        async with asyncio.timeout(PATIENCE_S):
            while not first.done():
                await site.send_reading(MAC)
                await asyncio.wait({first}, timeout=0.1)
        assert f"new-account/read/{MAC}/" in first.result().decode()

        await expect(page.get_by_role("region", name="3. The first reading")).to_contain_text("temperature 22.5 °C")
        await page.get_by_role("link", name=str(MAC)).click()
        row = page.get_by_role("table").filter(has_text="Where it is").get_by_role("row").nth(1)
        await expect(row).to_contain_text("snsr/arduino/temp")

        await page.get_by_role("link", name="Overview").click()
        clients = page.get_by_role("definition").filter(has=page.locator("[data-field=broker_clients]"))
        await expect(clients).to_have_text(re.compile("[1-9]"))
        await page.get_by_role("link", name="Messaging").click()
        await page.get_by_role("link", name="new-account").click()
        await page.get_by_role("button", name="Un-assign").click()
        await expect(page.get_by_text("every instance refuses this account")).to_be_visible()
        async with asyncio.timeout(PATIENCE_S):
            last_words = await client.stdout.read()
            assert await client.wait() != 0, "cut off, and refused when it tries again"
        assert b"efused" in last_words, last_words
    finally:
        if client.returncode is None:
            os.killpg(client.pid, signal.SIGTERM)
            await client.wait()
