"""The broker's own affairs by clicks in a real browser at a real broker: addresses, connections, topics, and the MQTT
client in a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from console_site import RECORD
from operated_site import OperatedSite
from patience import PATIENCE_S
from playwright.async_api import expect

from meshwire.identity import DeviceId, TenantId

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAC = DeviceId("001350050047dc9a")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OperatedSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.server.TICK_S", 0.05)
        patch.setattr("gateway.gateway.HOUSEKEEPING_S", 0.1)
        async with OperatedSite(tmp_path_factory.mktemp("site")).running() as site:
            site.gateway.registry.add_device(MAC, TenantId("acme"))
            site.gateway.registry.add_tenant(TenantId("globex"))
            yield site


async def go_to(page: Any, part: str) -> None:
    """By the navigation on top, and the tabs below it."""
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Messaging").click()
    await page.get_by_role("navigation", name="Parts of messaging").get_by_role("link", name=part).click()


async def test_an_address_is_made_looked_into_and_deleted(administrator: Any, site: OperatedSite) -> None:
    page = administrator
    await go_to(page, "Addresses")
    form = page.get_by_role("region", name="New address")
    await form.get_by_role("combobox").select_option("acme")
    await form.get_by_label("Name").fill("jobs")
    await form.get_by_text("Bounds").click()
    await expect(form.get_by_label("Most messages")).to_be_visible()
    await form.get_by_label("multicast").check()
    await expect(form.get_by_label("Most messages")).to_be_hidden()
    await form.get_by_label("queue").check()
    await form.get_by_label("Redelivery limit").fill("3")
    await form.get_by_role("button", name="Make").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("jobs queue")
    await expect(page.get_by_text("Nothing waits here.")).to_be_visible()
    async with site.client("acme", "worker", "ADDRESS_SENDER") as sender:
        await sender.publish("acme/address/jobs", '{"job": 7}', qos=1)
    await page.reload()
    waiting = page.get_by_role("region", name="What waits here").get_by_role("row")
    await expect(waiting.nth(1)).to_contain_text('{"job": 7}')
    await go_to(page, "Addresses")
    await page.get_by_role("search").get_by_role("combobox").select_option("acme")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("meter", name="Addresses: 2 of 4")).to_be_visible()
    await page.get_by_role("link", name="jobs").click()
    await page.get_by_role("button", name="Delete the address").click()
    await expect(page.get_by_role("row", name="orders")).to_be_visible()
    await expect(page.get_by_role("row", name="jobs")).to_have_count(0)


async def test_an_address_of_each_type_is_made(administrator: Any) -> None:
    page = administrator
    for kind in ("queue", "topic", "anycast", "multicast"):
        await go_to(page, "Addresses")
        form = page.get_by_role("region", name="New address")
        await form.get_by_role("combobox").select_option("acme")
        await form.get_by_label("Name").fill(f"my-{kind}")
        await form.get_by_role("radio", name=kind).check()
        await form.get_by_role("button", name="Make").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"my-{kind} {kind}")
        await page.get_by_role("button", name="Delete the address").click()
        await expect(page.get_by_role("row", name=f"my-{kind}")).to_have_count(0)


async def test_connections_come_and_go_by_themselves_and_are_kicked(administrator: Any, site: OperatedSite) -> None:
    page = administrator
    await go_to(page, "Connections")
    row = page.get_by_role("row", name="dashboard")
    await expect(row).to_have_count(0)
    async with site.client("acme", "dashboard", "BUBBLE_UP_READ_CONSUMER") as dashboard:
        await dashboard.subscribe("acme/read/#")
        await expect(row).to_contain_text("MQTT 5")
        await expect(row.get_by_role("img", name="not encrypted")).to_be_visible()
        await row.locator("summary").click()
        await expect(row.get_by_text("acme/read/#")).to_be_visible()
        await site.send_reading(MAC)
        await expect(row.get_by_role("cell").nth(3)).not_to_have_text("…")
        await expect(row.get_by_text("acme/read/#")).to_be_visible()
        kick = row.get_by_role("button", name="Kick dashboard")
        await kick.focus()
        async with site.client("acme", "another", "BUBBLE_UP_READ_CONSUMER"):
            await expect(page.get_by_role("row", name="another")).to_be_visible()
        await expect(page.get_by_role("row", name="another")).to_have_count(0)
        await expect(kick).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator(".answer")).to_contain_text("The connection of dashboard was ended.")
        with pytest.raises(aiomqtt.MqttError):
            async with asyncio.timeout(PATIENCE_S):
                async for _ in dashboard.messages:
                    pass
    await expect(row).to_have_count(0)


async def test_a_topic_appears_when_it_is_used(administrator: Any, site: OperatedSite) -> None:
    page = administrator
    await go_to(page, "Topics")
    await page.get_by_label("Account").select_option("globex")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("Nobody has published to a topic of globex")).to_be_visible()
    async with site.client("globex", "talker", "ADDRESS_SENDER") as talker:
        await talker.publish("globex/address/news", b"x", qos=1, retain=True)
    row = page.get_by_role("row", name="globex/address/news")
    await expect(row).to_contain_text("yes")
    await row.get_by_role("link", name="Try it with globex/address/news").click()
    await expect(page.get_by_label("Topic filter")).to_have_value("globex/address/news")


async def test_a_subscription_is_tried_as_a_role(administrator: Any, site: OperatedSite) -> None:
    page = administrator
    await go_to(page, "Try it")
    await page.get_by_label("As role").select_option("BUBBLE_UP_READ_CONSUMER")
    await expect(page.get_by_text("may subscribe: acme/read/#")).to_be_visible()
    await page.get_by_role("button", name="Connect", exact=True).click()
    await expect(page.get_by_text("connected", exact=True)).to_be_visible()
    subscriptions = page.get_by_role("region", name="Subscriptions")
    await page.get_by_role("button", name="Subscribe", exact=True).click()
    await expect(subscriptions.get_by_role("listitem").nth(0)).to_have_text("acme/read/# granted, QoS 1 Unsubscribe")
    await page.get_by_label("Topic filter").fill("globex/read/#")
    await page.get_by_role("button", name="Subscribe", exact=True).click()
    await expect(subscriptions.get_by_role("listitem").nth(1)).to_contain_text("refused: 0x87 not authorized")

    await site.send_reading(MAC)
    messages = page.get_by_role("region", name="Messages").get_by_role("row")
    await expect(messages.nth(1)).to_contain_text(f"acme/read/{MAC}/temp")
    await expect(messages.nth(1)).to_contain_text("a2 00 64 74 65 6d 70")
    await expect(messages.nth(1)).to_contain_text(f"CBOR, {len(RECORD)} octets")
    await page.get_by_label("Show as").select_option("text")
    await expect(messages.nth(1)).to_contain_text("1700000000")

    await page.get_by_label("Topic", exact=True).fill("acme/read/forged")
    await page.get_by_role("textbox", name="Message").fill("x")
    await page.get_by_role("button", name="Publish", exact=True).click()
    await expect(page.get_by_text("acme/read/forged: refused, 0x87 not authorized")).to_be_visible()
    await page.get_by_role("button", name="Unsubscribe acme/read/#").click()
    await page.get_by_role("button", name="Clear").click()
    await site.send_reading(MAC)
    await page.get_by_role("button", name="Disconnect").click()
    await expect(page.get_by_text("not connected", exact=True)).to_be_visible()
    await expect(page.get_by_text("Nothing yet")).to_be_visible()
    assert "eyJ" not in await page.content(), "the token stands nowhere in the page"


async def test_a_page_publishes_and_receives_and_hears_why_it_is_ended(administrator: Any, site: OperatedSite) -> None:
    page, about = administrator, "acme/address/orders"
    await go_to(page, "Try it")
    await page.get_by_label("As role").select_option("ADDRESS_SENDER")
    await page.get_by_role("button", name="Connect", exact=True).click()
    await page.get_by_label("Topic", exact=True).fill(about)
    await page.get_by_role("textbox", name="Message").fill('{"order": "ü"}')
    await page.get_by_role("button", name="Publish", exact=True).click()
    await expect(page.get_by_text(f"{about}: taken, 0x00 success")).to_be_visible()
    await page.get_by_label("Written as").select_option("hex")
    await page.get_by_role("textbox", name="Message").fill("0")
    await page.get_by_role("button", name="Publish", exact=True).click()
    await expect(page.get_by_text("no hexadecimal digits in pairs")).to_be_visible()
    await page.get_by_role("textbox", name="Message").fill("00 ff:80")
    await page.get_by_role("button", name="Publish", exact=True).click()
    await expect(page.get_by_text("no hexadecimal digits in pairs")).to_be_hidden()

    await page.get_by_role("button", name="Disconnect").click()
    await page.get_by_label("As role").select_option("ADDRESS_RECEIVER")
    await page.get_by_role("button", name="Connect", exact=True).click()
    await page.get_by_label("Topic filter").fill(about)
    await page.get_by_role("button", name="Subscribe", exact=True).click()
    messages = page.get_by_role("region", name="Messages").get_by_role("row")
    await expect(messages.nth(2)).to_contain_text('"order": "ü"')
    await expect(messages.nth(2)).to_contain_text("JSON")
    await expect(messages.nth(1)).to_contain_text("00 ff 80 hex")

    session = next(each for key, each in site.broker.engine.sessions.items() if key.client_id.startswith("console-"))
    assert session.outlet is not None
    session.outlet.kicked()
    await expect(page.get_by_text("0x98 ended by an administrator")).to_be_visible()


async def test_the_page_speaks_mqtt_3_1_1_where_a_broker_knows_no_5(administrator: Any, site: OperatedSite) -> None:
    page = administrator
    await go_to(page, "Try it")
    await page.evaluate("document.querySelector('[data-mqtt]').dataset.level = '4'")
    await page.get_by_role("button", name="Connect", exact=True).click()
    subscriptions = page.get_by_role("region", name="Subscriptions").get_by_role("listitem")
    for topic_filter, outcome in (("acme/read/#", "granted, QoS 1"), ("globex/#", "refused: 0x80")):
        await page.get_by_label("Topic filter").fill(topic_filter)
        await page.get_by_role("button", name="Subscribe", exact=True).click()
        await expect(subscriptions.filter(has_text=topic_filter)).to_contain_text(outcome)
    versions = {
        key.client_id[:8]: each.outlet.version.name for key, each in site.broker.engine.sessions.items() if each.outlet
    }
    assert versions["console-"] == "V3_1_1"
    await site.send_reading(MAC)
    messages = page.get_by_role("region", name="Messages").get_by_role("row")
    await expect(messages.nth(1)).to_contain_text("a2 00 64 74 65 6d 70")
    await page.get_by_role("button", name="Disconnect").click()
    await expect(page.get_by_text("not connected", exact=True)).to_be_visible()
