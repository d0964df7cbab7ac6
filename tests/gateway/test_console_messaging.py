"""The messaging service in the console: the walk of a new account by forms, and what is refused on the way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_browser import Browser, set_up

from gateway.gateway import Gateway
from gateway.messaging.rules import Instance, Option
from gateway.registry.audit import AuditLog
from meshwire.site import Site

PLACE = "/console/messaging"


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
async def browser(gateway: Gateway) -> Browser:
    plain = Instance("field-broker", "mosquitto")
    secure = Instance("safe-broker", "rabbitmq", "", True, True, frozenset(Option))
    for instance in (plain, secure):
        await asyncio.to_thread(gateway.messaging.add_instance, instance)
    return await set_up(Browser(gateway.http_port))


def steps(browser: Browser) -> dict[str, bool]:
    """The walk on an account's page: step and whether it is done."""
    found = re.findall(r'<li class="(done|now)"><strong>([^<]+)</strong>', browser.text)
    return {name: state == "done" for state, name in found}


async def test_a_new_account_walks_to_a_working_one_and_is_cut_off_again(browser: Browser, gateway: Gateway) -> None:
    await browser.go(PLACE)
    assert "field-broker" in browser.text and "nowhere: refused" in browser.text
    await browser.go(f"{PLACE}/accounts", {"id": "new-account", "title": "A new one", "parent": "ssni"})
    place = f"{PLACE}/accounts/new-account"
    assert browser.hops[-1] == place
    assert steps(browser) == {
        "Created": True, "Assigned": False, "Connection settings": False, "Endpoint": False, "Credentials": False
    }  # fmt: skip
    await browser.go(f"{place}/assign", {"instance": "field-broker"})
    assert "<option>safe-broker" in browser.text and "<option>field-broker" not in browser.text, "to another one"
    assert "are cut at once" in browser.text, "and that is asked first"
    assert steps(browser)["Assigned"] and steps(browser)["Connection settings"]
    await browser.go(f"{place}/options", {"tls": "yes"})
    assert browser.status == 409 and 'role="alert"' in browser.text and "tls" in browser.text, "wider than the instance"
    assert re.search(r'name="tls" value="yes" checked', browser.text), "what was chosen stays"
    await browser.go(f"{place}/options", {"plain": "yes"})
    assert browser.status == 200 and re.search(r'name="plain" value="yes" checked', browser.text)
    await browser.go(f"{place}/endpoints", {"scheme": "mqtt", "domain": "Broker.Example.com", "port": "1883"})
    assert "broker.example.com. 300 IN A" in browser.text and steps(browser)["Endpoint"]
    await browser.go("/console/clients")
    await browser.go("/console/clients", {"tenant": "new-account"})
    await browser.go(place)
    assert all(steps(browser).values())

    endpoint = re.search(r"endpoints/([0-9a-f]+)/remove", browser.text)
    assert endpoint is not None
    await browser.go(f"{place}/endpoints/{endpoint[1]}/remove", {})
    assert browser.status == 409 and "It is in use" in browser.text
    await browser.go(f"{place}/endpoints/{endpoint[1]}/remove", {"confirmed": "yes"})
    assert browser.status == 200 and not steps(browser)["Endpoint"]
    await browser.go(f"{place}/unassign", {})
    assert not steps(browser)["Assigned"] and "every instance refuses" in browser.text
    log = [(entry.action, entry.by) for entry in await asyncio.to_thread(AuditLog(gateway.registry.database).entries)]
    assert ("account.assign", "ada") in log and ("account.unassign", "ada") in log


async def test_a_grandchild_inherits_and_can_not_change_it(browser: Browser) -> None:
    await browser.go(PLACE)
    await browser.go(f"{PLACE}/accounts", {"id": "child", "parent": "ssni"})
    await browser.go(f"{PLACE}/accounts/child/assign", {"instance": "safe-broker"})
    await browser.go(PLACE)
    await browser.go(f"{PLACE}/accounts", {"id": "grandchild", "parent": "child"})
    assert "Inherited from" in browser.text and "safe-broker" in browser.text and "/assign" not in browser.text
    await browser.go(f"{PLACE}/accounts/grandchild/assign", {"instance": "field-broker"})
    assert browser.status == 409 and "inherit" in browser.text
    await browser.go(PLACE)
    await browser.go(f"{PLACE}/accounts", {"id": "child", "parent": "grandchild", "title": "Typed <once>"})
    assert browser.status == 409 and "exists" in browser.text and "MW-MSG-001" in browser.text
    assert 'value="Typed &lt;once&gt;"' in browser.text and "<option selected>grandchild" in browser.text
    await browser.go(f"{PLACE}/accounts", {"id": "no id!", "parent": "ssni"})
    assert browser.status == 409 and "choose another id" in browser.text
    await browser.go(f"{PLACE}/accounts/nobody")
    assert browser.status == 404 and "There is no such account" in browser.text


async def test_an_endpoint_is_tried_step_by_step(browser: Browser) -> None:
    await browser.go(PLACE)
    await browser.go(f"{PLACE}/accounts", {"id": "child", "parent": "ssni"})
    place = f"{PLACE}/accounts/child"
    await browser.go(f"{place}/endpoints", {"scheme": "mqtt", "domain": "127.0.0.1", "port": "1"})
    endpoint = re.search(r"endpoints/([0-9a-f]+)/check", browser.text)
    assert endpoint is not None
    await browser.go(f"{place}/endpoints/{endpoint[1]}/check", {})
    assert '<li class="failed">' in browser.text and "What to do" in browser.text
    await browser.go(f"{place}/endpoints", {"scheme": "gopher", "domain": "x", "port": "1"})
    assert browser.status == 409 and "gopher" in browser.text
    await browser.go(f"{place}/endpoints", {"scheme": "ws", "domain": "no domain", "port": "8083", "secure": "yes"})
    assert browser.status == 409 and 'value="no domain"' in browser.text and 'value="8083"' in browser.text
    assert "<option selected>ws<" in browser.text and 'name="secure" value="yes" checked' in browser.text
    await browser.go(f"{place}/endpoints/{endpoint[1]}", {"scheme": "mqtt", "domain": "nor this", "port": "7"})
    assert browser.status == 409 and 'New domain name <input name="domain" value="nor this"' in browser.text


async def test_where_no_broker_belongs_to_an_instance_nothing_is_left_to_assign(gateway: Gateway) -> None:
    browser = await set_up(Browser(gateway.http_port))
    await browser.go(PLACE)
    assert "No broker of this site belongs to an instance" in browser.text and "any broker" in browser.text
    await browser.go(f"{PLACE}/accounts", {"id": "new-account", "parent": "ssni"})
    assert steps(browser) == {
        "Created": True, "Assigned": True, "Connection settings": True, "Endpoint": False, "Credentials": False
    }  # fmt: skip
    assert "not needed" in browser.text
