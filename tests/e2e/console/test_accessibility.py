"""axe on every page, light and dark, on a desk and on a phone: nothing serious or critical; and no page wider than it.

An administrator's pages while there is nothing yet, with something of everything, and without the broker; and those of
a tenant's user, who has other ones.
The pages are found by following links, so a new one is judged as soon as something leads to it. The script comes in by
the browser's own protocol; the pages' security policy stays as it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from console_browser import PASSWORD
from console_site import ConsoleSite
from playwright.async_api import expect

from meshwire.identity import DeviceId, TenantId

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.server]

AXE = "axe-core@4.14.1"
NPM_S = 120
MAC = DeviceId("001350050047dc9a")
UNKNOWN = DeviceId("0000000000000000")
TENANT = TenantId("acme")
BROKERS = [f"messaging/{name}?tenant=acme" for name in ("addresses", "connections", "topics", "client")]
"""Pages that ask the broker."""
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 740}}
LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
OUT_OF_SIGHT = """() => [
  ...[...document.querySelectorAll(".wide")].filter((each) => each.scrollWidth > each.clientWidth)
    .map((each) => `a table is wider than the screen: ${each.textContent.trim().slice(0, 80)}`),
  ...[...document.querySelectorAll("a[href]:not(.skip), button, input:not([type=hidden])")]
    .filter((each) => each.offsetParent && each.getBoundingClientRect().right < 0)
    .map((each) => `can be reached by keyboard, and not be seen: ${each.outerHTML.slice(0, 120)}`),
]"""
FEW_LOOKS = [("desk", "light"), ("phone", "dark")]
"""For pages that differ from others in their words."""
ON_LOOKS = ["color-contrast", "target-size", "scrollable-region-focusable", "link-in-text-block"]
"""The rules whose outcome depends on colours and width; the others are asked once a page."""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
    try:
        subprocess.run([*command, "--prefix", str(folder), AXE], check=True, capture_output=True, timeout=NPM_S)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("npm can't obtain axe-core")
    return folder / "node_modules" / "axe-core" / "axe.min.js"


async def faults(page: Any, looks: Sequence[tuple[str, str]] = LOOKS) -> list[str]:
    """What is seriously wrong with the page that is shown, in these looks."""
    found = []
    for number, (size, scheme) in enumerate(looks):
        await page.set_viewport_size(SIZES[size])
        await page.emulate_media(color_scheme=scheme)
        await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        rules = {"runOnly": ON_LOOKS, "rules": {"target-size": {"enabled": True}}} if number else {}
        options = {"resultTypes": ["violations"], **rules}
        violations = await page.evaluate("async (options) => (await axe.run(options)).violations", options)
        found += [
            f"{size} {scheme} {each['impact']} {each['id']}: {each['help']}: {node['html'][:200]}"
            for each in violations
            for node in each["nodes"]
            if each["impact"] in ("serious", "critical")
        ]
        overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if overflow > 0:
            found.append(f"{size}: the page is {overflow} px wider than the screen")
        found += [f"{size}: {each}" for each in await page.evaluate(OUT_OF_SIGHT if size == "phone" else "[]")]
    return found


def kind(path: str) -> str:
    """Pages that differ in what they show, not in how, are one kind."""
    path = path.split("#")[0]
    path = re.sub(r"[?&](sort|find)=[^&]*", "", path)
    return re.sub(r"[0-9a-f]{16}|(?<=(what|edit|name)=).*|(?<=(filter|tenant)=)[^&]*|(?<=page=)\d+", "…", path)


def assert_none(seen: Mapping[str, Sequence[str]]) -> None:
    complaints = [f"{name}: {each}" for name, found in seen.items() for each in found]
    assert not complaints, "\n".join(complaints)


async def sign_in(page: Any, site: ConsoleSite, name: str) -> None:
    await page.goto(site.url)
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def looked_at(page: Any, site: ConsoleSite, names: Sequence[str]) -> dict[str, list[str]]:
    """What is wrong with these pages."""
    seen = {}
    for name in names:
        await page.goto(site.url + name)
        seen[name] = await faults(page, FEW_LOOKS)
    return seen


async def test_pages_of_somebody_who_is_not_signed_in(page: Any, site: ConsoleSite, axe: Path) -> None:
    await page.context.add_init_script(path=axe)
    await page.goto(site.url)
    seen = {"setup": await faults(page)}
    for label, text in (("Name", "ada"), ("Password", PASSWORD), ("Password again", "correct mules")):
        await page.get_by_label(label, exact=True).fill(text)
    await press(page, page.get_by_role("button", name="Make the administrator"))
    seen["setup refused"] = await faults(page)
    await site.cookie()
    await page.goto(site.url)
    assert "/console/sign-in" in page.url
    seen["sign-in"] = await faults(page)
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill("wrong password")
    await press(page, page.get_by_role("button", name="Sign in"))
    seen["sign-in refused"] = await faults(page)
    assert_none(seen)


async def press(page: Any, button: Any) -> None:
    """A button whose form answers with a page, also to what the browser would not have sent."""
    await page.evaluate("for (const form of document.forms) form.noValidate = true")
    async with page.expect_navigation():
        await button.click()


async def furnish(page: Any, site: ConsoleSite) -> dict[str, list[str]]:
    """Something for every page to show; the answers of forms are judged on the way, as no link leads to them."""
    seen, answers = {}, page.get_by_role("button")
    site.gateway.registry.add_device(MAC, TENANT)
    await site.send_reading(MAC)
    await page.goto(f"{site.url}messaging/accounts/acme")
    await page.get_by_label("Instance").select_option("main")
    await press(page, answers.get_by_text("Assign", exact=True))
    await page.get_by_label("Secure MQTT over TLS", exact=True).check()
    await press(page, answers.get_by_text("Set", exact=True))
    seen["account: refused settings"] = await faults(page)
    await page.get_by_label("Domain name").fill("127.0.0.1")
    await page.get_by_label("Port").fill("1")
    await press(page, answers.get_by_text("Add", exact=True))
    await press(page, answers.get_by_text("Check", exact=True))
    seen["account: checked endpoint"] = await faults(page)
    await page.goto(f"{site.url}clients?tenant=acme")
    await press(page, answers.get_by_text("Make", exact=True))
    seen["clients: a new one"] = await faults(page)
    await page.goto(f"{site.url}messaging/accounts/acme")
    await press(page, answers.get_by_text("Delete", exact=True))
    seen["account: warning"] = await faults(page)
    await page.goto(f"{site.url}aliases")
    await page.get_by_label("Name", exact=False).first.fill("no name")
    await press(page, answers.get_by_text("Save", exact=True))
    seen["aliases: problems"] = await faults(page)
    await page.goto(f"{site.url}network/{MAC}")
    await press(page, answers.get_by_text("Send", exact=True))
    seen["NIC: not sent"] = await faults(page)
    return seen


async def crawled(
    page: Any, site: ConsoleSite, first: Sequence[str], looks: Sequence[tuple[str, str]] = LOOKS
) -> dict[str, list[str]]:
    """What is wrong with each kind of page that a link leads to."""
    seen: dict[str, list[str]] = {}
    waiting = [f"/console/{name}" for name in first]
    while waiting:
        path = waiting.pop(0)
        if kind(path) in seen:
            continue
        await page.goto(site.url.removesuffix("/console/") + path)
        seen[kind(path)] = await faults(page, looks)
        links = await page.eval_on_selector_all(
            "a[href]:not([download])", "all => all.map((a) => a.getAttribute('href'))"
        )
        base = path.split("?")[0]
        paths = [f"{base}{link}" if link.startswith("?") else link for link in links]
        waiting += [each for each in paths if each.startswith("/console/") and "/static/" not in each]
    return seen


async def test_pages_of_a_site_in_which_nothing_is_yet(page: Any, site: ConsoleSite, axe: Path) -> None:
    await page.context.add_init_script(path=axe)
    await sign_in(page, site, "ada")
    seen = await looked_at(page, site, ["", "start", "network", *BROKERS, "aliases", "clients"])
    assert not site.gateway.registry.devices(None)
    assert_none(seen)


async def test_answers_of_forms(page: Any, site: ConsoleSite, axe: Path) -> None:
    await page.context.add_init_script(path=axe)
    await sign_in(page, site, "ada")
    assert_none(await furnish(page, site))


async def test_every_page_that_an_administrator_comes_to(page: Any, site: ConsoleSite, axe: Path) -> None:
    await page.context.add_init_script(path=axe)
    await sign_in(page, site, "ada")
    seen = await crawled(page, site, ["", "start", "nowhere", f"network/{UNKNOWN}", "network?find=none"])
    assert len(seen) >= 18, sorted(seen)
    assert_none(seen)


async def test_every_page_that_a_user_of_a_tenant_comes_to(page: Any, site: ConsoleSite, axe: Path) -> None:
    site.gateway.registry.add_account("bob", PASSWORD, TENANT, (), kind="console", scope="api", by="ada")
    await page.context.add_init_script(path=axe)
    await sign_in(page, site, "bob")
    firsts = ["network", f"explain?what={MAC}", f"explain?what={UNKNOWN}", f"network/{UNKNOWN}/frames", "aliases"]
    seen = await crawled(page, site, firsts, FEW_LOOKS)
    assert len(seen) >= 11, sorted(seen)
    assert_none(seen)


async def test_pages_while_the_broker_is_away(page: Any, site: ConsoleSite, axe: Path) -> None:
    await page.context.add_init_script(path=axe)
    await sign_in(page, site, "ada")
    await site.stop_broker()
    seen = await looked_at(page, site, ["", f"network/{MAC}", f"explain?what={MAC}", "messaging", *BROKERS])
    assert_none(seen)
