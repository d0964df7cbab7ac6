"""The console as a browser meets it: over a real socket, with cookies and forms; and its rules one by one."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_browser import PASSWORD, Browser, set_up
from fake_nic import FakeNic, serving
from patience import PATIENCE_S

from gateway.addresses import Address
from gateway.api.deliveries import DeliveryAnswer
from gateway.console.alarms import Severity, alarms
from gateway.console.explain_pages import Question, question_of, steps
from gateway.console.pulse import Pulse, Sample
from gateway.console.visitors import COOKIE, FREE_FAILURES, LIFETIME_S, WAIT_S, Visitors
from gateway.credentials import Credentials
from gateway.gateway import Gateway
from gateway.registry import Registry
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
def browser(gateway: Gateway) -> Browser:
    return Browser(gateway.http_port)


# --- who may look -----------------------------------------------------------------------------------------------------


async def test_the_first_visitor_makes_the_administrator_and_the_next_one_signs_in(browser: Browser) -> None:
    await browser.go("/console/network")
    assert browser.hops == ["/console/network", "/console/setup"]
    await browser.go("/console/setup", {"name": "ada", "password": "short", "again": "short"})
    assert browser.status == 422 and "at least 10 characters" in browser.text
    await browser.go("/console/setup", {"name": "ada", "password": PASSWORD, "again": "correct mule"})
    assert browser.status == 422 and "differ" in browser.text
    await set_up(browser)
    assert browser.hops == ["/console/setup", "/console/start"] and "To the first reading" in browser.text

    other = Browser(browser.port)
    await other.go("/console/setup", {"name": "eve", "password": PASSWORD, "again": PASSWORD})
    assert other.hops[-1] == "/console/sign-in", "there is an administrator by now"
    await other.go("/console/network")
    assert other.hops[-1] == "/console/sign-in?next=/console/network"
    await other.go("/console/explain?what=a/b&x=%26")
    assert other.hops[-1] == "/console/sign-in?next=/console/explain%3Fwhat%3Da/b%26x%3D%2526", "with its question"
    assert 'name="next" value="/console/explain?what=a/b&amp;x=%26"' in other.text
    await other.go("/console/sign-in", {"name": "ada", "password": "wrong password", "next": "/console/network"})
    assert other.status == 403 and PASSWORD not in other.text
    await other.go("/console/sign-in", {"name": "ada", "password": PASSWORD, "next": "/console/network"})
    assert other.hops[-1] == "/console/network" and other.status == 200


async def test_no_page_elsewhere_makes_the_administrator(browser: Browser) -> None:
    """Neither by a name of its own that it lets lead to this machine, nor by a form that hides where it comes from."""
    form = {"name": "eve", "password": PASSWORD, "again": PASSWORD}
    elsewhere = f"elsewhere.example:{browser.port}"
    for headers in (
        {"Host": elsewhere, "Origin": f"http://{elsewhere}"},
        {"Host": f"localhost.{elsewhere}"},
        {"Host": f"127.0.0.1.{elsewhere}"},
        {"Host": "[nonsense"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{browser.port + 1}", "Sec-Fetch-Site": "same-site"},
    ):
        await browser.go("/console/setup", form, **headers)
        assert browser.status == 403, headers
    await browser.go("/console/setup", Host=elsewhere)
    assert browser.status == 403 and "open this page there, at localhost" in browser.text
    for host in ("localhost", f"[::1]:{browser.port}", f"LOCALHOST:{browser.port}", "127.0.0.9"):
        await browser.go("/console/setup", Host=host)
        assert browser.status == 200, host
    own = {"Origin": f"http://127.0.0.1:{browser.port}", "Sec-Fetch-Site": "same-origin"}
    await browser.go("/console/setup", form, **own)
    assert browser.hops == ["/console/setup", "/console/start"]


async def test_a_new_password_and_removal_end_every_session(gateway: Gateway, browser: Browser) -> None:
    """And a sign-in ends the session that the browser had before."""
    await set_up(browser)
    before = browser.cookie
    await browser.go("/console/sign-in", {"name": "ada", "password": PASSWORD, "next": ""})
    assert browser.cookie != before and browser.status == 200
    former = Browser(browser.port, cookie=before)
    await former.go("/console/network")
    assert former.hops[-1].startswith("/console/sign-in")
    await asyncio.to_thread(gateway.registry.set_account, "ada", "console", secret="another horse")
    await browser.go("/console/network")
    assert browser.hops[-1].startswith("/console/sign-in")
    await browser.go("/console/sign-in", {"name": "ada", "password": "another horse", "next": ""})
    assert browser.status == 200
    await asyncio.to_thread(gateway.registry.remove_account, "ada", "console")
    await browser.go("/console/network")
    assert browser.hops[-1] == "/console/setup", "nobody can sign in any more"


async def test_the_session_is_a_cookie_that_scripts_and_other_sites_do_not_get_and_ends(browser: Browser) -> None:
    await set_up(browser)
    await browser.go("/console/sign-out", {})
    assert browser.hops[-1] == "/console/sign-in"
    await browser.go("/console/sign-in", {"name": "ada", "password": PASSWORD, "next": "https://elsewhere.example/"})
    assert browser.hops[-1] == "/console/", "never to another site"
    await asyncio.to_thread(
        browser._send, "POST", "/console/sign-in", {"name": "ada", "password": PASSWORD, "next": ""}, {}
    )
    cookie = browser.headers["Set-Cookie"]
    assert cookie.startswith(COOKIE) and "HttpOnly" in cookie and "SameSite=strict" in cookie
    kept = browser.cookie
    await browser.go("/console/")
    await browser.go("/console/sign-out", {})
    browser.cookie = kept
    await browser.go("/console/")
    assert browser.hops[-1].startswith("/console/sign-in"), "a cookie of a session that ended is worth nothing"


async def test_a_form_needs_its_token_and_its_own_site(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    await browser.go("/console/clients")
    await browser.go("/console/clients", {"tenant": "acme", "form_token": "x"})
    assert browser.status == 403
    await browser.go("/console/clients")
    await browser.go("/console/clients", {"tenant": "acme"}, Origin="https://elsewhere.example")
    assert browser.status == 403
    assert not gateway.registry.accounts("client")


async def test_pages_allow_nothing_from_elsewhere_and_are_not_kept(browser: Browser) -> None:
    for path in ("/console/", "/console/nowhere", "/console/network/0000"):
        await browser.go(path)
        if browser.path.startswith("/console/nowhere"):
            continue
        policy = browser.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert browser.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script>|style=|onclick=|https?://(?!127\.)", browser.text)
    for path in re.findall(r'(?:href|src)="(/console/static/[^"]+)"', browser.text):
        await browser.go(path)
        assert browser.status == 200 and "immutable" in browser.headers["Cache-Control"]


async def test_a_tenants_own_user_sees_its_own_and_no_more(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    visitors = Visitors(gateway.registry, Credentials(gateway.registry))
    assert await visitors.add_tenant_user("tina", PASSWORD, TenantId("acme")) is None
    tina = Browser(browser.port)
    await tina.go("/console/sign-in", {"name": "tina", "password": PASSWORD, "next": ""})
    assert tina.hops[-1] == "/console/network"
    assert MAC.value in tina.text and FOREIGN_MAC.value not in tina.text
    unknown = (await tina.go("/console/network/0000000000000001")).text
    assert (await tina.go(f"/console/network/{FOREIGN_MAC}")).text == unknown, "a foreign device is like none"
    for path in ("/console/clients", "/console/live"):
        assert (await tina.go(path)).status == 404
    assert "No such page" in (await tina.go("/console/aliases")).text
    assert '<a href="/console/network">Network</a>' in tina.text, "the ways on are there"


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_the_network_can_be_searched_and_sorted(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    gateway.registry.seen(MAC, Address("fd00::5", 4849), time.time())
    gateway.registry.seen(FOREIGN_MAC, Address("fd00::6", 4849), time.time() - 3600)
    await browser.go("/console/network?sort=state")
    assert browser.text.index(FOREIGN_MAC.value) < browser.text.index(MAC.value), "offline before online"
    assert "[fd00::5]:4849" in browser.text and "1 h ago" not in browser.text and "60 min ago" in browser.text
    await browser.go("/console/network?find=ACME")
    assert MAC.value in browser.text and FOREIGN_MAC.value not in browser.text
    await browser.go("/console/network?find=%3Cscript%3E")
    assert "No NIC fits" in browser.text and "<script>" not in browser.text
    await browser.go(f"/console/network/{MAC}")
    assert "online" in browser.text and "acme" in browser.text


async def test_a_client_is_made_shown_once_connects_and_is_removed(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    await browser.go("/console/clients")
    await browser.go("/console/clients", {"tenant": "no such/tenant"})
    assert browser.status == 422 and 'role="alert"' in browser.text
    await browser.go("/console/clients", {"tenant": "acne"})
    assert browser.status == 422 and "no account acne" in browser.text, "a slip of the pen makes no account"
    await browser.go("/console/clients", {"tenant": "acme"})
    client_id, secret = re.findall(r'<dd class="mono">([^<]+)</dd>', browser.text)
    account = await Credentials(gateway.registry).verify(client_id, secret, "client")
    assert account is not None and account.tenant == TenantId("acme")
    await browser.go("/console/clients")
    assert client_id in browser.text and secret not in browser.text
    await browser.go("/console/clients/remove", {"id": client_id})
    assert client_id not in browser.text and gateway.registry.account(client_id, "client") is None


async def test_live_figures_come_as_events(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    writer.write(f"GET /console/live HTTP/1.1\r\nHost: x\r\nCookie: {browser.cookie}\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        event = b""
        while b"data:" not in event:
            event = await reader.readuntil(b"\n\n")
    assert b"text/event-stream" in head
    sample = json.loads(event[event.index(b"{") :])
    assert sample["devices"] == 2 and sample["lost"] == 0
    writer.close()


# --- rules ------------------------------------------------------------------------------------------------------------


async def test_guessing_is_slowed_and_sessions_end_by_themselves(tmp_path: Any) -> None:
    registry = Registry(tmp_path / "registry.db")
    visitors = Visitors(registry, Credentials(registry))
    assert await visitors.needs_setup() and await visitors.add_administrator("ada", PASSWORD) is None
    assert await visitors.add_administrator("ada", PASSWORD) == "ada exists already."
    for _ in range(FREE_FAILURES):
        assert visitors.wait_s("10.0.0.1", 100.0) == 0.0
        assert await visitors.sign_in("ada", "wrong password", "10.0.0.1", 100.0) is None
    assert visitors.wait_s("10.0.0.1", 100.0) == WAIT_S and visitors.wait_s("10.0.0.2", 100.0) == 0.0
    assert visitors.wait_s("10.0.0.1", 101.0 + WAIT_S) == 0.0
    session = await visitors.sign_in("ada", PASSWORD, "10.0.0.1", 200.0)
    assert session is not None and await visitors.visitor(session, 201.0) is not None
    assert await visitors.visitor(session, 202.0 + LIFETIME_S) is None
    again = await visitors.sign_in("ada", PASSWORD, "10.0.0.1", 200.0)
    registry.remove_account("ada", "console")
    assert await visitors.visitor(again, 201.0) is None, "an account that is gone has no session"
    registry.close()


STATUS: dict[str, Any] = {
    "counters": {"stored": 0, "published": {"read": 0}},
    "outbox": {"depth": 3, "octets": 50, "maxOctets": 100, "ageS": 2.0},
    "bridge": {"enabled": True, "connected": True},
    "losses": {},
    "sessions": 1,
    "devices": 2,
    "proxy": {"observationsEstablished": 3, "observationsLost": 1},
    "commands": {"open": 4},
}


def test_rates_are_per_second_whatever_the_distance_of_samples() -> None:
    status, now = json.loads(json.dumps(STATUS)), [1000.0]
    pulse = Pulse(lambda: status, lambda: now[0])
    assert pulse.take().readings_per_s == 0.0
    status["counters"] = {"stored": 30, "published": {"read": 10, "alert": 5}}
    now[0] += 2.0
    sample = pulse.take()
    assert (sample.readings_per_s, sample.published_per_s, sample.outbox_level) == (15.0, 7.5, 0.5)
    observes = sample.observes_established, sample.observes_asking, sample.observes_lost
    assert (observes, sample.commands_waiting) == ((3, 0, 1), 4)


SAMPLE = Sample(0.0, 0.0, 0.0, 0, 0.0, 0.0, 0, True, 0, 2)


@pytest.mark.parametrize(
    ("changes", "offline", "found"),
    [
        ({}, 0, []),
        ({"lost": 1}, 0, [(Severity.CRITICAL, "lost")]),
        ({"outbox_level": 0.95}, 0, [(Severity.CRITICAL, "nearly full")]),
        ({"outbox_writable": False}, 0, [(Severity.CRITICAL, "can't be written")]),
        ({"outbox_level": 0.6}, 0, [(Severity.WARNING, "fills")]),
        ({"connected": False, "outbox_level": 0.6}, 0, [(Severity.WARNING, "away")]),
        ({"connected": False, "outbox_level": 0.95, "lost": 2}, 1, [(Severity.CRITICAL, "lost")]),
        ({}, 1, [(Severity.WARNING, "silent")]),
    ],
)
def test_alarms_say_what_with_evidence(changes: dict[str, Any], offline: int, found: list[Any]) -> None:
    from dataclasses import replace

    result = alarms(replace(SAMPLE, **changes), offline)
    assert all(alarm.evidence and alarm.do for alarm in result)
    for (severity, word), alarm in zip(found, result, strict=len(found) != 1 or len(result) == 1):
        assert alarm.severity is severity and word in alarm.what


# --- one NIC, and the way of a notification ---------------------------------------------------------------------------


async def test_a_command_is_sent_and_its_answer_shown(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    await browser.go(f"/console/network/{MAC}")
    assert "has never been heard of" in browser.text
    order = {"method": "GET", "path": "snsr/arduino/temp?sens", "payload": "", "mode": "direct", "ttl": "60"}
    await browser.go(f"/console/network/{MAC}/commands", order)
    assert browser.status == 409 and "Not sent" in browser.text
    async with serving(FakeNic()) as nic:
        gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        await browser.go(f"/console/network/{MAC}/commands", order)
    assert browser.status == 200 and "answered" in browser.text and "2.05" in browser.text
    assert "<pre><code>plain</code></pre>" in browser.text, "what it says, as text"
    await browser.go(f"/console/network/{MAC}/commands", order | {"method": "BREW"})
    assert browser.status == 409 and "method is unknown" in browser.text


async def test_a_stored_command_waits_and_is_cancelled(browser: Browser, gateway: Gateway) -> None:
    await set_up(browser)
    await browser.go(f"/console/network/{MAC}")
    order = {"method": "PUT", "path": "snsr/arduino/temp?cfg=C", "payload": "", "mode": "stored", "ttl": "600"}
    await browser.go(f"/console/network/{MAC}/commands", order)
    assert browser.status == 200 and "queued" in browser.text
    cancel = re.search(r'action="(/console/network/[^"]+/cancel)"', browser.text)
    assert cancel is not None
    await browser.go(cancel[1], {})
    assert "cancelled" in browser.text and "/cancel" not in browser.text
    await browser.go(f"/console/network/{MAC}/commands", order | {"ttl": ""})
    assert browser.status in (409, 422) and 'role="alert"' in browser.text


async def test_a_notification_is_followed_by_key_and_by_mac(
    browser: Browser, gateway: Gateway, raw_client: Any, bubble_up: Any
) -> None:
    await set_up(browser)
    client = raw_client(gateway.coap_port)
    client.send(encode(bubble_up(observe=7)))
    assert (await client.receive()).code == codes.CHANGED
    client.send(encode(bubble_up(mac=DeviceId("00000000000000aa"), observe=8, mid=8)))
    assert (await client.receive()).code == codes.FORBIDDEN
    await browser.go(f"/console/explain?what={MAC}")
    key = re.search(r'<h2 class="mono">([^<]+)</h2>', browser.text)
    assert key is not None and key[1].startswith(MAC.value)
    assert "stored in the gateway" in browser.text and "waits for the broker" in browser.text
    await browser.go(f"/console/explain?what={key[1]}")
    assert browser.text.count('<ol class="way">') == 1
    await browser.go(f"/console/network/{MAC}")
    assert "snsr/arduino/temp" in browser.text and "Last notifications" in browser.text
    await browser.go("/console/explain?what=00000000000000aa")
    assert "unknown-device" in browser.text and "meshwire device add" in browser.text, "why nothing of it arrives"
    for nothing in ("00000000000000ab", "rubbish"):
        await browser.go(f"/console/explain?what={nothing}")
        assert "There is no such device" in browser.text
    await browser.go(f"/console/explain?what=acme/read/{MAC}/temp")
    assert key[1] in browser.text, "by its topic"
    await browser.go(f"/console/explain?what={FOREIGN_MAC}")
    assert "was never heard" in browser.text, "the first hop that fails"


async def test_a_tenants_user_does_not_learn_who_else_was_refused(
    browser: Browser, gateway: Gateway, raw_client: Any, bubble_up: Any
) -> None:
    client = raw_client(gateway.coap_port)
    client.send(encode(bubble_up(mac=DeviceId("00000000000000aa"), observe=8, mid=8)))
    assert (await client.receive()).code == codes.FORBIDDEN
    await Visitors(gateway.registry, Credentials(gateway.registry)).add_tenant_user("tina", PASSWORD, TenantId("acme"))
    await browser.go("/console/sign-in", {"name": "tina", "password": PASSWORD, "next": ""})
    await browser.go("/console/explain?what=00000000000000aa")
    assert "There is no such device" in browser.text and "unknown-device" not in browser.text


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (MAC.value, Question(MAC.value)),
        (f"{MAC}/snsr/arduino/temp/1/7", Question(MAC.value, key=f"{MAC}/snsr/arduino/temp/1/7")),
        (f"acme/read/{MAC}/temp", Question(MAC.value, kind="temp")),
        (f"acme/alert/{MAC}/door", Question(MAC.value, kind="door")),
        (f"acme/presence/{MAC}", Question(MAC.value)),
        ("acme/read/#", Question("acme", key="acme/read/#")),
        ("rubbish", Question("rubbish")),
    ],
)
def test_a_mac_a_topic_and_a_key_are_told_apart(text: str, question: Question) -> None:
    assert question_of(text) == question


def test_the_way_of_a_lost_notification_ends_where_it_was_lost() -> None:
    lost = DeliveryAnswer(
        key="k", device="d", tenant="t", path="p", state="dropped", lane=0, sequence=1, octets=1, sampled_at=1.0,
        received_at=2.0, published_at=3.0, acknowledged_at=None, dropped_at=4.0, reason="refused-by-broker",
    )  # fmt: skip
    assert [step.state for step in steps(lost)] == ["done", "done", "done", "failed"]
    assert "refused-by-broker" in steps(lost)[-1].words
    waiting = lost.model_copy(update={"state": "outbox", "published_at": None, "dropped_at": None, "reason": None})
    assert [step.state for step in steps(waiting)] == ["done", "done", "now"]
    taken = lost.model_copy(update={"state": "acknowledged", "acknowledged_at": 3.5, "dropped_at": None})
    assert [step.state for step in steps(taken)] == ["done"] * 4
