"""The pages of the broker's own affairs at another maker's broker: what it can, it does; what it can't, it says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from console_browser import PASSWORD, Browser, set_up
from rabbit_management import Management, managing

from gateway.console.visitors import Visitors
from gateway.credentials import Credentials
from gateway.gateway import Gateway
from gateway.registry.audit import AuditLog
from gateway.settings import OperationsSettings
from meshwire.identity import TenantId
from meshwire.site import Site

PLACE = "/console/messaging"


@pytest.fixture
def management() -> Iterator[Management]:
    with managing() as server:
        yield server


@pytest.fixture
async def gateway(
    site: Site, settings_for: Any, running: Any, management: Management, tmp_path: Path
) -> AsyncIterator[Gateway]:
    password = tmp_path / "password"
    password.write_text("secret\n")
    operations = OperationsSettings(
        engine="rabbitmq", username="op", password_file=password, url=f"http://127.0.0.1:{management.server_port}"
    )
    async with running(Gateway(settings_for(http="127.0.0.1:0", operations=operations), site)) as gateway:
        yield gateway


@pytest.fixture
async def ada(gateway: Gateway) -> Browser:
    return await set_up(Browser(gateway.http_port))


async def test_an_administrator_sees_rabbitmqs_connections_and_ends_one(
    ada: Browser, gateway: Gateway, management: Management
) -> None:
    await ada.go(f"{PLACE}/connections")
    assert ada.status == 200 and "meter-7" in ada.text and "encrypted by TLS, with a client certificate" in ada.text
    assert "does not tell whose tenant a connection is" in ada.text and "secret" not in ada.text
    login = re.search(r'name="login" value="([^"]*40000[^"]*)"', ada.text)
    assert login is not None
    name = "127.0.0.1:40000 -> 127.0.0.1:1883"
    await ada.go(f"{PLACE}/connections/kick", {"tenant": "", "client": "meter-7", "login": name})
    assert ada.status == 200 and "was ended" in ada.text and len(management.deleted) == 1
    await asyncio.to_thread(gateway.registry.audit.save)
    log = await asyncio.to_thread(AuditLog(gateway.registry.database).entries, action="connection.kick")
    assert [(entry.by, entry.subject) for entry in log] == [("ada", "meter-7")]


async def test_what_rabbitmq_does_not_tell_is_said_plainly(ada: Browser) -> None:
    for part, words in (
        ("topics", "Rabbitmq does not tell which topics are in use"),
        ("addresses", "Rabbitmq has no typed addresses of its own"),
        ("connections?tenant=acme", "Rabbitmq does not tell whose tenant a connection is"),
    ):
        await ada.go(f"{PLACE}/{part}")
        assert ada.status == 200 and words in ada.text and 'role="alert"' in ada.text, part


async def test_a_tenants_user_sees_nobodys_connections(gateway: Gateway, ada: Browser) -> None:
    registry = gateway.registry
    await Visitors(registry, Credentials(registry)).add_tenant_user("tina", PASSWORD, TenantId("acme"))
    tina = Browser(gateway.http_port)
    await tina.go("/console/sign-in", {"name": "tina", "password": PASSWORD, "next": f"{PLACE}/connections"})
    assert "does not tell whose tenant" in tina.text and "meter-7" not in tina.text


async def test_the_client_in_the_page_speaks_3_1_1_at_rabbitmqs_own_path(ada: Browser) -> None:
    await ada.go(f"{PLACE}/client?tenant=acme")
    assert 'data-url="ws://127.0.0.1:15675/ws"' in ada.text and 'data-level="4"' in ada.text
    assert "BUBBLE_UP_READ_CONSUMER" in ada.text and "data-subscribe" not in ada.text
    assert "connect-src 'self' ws://127.0.0.1:15675;" in ada.headers["Content-Security-Policy"]
