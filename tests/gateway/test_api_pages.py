"""Lists in pages: every list has them, each page follows the one before, and nothing is missed or told twice."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgi_caller import call

from gateway.gateway import Gateway
from gateway.messaging.rules import Instance, Option, Scheme
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
WHOLE = {
    "/api/solutions/{solution}/devices": "as the vendor's clients know it",
    "/api/solutions/{solution}/devicetemplates": "as the vendor's clients know it; a tenant has a bounded number",
    "/api/tenants/systemTenant/devicetemplates": "as the vendor's clients know it",
    "/api/devices/export": "a file",
    "/api/solutions/{solution}/command-groups/{group}": "a group's own, a bounded number",
}
"""Lists that come whole, and why."""


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        messaging, registry = gateway.messaging, gateway.registry
        for name in ("b", "a", "c"):
            messaging.add_instance(Instance(name, "mosquitto", "", False, False, frozenset({Option.PLAIN})))
            messaging.add_account(TenantId(f"child-{name}"), parent="acme")
            messaging.add_endpoint("acme", Scheme.MQTT, f"{name}.example", 1883)
            registry.add_client(TenantId("acme"), [])
        yield gateway


@pytest.fixture
def headers(site: Site) -> dict[str, str]:
    token = site.signing_keys().issue(TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time(), scope="api admin")
    return {"authorization": token}


async def pages(gateway: Gateway, path: str, name: str, headers: dict[str, str], limit: int) -> list[list[Any]]:
    """Every page of a list, by the link to the next one."""
    found: list[list[Any]] = []
    following: str | None = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    while following is not None:
        answer = await call(gateway.http_app, "GET", following, b"", headers)
        assert answer.status == 200, answer.text
        found.append(answer.json[name] if name else answer.json)
        url = answer.headers.get("next_page")
        assert answer.headers.get("link") == (None if url is None else f'<{url}>; rel="next"')
        parts = urlsplit(url) if url else None
        following = f"{parts.path}?{parts.query}" if parts else None
    return found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/tenants", "tenants"),
        ("/api/clients", "clients"),
        ("/api/clients?tenant=acme", "clients"),
        ("/api/messaging/instances", "instances"),
        ("/api/accounts", "accounts"),
        ("/api/endpoints", "endpoints"),
        ("/api/accounts/acme/endpoints", "endpoints"),
        ("/api/devices", "devices"),
        ("/api/audit", "entries"),
        ("/api/packages", ""),
        ("/api/solutions/sandbox/commands", "commands"),
        (f"/api/solutions/sandbox/devices/{MAC}/commands", "commands"),
        (f"/api/solutions/sandbox/devices/{MAC}/commands?state=open", "commands"),
    ],
)
async def test_pages_follow_each_other(gateway: Gateway, headers: dict[str, str], path: str, name: str) -> None:
    for _ in range(4 if "/commands" in path else 0):
        order = {"method": "GET", "path": "x", "mode": "stored", "ttl": 600}
        where = f"/api/solutions/sandbox/devices/{MAC}/commands"
        assert (await call(gateway.http_app, "POST", where, order, headers)).status == 202
    whole = await pages(gateway, path, name, headers, 1000)
    assert len(whole) == 1 and (name == "" or len(whole[0]) > 1)
    for limit in (1, 2):
        parts = await pages(gateway, path, name, headers, limit)
        assert [item for part in parts for item in part] == whole[0]
        assert all(len(part) == limit for part in parts[:-1]) and len(parts[-1]) <= limit


async def test_a_page_goes_on_though_its_end_has_gone(gateway: Gateway, headers: dict[str, str]) -> None:
    for path, after, status in [
        ("/api/tenants", "b", 200),
        ("/api/accounts", "nobody", 422),
        ("/api/tenants", "x" * 500, 422),
        ("/api/solutions/sandbox/commands", "x", 422),
        ("/api/solutions/sandbox/commands", "nan", 422),
    ]:
        answer = await call(gateway.http_app, "GET", f"{path}?after={after}", b"", headers)
        assert answer.status == status, (path, after)


async def test_every_list_has_pages(gateway: Gateway, headers: dict[str, str]) -> None:
    """By the application's own document: whatever answers with an array takes `limit`."""
    document = (await call(gateway.http_app, "GET", "/api/openapi.json", b"", headers)).json
    schemas, lists = document["components"]["schemas"], 0
    for path, methods in document["paths"].items():
        operation = methods.get("get")
        if operation is None or path in WHOLE:
            continue
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        name = schema.get("$ref", "").rsplit("/", 1)[-1]
        members = schemas.get(name, {}).get("properties", {})
        is_list = schema.get("type") == "array" or [each["type"] for each in members.values() if "type" in each] == [
            "array"
        ]
        if is_list or re.search(r"(commands|observations)$", path):
            bounds = {each["name"]: each["schema"] for each in operation.get("parameters", [])}
            assert "limit" in bounds and bounds["limit"]["maximum"] <= 100_000, path
            lists += 1
    assert lists >= 14
