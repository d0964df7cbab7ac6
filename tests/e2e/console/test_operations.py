"""The broker's own affairs in the console, asked of a real broker: addresses, connections, topics, tokens to try; and
that a tenant's user sees nothing of another tenant.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from console_browser import Browser
from operated_site import OperatedSite
from patience import PATIENCE_S

from gateway.messaging.rules import Scheme
from gateway.registry.audit import AuditLog
from meshwire.identity import TenantId

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACE = "/console/messaging"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OperatedSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.console.watch.FRESH_S", 0.0)  # no page shows what the test before has seen
        async with OperatedSite(tmp_path_factory.mktemp("site")).running() as site:
            for tenant in ("acme", "globex"):
                site.gateway.registry.add_tenant(TenantId(tenant))
            yield site


@pytest_asyncio.fixture(loop_scope="module")
async def ada(site: OperatedSite) -> Browser:
    return await site.administrator()


@pytest_asyncio.fixture(loop_scope="module")
async def tina(site: OperatedSite) -> Browser:
    """Of tenant acme."""
    return await site.user_of("acme")


async def log_of(site: OperatedSite, action: str) -> list[tuple[str, str, str]]:
    registry = site.gateway.registry
    await asyncio.to_thread(registry.audit.save)
    entries = await asyncio.to_thread(AuditLog(registry.database).entries, action=action)
    return [(entry.by, entry.tenant, entry.subject) for entry in entries]


# --- addresses --------------------------------------------------------------------------------------------------------


async def test_an_address_is_made_changed_and_deleted_within_the_plan(ada: Browser, site: OperatedSite) -> None:
    await ada.go(f"{PLACE}/addresses?tenant=acme")
    assert ada.status == 200 and "Plan of acme" in ada.text and "of 4" in ada.text and "secret-plans" not in ada.text
    fields = {"tenant": "acme", "name": "lost", "type": "queue", "max_messages": "50", "max_waiting": "7"}
    await ada.go(f"{PLACE}/addresses", fields)
    assert ada.hops[-1] == f"{PLACE}/address?tenant=acme&name=lost", "what a queue has no use for is left out"
    await ada.go(f"{PLACE}/addresses", fields)
    assert ada.status == 409 and "exists already" in ada.text and 'value="lost"' in ada.text
    wrong = {"tenant": "acme", "name": "odd", "type": "queue", "min_ttl_s": "9", "max_ttl_s": "3"}
    await ada.go(f"{PLACE}/addresses", wrong)
    assert ada.status == 409 and "min_ttl_s is above max_ttl_s" in ada.text and 'role="alert"' in ada.text

    await ada.go(f"{PLACE}/address?tenant=acme&name=orders")
    assert 'name="max_ttl_s" type="number" min="1" value="3600"' in ada.text
    change = {"tenant": "acme", "name": "orders", "max_ttl_s": "60", "dead_letter": "lost", "max_deliveries": "3"}
    await ada.go(f"{PLACE}/address", change)
    assert ada.status == 200 and 'value="60"' in ada.text
    await ada.go(f"{PLACE}/addresses?tenant=acme")
    assert "life 60 s or less" in ada.text and "3 deliveries at most" in ada.text and "to lost" in ada.text
    await ada.go(f"{PLACE}/address/remove", {"tenant": "acme", "name": "lost"})
    assert ada.status == 409 and "dead letters" in ada.text, "another address needs it"
    await ada.go(f"{PLACE}/address", {"tenant": "acme", "name": "orders", "max_ttl_s": "3600"})
    await ada.go(f"{PLACE}/address/remove", {"tenant": "acme", "name": "lost"})
    assert ada.status == 200 and "lost" not in ada.text
    for number in range(4):
        await ada.go(f"{PLACE}/addresses", {"tenant": "acme", "name": f"more-{number}", "type": "topic"})
    assert ada.status == 409 and "plan allows no more addresses" in ada.text
    for number in range(3):
        await ada.go(f"{PLACE}/address/remove", {"tenant": "acme", "name": f"more-{number}"})
    assert ("ada", "acme", "lost") in await log_of(site, "address.add")
    assert ("ada", "acme", "orders") in await log_of(site, "address.set")
    assert ("ada", "acme", "lost") in await log_of(site, "address.remove")


async def test_what_waits_at_a_queue_is_shown_and_stays(ada: Browser, site: OperatedSite) -> None:
    async with site.client("acme", "sender", "ADDRESS_SENDER") as sender:
        for payload in (b'{"order": 1}', b"<script>alert(1)</script>", bytes(range(8))):
            await sender.publish("acme/address/orders", payload, qos=1)
    for _ in range(2):
        await ada.go(f"{PLACE}/address?tenant=acme&name=orders")
        assert "{&#34;order&#34;: 1}" in ada.text and "JSON" in ada.text
        assert "&lt;script&gt;alert" in ada.text and "<script>alert" not in ada.text
        assert "00 01 02 03 04 05 06 07" in ada.text
        assert re.search(r"<dt>Stored</dt><dd>3 ", ada.text)
    await ada.go(f"{PLACE}/address?tenant=acme&name=orders&after=2")
    assert "order&#34;: 1" not in ada.text and "00 01 02" in ada.text
    async with (
        site.client("acme", "receiver", "ADDRESS_RECEIVER") as receiver,
        asyncio.timeout(PATIENCE_S),
    ):
        await receiver.subscribe("acme/address/orders", 1)
        got = [message.payload async for message in _first(receiver, 3)]
    assert got == [b'{"order": 1}', b"<script>alert(1)</script>", bytes(range(8))], "in order, none taken by looking"


async def _first(client: aiomqtt.Client, count: int) -> AsyncIterator[Any]:
    async for message in client.messages:
        yield message
        count -= 1
        if not count:
            return


# --- connections ------------------------------------------------------------------------------------------------------


async def test_a_connection_is_shown_and_ended_with_a_line_in_the_audit_log(ada: Browser, site: OperatedSite) -> None:
    async with site.client("globex", "billing", "BUBBLE_UP_READ_CONSUMER", version=311) as billing:
        await billing.subscribe("globex/read/#")
        await ada.go(f"{PLACE}/connections?tenant=globex")
        assert "billing" in ada.text and "MQTT 3.1.1" in ada.text and "not encrypted" in ada.text
        assert "globex/read/#" in ada.text and "gw-" not in ada.text
        await ada.go(f"{PLACE}/connections?find=bill&sort=since")
        assert "1 connected" in ada.text
        kick = {"tenant": "globex", "client": "billing", "login": "token", "shown": "globex"}
        await ada.go(f"{PLACE}/connections/kick", kick)
        assert ada.status == 200 and "was ended" in ada.text and "Nobody is connected" in ada.text
        with pytest.raises(aiomqtt.MqttError):
            async with asyncio.timeout(PATIENCE_S):
                async for _ in billing.messages:
                    raise AssertionError("nothing was published")
    await ada.go(f"{PLACE}/connections?tenant=globex")
    await ada.go(f"{PLACE}/connections?find=gw-")
    await ada.go(f"{PLACE}/connections/kick", kick)
    assert ada.status == 404 and "not connected" in ada.text
    assert ("ada", "globex", "billing") in await log_of(site, "connection.kick")


async def test_rates_come_with_the_second_look(ada: Browser, site: OperatedSite) -> None:
    async with site.client("acme", "talker", "ADDRESS_SENDER") as talker:
        rows = f"{PLACE}/connections?rows=1&tenant=acme"
        await ada.go(rows)
        assert "<html" not in ada.text and 'data-key="acme token talker"' in ada.text and "…" in ada.text
        async with asyncio.timeout(PATIENCE_S):
            while not re.search(r'data-label="In, msg/s" class="number">[1-9][0-9.]*<', ada.text):
                for number in range(20):
                    await talker.publish("acme/address/free", str(number), qos=1)
                await asyncio.sleep(0.2)
                await ada.go(rows)


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_topics_in_use_are_listed(ada: Browser, site: OperatedSite) -> None:
    async with site.client("globex", "talker", "ADDRESS_SENDER") as talker:
        await talker.publish("globex/address/news", b"x", qos=1, retain=True)
        await talker.publish("globex/address/<b>", b"x", qos=1)
    await ada.go(f"{PLACE}/topics?tenant=globex")
    assert "globex/address/news" in ada.text and "globex/address/&lt;b&gt;" in ada.text and "acme/" not in ada.text
    row = ada.text[ada.text.index('data-key="globex/address/news"') :]
    assert re.search(r'data-label="Messages" class="number">1<', row) and 'data-label="Retained">yes' in row
    await ada.go(f"{PLACE}/topics?tenant=globex&find=nothing-like-it")
    assert "No topic fits" in ada.text


async def test_many_topics_have_several_pages_in_the_order_that_is_chosen(ada: Browser, site: OperatedSite) -> None:
    async with site.client("acme", "talker", "ADDRESS_SENDER") as talker:
        for number in range(150):
            await talker.publish(f"acme/address/many-{number:03}", b"x", qos=1)
        await talker.publish("acme/address/many-149", b"x", qos=1)

    async def shown(query: str) -> list[str]:
        await ada.go(f"{PLACE}/topics?tenant=acme&find=many-&{query}")
        return re.findall(r'data-key="acme/address/many-(\d+)"', ada.text)

    assert await shown("") == [f"{number:03}" for number in range(100)]
    assert 'aria-sort="ascending"' in ada.text and "1 of 2" in ada.text and "sort=topic&amp;page=2" in ada.text
    assert await shown("rows=1&page=2") == await shown("page=99") == [f"{number:03}" for number in range(100, 150)]
    assert (await shown("sort=messages"))[0] == "149" and (await shown("sort=unheard-of"))[0] == "000"


# --- the client in a page ---------------------------------------------------------------------------------------------


async def test_the_page_may_open_its_one_websocket_and_nothing_else(ada: Browser, site: OperatedSite) -> None:
    await ada.go(f"{PLACE}/client?tenant=acme")
    policy = ada.headers["Content-Security-Policy"]
    assert f"connect-src 'self' {site.websocket};" in policy and policy.count("ws") == 1
    await ada.go(f"{PLACE}/client?tenant=acme&at=ws://elsewhere.example:80")
    assert ada.headers["Content-Security-Policy"] == policy, "only what the broker or the account names"
    await ada.go(f"{PLACE}/topics?tenant=acme")
    assert "ws" not in ada.headers["Content-Security-Policy"].replace("'self'", "")
    messaging = site.gateway.messaging
    await asyncio.to_thread(messaging.add_endpoint, "acme", Scheme.WSS, "mqtt.example.com", 443, secure=True)
    at = "wss://mqtt.example.com:443"
    await ada.go(f"{PLACE}/client?tenant=acme&at={at}")
    assert f"connect-src 'self' {at};" in ada.headers["Content-Security-Policy"] and f'data-url="{at}/mqtt"' in ada.text
    (endpoint,) = (await asyncio.to_thread(messaging.picture)).endpoints_of("acme")
    await asyncio.to_thread(messaging.remove_endpoint, endpoint.id, confirmed=True)


async def test_a_token_is_for_one_role_short_lived_and_written_down(ada: Browser, site: OperatedSite) -> None:
    await ada.go(f"{PLACE}/client?tenant=acme")
    page = ada.text
    assert "may hold" not in page and "GATEWAY" not in page and "eyJ" not in page
    await ada.go(f"{PLACE}/client/token", {"tenant": "acme", "role": "BUBBLE_UP_READ_CONSUMER"})
    made = json.loads(ada.text)
    principal = site.site.signing_keys().public().verify(made["token"], now=made["expiresAt"] - 1)
    assert (principal.tenant.value, principal.roles, principal.scopes) == (
        "acme",
        frozenset({"BUBBLE_UP_READ_CONSUMER"}),
        frozenset(),
    )
    assert principal.expires_at is not None and principal.expires_at - made["expiresAt"] < 1
    assert ("ada", "acme", made["clientId"]) in await log_of(site, "token.issue")
    for wrong, status in (
        ({"tenant": "acme", "role": "ADMIN"}, 422),
        ({"tenant": "acme", "role": "GATEWAY"}, 422),
        ({"tenant": "nobody", "role": "BUBBLE_UP_READ_CONSUMER"}, 404),
        ({"tenant": "acme", "role": "BUBBLE_UP_READ_CONSUMER", "form_token": "x"}, 403),
    ):
        await ada.go(f"{PLACE}/client?tenant=acme")
        await ada.go(f"{PLACE}/client/token", wrong)
        assert ada.status == status and "eyJ" not in ada.text, wrong


# --- tenants ----------------------------------------------------------------------------------------------------------


async def test_a_tenants_user_has_its_own_part_and_no_more(tina: Browser, site: OperatedSite) -> None:
    async with (
        site.client("acme", "own-client", "ADDRESS_SENDER") as own,
        site.client("globex", "foreign-client", "ADDRESS_SENDER") as foreign,
    ):
        await own.publish("acme/address/mine", b"1", qos=1)
        await foreign.publish("globex/address/theirs", b"1", qos=1)
        for part in ("", "/addresses", "/connections", "/topics", "/client"):
            await tina.go(f"{PLACE}{part}")
            assert tina.status == 200 and "globex" not in tina.text and "foreign" not in tina.text, part
            assert "ssni" not in tina.text and "gw-" not in tina.text, part
            if part:
                await tina.go(f"{PLACE}{part}?tenant=globex")
                assert tina.status == 404 and "globex" not in tina.text, part
        await tina.go(f"{PLACE}/connections")
        assert "own-client" in tina.text
        assert (await tina.go(f"{PLACE}/address?tenant=globex&name=secret-plans")).status == 404
        for path, fields in (
            ("/connections/kick", {"tenant": "globex", "client": "foreign-client", "login": "token"}),
            ("/connections/kick", {"tenant": "", "client": "foreign-client", "login": "token"}),
            ("/connections/kick", {"tenant": "acme", "client": "foreign-client", "login": "token"}),
            ("/client/token", {"tenant": "globex", "role": "BUBBLE_UP_READ_CONSUMER"}),
            ("/addresses", {"tenant": "globex", "name": "x", "type": "queue"}),
            ("/address", {"tenant": "globex", "name": "secret-plans", "max_messages": "1"}),
            ("/address/remove", {"tenant": "globex", "name": "secret-plans"}),
        ):
            await tina.go(f"{PLACE}/connections")
            await tina.go(f"{PLACE}{path}", fields)
            assert tina.status == 404 and "globex" not in tina.text, path
        for path in ("/accounts/acme", "/accounts/globex"):
            assert (await tina.go(f"{PLACE}{path}")).status == 404
        await tina.go(f"{PLACE}/connections")
        await tina.go(f"{PLACE}/connections/kick", {"tenant": "acme", "client": "own-client", "login": "token"})
        assert tina.status == 200 and "was ended" in tina.text
        await foreign.publish("globex/address/theirs", b"2", qos=1)
    assert ("user-acme", "acme", "own-client") in await log_of(site, "connection.kick")
    assert {tenant for by, tenant, _ in await log_of(site, "connection.kick") if by == "user-acme"} == {"acme"}


async def test_a_tenants_user_makes_addresses_of_its_own(tina: Browser) -> None:
    await tina.go(f"{PLACE}/addresses")
    await tina.go(f"{PLACE}/addresses", {"tenant": "acme", "name": "tinas", "type": "multicast"})
    assert tina.status == 200 and "multicast" in tina.text and tina.hops[-1].endswith("name=tinas")
    await tina.go(f"{PLACE}/address/remove", {"tenant": "acme", "name": "tinas"})
    assert tina.status == 200 and "tinas" not in tina.text
