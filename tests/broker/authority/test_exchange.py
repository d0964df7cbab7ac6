"""`POST /exchange`: what is denied before Mosquitto is asked."""

import json
from typing import Any

import pytest

from broker.adapters.mosquitto.tokens import ExchangedUser
from broker.authority.exchange import DENY, Exchange
from broker.authority.http import Request
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal

TOKEN = "token:acme:BUBBLE_UP_READ_CONSUMER:2000.5"


class MadeUpTokens:
    """Gives users without a broker."""

    async def exchange(self, principal: Principal, client_id: str) -> ExchangedUser:
        name = f"{principal.tenant}:{client_id}"
        return ExchangedUser(name, "password", name, principal.expires_at or 0.0)


@pytest.fixture
def exchange(bench: Any) -> Exchange:
    return Exchange(bench.admissions._logins, MadeUpTokens())  # type: ignore[arg-type]


async def test_a_token_gives_a_user(exchange: Exchange) -> None:
    response = await exchange.answer(
        Request("POST", "/exchange", {}, json.dumps({"token": TOKEN, "clientId": "app"}).encode())
    )
    assert (response.status, json.loads(response.body)) == (
        200,
        {"username": "acme:app", "password": "password", "clientId": "acme:app", "expiresAt": 2000},
    )


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GET", {"token": TOKEN, "clientId": "app"}),
        ("POST", {"clientId": "app"}),
        ("POST", {"token": "", "clientId": "app"}),
        ("POST", {"token": "no token", "clientId": "app"}),
        ("POST", {"token": ["x"], "clientId": "app"}),
    ],
)
async def test_all_else_is_denied(exchange: Exchange, method: str, fields: dict[str, object]) -> None:
    assert await exchange.answer(Request(method, "/exchange", {}, json.dumps(fields).encode())) == DENY


async def test_a_password_is_not_exchanged(bench: Any) -> None:
    class Remembered:
        """Every password was found right a moment ago."""

        def at_once(self, username: str | None, password: bytes | None) -> Principal:
            return Principal("gateway", INTERNAL_TENANT, frozenset(("GATEWAY",)), LoginKind.PASSWORD)

    exchange = Exchange(Remembered(), MadeUpTokens())  # type: ignore[arg-type]
    body = json.dumps({"token": "gw", "clientId": "app"}).encode()
    assert await exchange.answer(Request("POST", "/exchange", {}, body)) == DENY
