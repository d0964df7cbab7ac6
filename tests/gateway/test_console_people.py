"""Who may sign in to the console: added and removed by administrators; and everybody's own password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_browser import PASSWORD, Browser, set_up

from gateway.gateway import Gateway
from gateway.registry.audit import AuditLog
from meshwire.site import Site

PLACE = "/console/people"
TINA = {"name": "tina", "password": PASSWORD, "sees": "acme"}


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
async def ada(gateway: Gateway) -> Browser:
    ada = await set_up(Browser(gateway.http_port))
    return await ada.go(PLACE)


async def signed_in(gateway: Gateway, name: str, password: str = PASSWORD) -> Browser:
    browser = Browser(gateway.http_port)
    await browser.go("/console/sign-in")
    return await browser.go("/console/sign-in", {"name": name, "password": password, "next": ""})


async def test_a_user_of_an_account_is_added_signs_in_and_is_removed(ada: Browser, gateway: Gateway) -> None:
    await ada.go(PLACE, TINA)
    assert ada.hops[-1] == PLACE and "account acme" in ada.text and PASSWORD not in ada.text
    tina = await signed_in(gateway, "tina")
    assert tina.hops[-1] == "/console/network" and PLACE not in tina.text
    assert (await tina.go(PLACE)).status == 404
    await ada.go(f"{PLACE}/remove", {"name": "tina"})
    assert "tina" not in ada.text
    await ada.go(PLACE, TINA | {"sees": ""})
    await tina.go("/console/network")
    assert tina.hops[-1].startswith("/console/sign-in"), "a session is of whom it was opened for, not of a name"
    log = [(entry.action, entry.by) for entry in AuditLog(gateway.registry.database).entries()]
    assert ("console.add", "ada") in log and ("console.remove", "ada") in log


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"name": "ada"}, 422, "ada exists already"),
        ({"password": "short"}, 422, "at least 10 characters"),
        ({"sees": "nowhere"}, 422, "no account nowhere"),
        ({"name": ""}, 422, "1 to 64"),
    ],
)
async def test_what_does_not_fit_is_said_and_the_rest_stays(
    ada: Browser, changed: dict[str, str], status: int, words: str
) -> None:
    typed = TINA | changed
    await ada.go(PLACE, typed)
    assert ada.status == status and words in ada.text
    assert f'name="name" value="{typed["name"]}"' in ada.text and typed["password"] not in ada.text


async def test_an_administrator_is_always_left(ada: Browser) -> None:
    await ada.go(f"{PLACE}/remove", {"name": "ada"})
    assert ada.status == 409 and "another has to" in ada.text
    await ada.go(f"{PLACE}/remove", {"name": "nobody"})
    assert ada.status == 404


async def test_everybody_changes_the_own_password_and_other_sessions_end(ada: Browser, gateway: Gateway) -> None:
    await ada.go(PLACE, TINA)
    tina, elsewhere = await signed_in(gateway, "tina"), await signed_in(gateway, "tina")
    await tina.go("/console/password")
    fresh = {"current": PASSWORD, "password": "another long one", "again": "another long one"}
    for wrong, words in (({"again": "x"}, "differ"), ({"current": "x"}, "present password is wrong")):
        await tina.go("/console/password", fresh | wrong)
        assert tina.status == 422 and words in tina.text
    await tina.go("/console/password", fresh | {"password": "short", "again": "short"})
    assert tina.status == 422 and "at least 10" in tina.text
    await tina.go("/console/password", fresh)
    assert tina.status == 200 and "Changed." in tina.text and "another long one" not in tina.text
    await tina.go("/console/network")
    assert tina.hops == ["/console/network"], "this session goes on"
    await elsewhere.go("/console/network")
    assert elsewhere.hops[-1].startswith("/console/sign-in")
    assert (await signed_in(gateway, "tina")).status == 403
    assert (await signed_in(gateway, "tina", "another long one")).status == 200
