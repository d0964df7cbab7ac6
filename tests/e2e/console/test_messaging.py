"""Each action that the document on messaging services describes, by clicks; what brokers make of it is asked, too."""

from __future__ import annotations

import re
from typing import Any

import pytest
from console_site import ConsoleSite, serving
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def go_to(page: Any, name: str) -> None:
    """By the navigation on top."""
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()


async def add_account(page: Any, id: str, parent: str = "ssni") -> None:
    """Make an account; the browser ends on its page."""
    await go_to(page, "Messaging")
    await page.get_by_label("Id").fill(id)
    await page.get_by_label("Below").select_option(parent)
    await page.get_by_role("button", name="Make").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(id)


async def assign(page: Any, instance: str) -> None:
    await page.get_by_label("Instance").select_option(instance)
    await page.get_by_role("button", name="Assign", exact=True).click()
    await expect(page.get_by_text(f"Assigned to {instance}")).to_be_visible()


async def add_endpoint(page: Any, domain: str, port: int, scheme: str = "mqtt") -> None:
    await page.get_by_label("Schema").select_option(scheme)
    await page.get_by_label("Domain name").fill(domain)
    await page.get_by_label("Port").fill(str(port))
    await page.get_by_role("button", name="Add").click()


async def test_a_started_instance_is_in_the_list_by_itself(administrator: Any, site: ConsoleSite) -> None:
    page = administrator
    await go_to(page, "Messaging")
    rows = page.get_by_role("region", name="Instances").get_by_role("row")
    await expect(rows.filter(has_text="main")).to_contain_text("running")
    await expect(rows.filter(has_text="late")).to_have_count(0)
    async with serving(site.make_broker("late")):
        await page.reload()
        await expect(rows.filter(has_text="late")).to_contain_text("running")
        await expect(rows.filter(has_text="late")).to_contain_text("plain")
    await page.reload()
    await expect(rows.filter(has_text="late")).to_contain_text("stopped")


async def test_an_account_is_assigned_un_assigned_and_assigned_to_another(
    administrator: Any, site: ConsoleSite
) -> None:
    page = administrator
    async with serving(other := site.make_broker("other")):
        await add_account(page, "mover")
        await expect(page.get_by_text("Not assigned: every instance refuses this account")).to_be_visible()
        assert not await site.is_let_in("mover")
        await assign(page, "main")
        await site.until_let_in("mover")
        assert not await site.is_let_in("mover", other)
        await page.get_by_role("button", name="Un-assign").click()
        await expect(page.get_by_text("Not assigned")).to_be_visible()
        await site.until_refused("mover")
        assert not await site.is_let_in("mover", other), "nor does any other one let it in"
        await assign(page, "other")
        await site.until_let_in("mover", other)
        await site.until_refused("mover")  # each instance learns of it at a tick of its own
        await assign(page, "main")
        await site.until_let_in("mover")


async def test_accounts_further_down_inherit_and_can_not_change_it(administrator: Any) -> None:
    page = administrator
    await add_account(page, "child")
    await assign(page, "main")
    await add_account(page, "grandchild", parent="child")
    await expect(page.get_by_text("Inherited from child: main. It can't be changed here.")).to_be_visible()
    await expect(page.get_by_role("button", name="Assign")).to_have_count(0)


async def test_connection_settings_are_chosen_and_a_wider_one_is_refused(administrator: Any) -> None:
    page = administrator
    await add_account(page, "settled")
    await assign(page, "main")
    await page.get_by_label("Plain MQTT over TCP").check()
    await page.get_by_role("button", name="Set").click()
    await expect(page.get_by_text("In force: plain")).to_be_visible()
    await page.get_by_label("Secure MQTT over TLS", exact=True).check()
    await page.get_by_role("button", name="Set").click()
    await expect(page.get_by_role("alert")).to_contain_text("instance main does not offer tls; it offers plain")
    await expect(page.get_by_text("In force: plain.")).to_be_visible()


async def test_endpoints_are_added_published_checked_changed_and_deleted(administrator: Any, site: ConsoleSite) -> None:
    page, port = administrator, site.broker.ports[0]
    await add_account(page, "reachable")
    await assign(page, "main")
    await add_endpoint(page, "localhost", port)
    endpoints = page.get_by_role("region", name="Endpoints")
    await expect(endpoints).to_contain_text("localhost. 300 IN A")
    await page.get_by_role("button", name=f"Check mqtt://localhost:{port}").click()
    await expect(endpoints.get_by_role("status")).to_contain_text("connection")
    await add_endpoint(page, "broker.example.com", 70, "wss")
    await expect(page.get_by_role("alert")).to_contain_text("schema wss is encrypted: it must be secure")

    await page.get_by_role("link", name=f"Change mqtt://localhost:{port}").click()
    await page.get_by_label("New domain name").fill("broker.example.com")
    await page.get_by_role("button", name="Update").click()
    await expect(endpoints).to_contain_text("broker.example.com. 300 IN A")
    await page.get_by_role("link", name="Clients and their secrets").click()
    await page.get_by_role("button", name="Make").click()
    await go_to(page, "Messaging")
    await page.get_by_role("link", name="reachable").click()

    await page.get_by_role("link", name=re.compile("^Change")).click()
    await page.get_by_label("New port").fill("1883")
    await page.get_by_role("button", name="Update").click()
    warning = page.get_by_role("alert")
    await expect(warning).to_contain_text("It is in use")
    await expect(warning.get_by_role("listitem")).to_have_text(["account reachable: 1 credential"])
    await warning.get_by_role("link", name="Leave it").click()
    await expect(endpoints).to_contain_text(str(port))
    await page.get_by_role("button", name=re.compile("^Delete")).click()
    await page.get_by_role("button", name="Do it all the same").click()
    await expect(endpoints).to_contain_text("No endpoint: clients know no address to connect to.")
