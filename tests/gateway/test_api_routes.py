"""Every route of the OpenAPI document: refused without a token, for administrators only where it says so, and never
failing inside, whatever is sent.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from gateway.api import create_app
from gateway.credentials import Credentials
from gateway.messaging.api import router as messaging_router
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from gateway.tools.local_api import _ask
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

OPEN = {
    ("post", "/api/tokens"),
    ("get", "/healthz/live"),
    ("get", "/healthz/ready"),
}
"""Routes that ask for no token."""
FOR_TENANTS = ("/api/solutions/", "/api/devices", "/api/audit", "/api/tenants/systemTenant/")
TEXTS = ["", "x", "0000000000000001", "main", "a b", "%", "😀", "\x00", "1" * 70, "-1", "null", "../x", "1e999", "'"]
VALUES = [*TEXTS, None, 0, -1, 2**70, 1.5, True, [], {}, ["x"], [1], {"x": "y"}, [{"mac": "1"}], "tls", ["tls"], "mqtt"]


class Api:
    def __init__(self, folder: Path) -> None:
        site = Site(folder)
        self.registry = Registry(None)
        self.registry.add_device(DeviceId("0000000000000001"), TenantId("acme"))
        self.keys = site.signing_keys()
        messaging = MessagingService(self.registry, site)
        nothing = {"bridge": {"enabled": False, "connected": False}}
        self.app = create_app(
            self.registry,
            self.keys,
            Credentials(self.registry),
            lambda: dict(nothing),
            more=(messaging_router(messaging),),
        )

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, methods in self.app.openapi()["paths"].items():
            if path == "/metrics":
                continue  # figures of a gateway that runs
            for method, operation in methods.items():
                yield method, path, operation

    def token(self, scope: str) -> str:
        return self.keys.issue(TenantId("acme"), (), now=time.time(), scope=scope)

    async def call(self, method: str, path: str, body: str = "", token: str = "") -> tuple[int, str]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        status, _, text = await _ask(self.app, method.upper(), path, body, headers)
        return status, text


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def filled(path: str, values: Iterator[str]) -> str:
    parts = path.split("/")
    return "/".join(quote(next(values), safe="") if part.startswith("{") else part for part in parts)


async def test_every_route_asks_for_a_token(api: Api) -> None:
    asked = 0
    for method, path, _ in api.operations():
        status, text = await api.call(method, filled(path, itertools.repeat("x")), "{}")
        if (method, path) in OPEN:
            assert status != 500, (method, path)
        else:
            assert status == 401 and "token" in json.loads(text)["detail"], (method, path, status)
            asked += 1
    assert asked > 40


async def test_what_is_not_a_tenant_s_business_needs_the_scope_admin(api: Api) -> None:
    for method, path, _ in api.operations():
        if (method, path) in OPEN:
            continue
        status, _ = await api.call(method, filled(path, itertools.repeat("x")), "{}", api.token("api"))
        is_tenants = path.startswith(FOR_TENANTS) and not path.endswith("/move")
        assert (status == 403) is not is_tenants, (method, path, status)


async def test_no_request_makes_a_route_fail_inside(api: Api) -> None:
    """A crawl with values that fit nowhere; 500 would be our fault."""
    chance = random.Random(7)
    token = api.token("api admin")
    asked = 0
    for method, path, operation in api.operations():
        if path == "/api/endpoints/{id}/check":
            continue  # would reach out to the network
        queries = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
        for _ in range(12):
            where = filled(path, iter(lambda: chance.choice(TEXTS[1:]), ""))
            if queries:
                where += "?" + urlencode({chance.choice(queries): chance.choice(TEXTS)})
            body = json.dumps(_body(api.app.openapi(), operation, chance)) if chance.random() < 0.9 else "{"
            status, text = await api.call(method, where, body, token)
            assert status < 500, (method, where, body, status, text)
            asked += 1
    assert asked > 400


def _body(document: dict[str, Any], operation: dict[str, Any], chance: random.Random) -> Any:
    """An object with the keys that the schema names, and values from the table."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    properties = document.get("components", {}).get("schemas", {}).get(name, {}).get("properties", {})
    if not properties or chance.random() < 0.2:
        return chance.choice(VALUES)
    return {key: chance.choice(VALUES) for key in properties if chance.random() < 0.8}
