"""Aliases in the console: saved, tested, enabled, disabled, removed; what does not fit is said at its field."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_browser import Browser, set_up

from gateway.aliases.records import AliasSettings
from gateway.console.alias_pages import FIELDS
from gateway.gateway import Gateway
from meshwire.site import Site

PLACE = "/console/aliases"


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
async def browser(gateway: Gateway) -> Browser:
    return await set_up(Browser(gateway.http_port))


@pytest.mark.server
async def test_an_alias_is_saved_tested_enabled_and_removed(browser: Browser, mosquitto: Any) -> None:
    await browser.go(PLACE)
    assert "No alias yet" in browser.text
    host = f"tcp://127.0.0.1:{mosquitto.port}"
    await browser.go(PLACE, {"name": "plant", "host": host, "description": "the plant's own", "keep_alive_s": "20"})
    assert browser.hops == [PLACE, PLACE] and "plant" in browser.text and f"{PLACE}/plant/enable" in browser.text
    await browser.go(f"{PLACE}/plant/test", {})
    assert browser.text.count('<li class="done">') >= 3 and '<li class="failed">' not in browser.text
    await browser.go(f"{PLACE}/plant/enable", {})
    assert f"{PLACE}/plant/disable" in browser.text
    await browser.go(f"{PLACE}/plant/disable", {})
    await mosquitto.kill()
    await browser.go(f"{PLACE}/plant/test", {})
    assert '<li class="failed">' in browser.text and "What to do" in browser.text
    await browser.go(f"{PLACE}/plant/remove", {})
    assert "No alias yet" in browser.text


async def test_what_does_not_fit_is_said_at_its_field_and_the_password_is_never_shown(browser: Browser) -> None:
    await browser.go(PLACE)
    fields = {"name": "plant", "host": "ssl://broker.example:8883", "username": "u", "password": "very secret"}
    await browser.go(PLACE, fields | {"keep_alive_s": "99999"})
    assert browser.status == 422 and 'id="problem-keep_alive_s"' in browser.text
    assert 'value="ssl://broker.example:8883"' in browser.text, "what was typed stays"
    assert "very secret" not in browser.text
    await browser.go(PLACE, fields | {"name": "not a name"})
    assert "Name: It is not of this form." in browser.text and "pattern" not in browser.text
    await browser.go(PLACE, fields)
    assert browser.status in (200, 422) and "very secret" not in browser.text


async def test_forms_of_others_change_nothing(browser: Browser, gateway: Gateway) -> None:
    await browser.go(PLACE)
    await browser.go(PLACE, {"name": "x", "host": "tcp://x:1", "form_token": "wrong"})
    assert browser.status == 403
    assert re.search("form is not of this session", browser.text)


def test_every_field_of_the_form_is_one_of_an_alias_and_says_what_it_is() -> None:
    shown = [field["name"] for fields in FIELDS.values() for field in fields]
    assert len(shown) == len(set(shown)) and set(shown) <= set(AliasSettings.model_fields)
    left = set(AliasSettings.model_fields) - set(shown)
    assert left == {"enabled", "use_ssl", "publish", "queue_max_octets"}
    assert all(field["hint"] for fields in FIELDS.values() for field in fields)
