"""`/api/console-users`: who may sign in at the console, made, given a new password and removed by administrators."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import Answer, call

from gateway.api import create_app
from gateway.console.visitors import Visitors
from gateway.credentials import Credentials
from gateway.registry import Registry
from meshwire.identity import TenantId
from meshwire.site import Site

PLACE = "/api/console-users"


class Office:
    def __init__(self, folder: Path) -> None:
        self.registry = Registry(None)
        self.visitors = Visitors(self.registry, Credentials(self.registry))
        self._keys = Site(folder).signing_keys()
        self._app = create_app(self.registry, self._keys, Credentials(self.registry), dict)

    async def ask(self, method: str, path: str = "", body: Any = b"") -> Answer:
        token = self._keys.issue(TenantId("ssni"), (), now=time.time(), scope="api admin", client="cli:ada")
        return await call(self._app, method, PLACE + path, body, {"authorization": token})

    async def sign_in(self, name: str, password: str) -> str | None:
        return await self.visitors.sign_in(name, password, "here", 0.0)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


async def test_people_are_made_and_sign_in_as_what_they_are(office: Office) -> None:
    made = await office.ask("POST", body={"name": "tina", "tenant": "acme"})
    assert (made.status, made.json["tenant"]) == (201, "acme")
    tina = await office.visitors.visitor(await office.sign_in("tina", made.json["password"]), 0.0)
    assert tina is not None and tina.tenant == TenantId("acme") and not tina.is_admin
    chosen = await office.ask("POST", body={"name": "ada", "password": "correct horse"})
    assert chosen.status == 201 and chosen.json["password"] is None, "who has chosen it knows it"
    ada = await office.visitors.visitor(await office.sign_in("ada", "correct horse"), 0.0)
    assert ada is not None and ada.is_admin
    listed = (await office.ask("GET")).json["users"]
    assert [(each["name"], each["tenant"]) for each in listed] == [("ada", None), ("tina", "acme")]
    assert [each["name"] for each in (await office.ask("GET", "?tenant=acme")).json["users"]] == ["tina"]
    assert "horse" not in json.dumps([line.detail for line in office.registry.audit.entries()])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"name": "tina", "tenant": "acme"}, 409, "exists"),
        ({"name": "a/b"}, 422, "no /"),
        ({"name": " x"}, 422, "printable"),
        ({"name": "x" * 65}, 422, "printable"),
        ({"name": "x", "password": "short"}, 422, "at least 10"),
        ({"name": "x", "password": "x" * 1025}, 422, "at most 1024"),
        ({"name": "x", "tenant": "a b"}, 422, "tenant id"),
    ],
)
async def test_what_does_not_fit_is_refused(office: Office, body: Any, status: int, words: str) -> None:
    await office.ask("POST", body={"name": "tina", "tenant": "acme"})
    answer = await office.ask("POST", body=body)
    assert answer.status == status and words in answer.json["detail"]
    assert office.registry.accounts("console") == ["tina"]


async def test_a_new_password_ends_what_was_open(office: Office) -> None:
    first = (await office.ask("POST", body={"name": "tina", "tenant": "acme"})).json["password"]
    session = await office.sign_in("tina", first)
    renewed = await office.ask("POST", "/tina/password", {})
    assert renewed.status == 200 and renewed.json["password"] != first
    assert await office.visitors.visitor(session, 0.0) is None and await office.sign_in("tina", first) is None
    session = await office.sign_in("tina", renewed.json["password"])
    assert await office.visitors.is_signed_in(session)
    assert (await office.ask("DELETE", "/tina")).status == 204
    assert await office.visitors.visitor(session, 0.0) is None
    for method, path in (("DELETE", "/tina"), ("GET", "/tina"), ("POST", "/tina/password")):
        assert (await office.ask(method, path, {})).status == 404
