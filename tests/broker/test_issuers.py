"""OpenID Connect: a stub on the loopback that serves discovery and keys, and tokens by which clients log in."""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from pydantic import ValidationError

from broker.claims import roles_of, tenant_of
from broker.discovery import discovery_url, jwks_url
from broker.issuers import Issuer, IssuerSettings
from broker.policy import BUILT_IN_ROLES
from broker.settings import BrokerSettings
from meshwire.config import load_config, read_settings
from meshwire.identity import TenantId
from meshwire.mqtt import Connect, ProtocolVersion, ReasonCode, SubAck, Subscribe, TopicSubscription
from meshwire.tokens import TokenError

KEYCLOAK = Path(__file__).parents[2] / "deploy/keycloak"
PATH = "/realms/meshwire"


class Provider:
    """Signs tokens, and answers two GETs."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.asked: list[str] = []
        self.moved: dict[str, str] = {}
        """From a path to where it redirects."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{PATH}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                body = json.dumps(provider.documents().get(self.path, {})).encode()
                target = provider.moved.get(self.path)
                self.send_response(200 if target is None else 302)
                if target is not None:
                    self.send_header("Location", target)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on stderr."""

        return Handler

    def documents(self) -> dict[str, object]:
        jwk = {**json.loads(ECAlgorithm.to_jwk(self.key.public_key())), "kid": "k1", "alg": "ES256", "use": "sig"}
        return {
            f"{PATH}/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/certs"},
            f"{PATH}/certs": {"keys": [jwk]},
        }

    def token(self, **changes: object) -> bytes:
        claims = {
            "iss": self.issuer,
            "aud": ["meshwire", "account"],
            "sub": "5f0c",
            "tenant": "acme",
            "realm_access": {"roles": ["receiver", "offline_access", "ADMIN"]},
            "exp": time.time() + 600,
            **changes,
        }
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": "k1"}).encode()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


async def test_a_token_of_a_discovered_provider_is_a_login(start: Any, dial: Any, provider: Provider) -> None:
    """With the configuration that is shipped for Keycloak, at another address."""
    shipped = load_config(KEYCLOAK / "meshwire.toml", {})["broker"]["issuer"][0]  # type: ignore[index]
    running = await start(issuer=(IssuerSettings(**{**shipped, "issuer": provider.issuer}),))

    async def login(token: bytes) -> tuple[Any, int]:
        client = await dial(running)
        connect = Connect("c", ProtocolVersion.V5, username="notused", password=token)
        answer = await client.ask(connect)
        return client, answer.reason_code

    client, code = await login(provider.token())
    assert code == 0
    wanted = ("acme/address/orders", "globex/address/orders", "acme/read/#", "#")
    answer = await client.ask(Subscribe(1, tuple(TopicSubscription(text, 1) for text in wanted)))
    assert isinstance(answer, SubAck)
    refused = ReasonCode.NOT_AUTHORIZED
    assert answer.reason_codes == (1, refused, refused, refused), "the role that the map gives, and no other"
    assert provider.asked == [f"{PATH}/.well-known/openid-configuration", f"{PATH}/certs"], "once, for all logins"
    for changes in ({"aud": "other"}, {"exp": time.time() - 1}, {"tenant": ""}, {"tenant": ["acme", "globex"]}):
        assert (await login(provider.token(**changes)))[1] == ReasonCode.BAD_USER_NAME_OR_PASSWORD


@pytest.mark.parametrize("document", ["/.well-known/openid-configuration", "/certs"])
async def test_a_redirect_is_not_followed(provider: Provider, document: str) -> None:
    """Whoever the provider names would be asked from inside this site, and could sign tokens."""
    provider.moved = {PATH + document: f"http://127.0.0.1:{provider.server.server_port}/internal"}
    with ThreadPoolExecutor(1) as pool, structlog.testing.capture_logs() as lines:
        issuer = Issuer(IssuerSettings(issuer=provider.issuer, tenant_claim="tenant"), pool)
        await issuer.refresh()
        with pytest.raises(TokenError, match="unknown key"):
            issuer.verify(provider.token().decode(), now=time.time())
    assert "/internal" not in provider.asked
    (line,) = lines
    assert "302, a redirect to" in line["error"] and "not followed" in line["error"]


ANSWERS: list[tuple[object, str]] = [
    ({"issuer": "https://id.example/", "jwks_uri": "https://id.example/keys"}, "another issuer"),
    ({"issuer": "https://id.example", "jwks_uri": "http://id.example/keys"}, "not https"),
    ({"issuer": "https://id.example"}, "not https"),
    (["https://id.example"], "another issuer"),
]


@pytest.mark.parametrize(("document", "words"), ANSWERS)
def test_what_a_provider_may_not_say_of_itself(document: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        jwks_url("https://id.example", lambda _url: json.dumps(document).encode())


def test_where_a_provider_is_asked() -> None:
    assert (
        discovery_url("https://id.example/realms/a/") == "https://id.example/realms/a/.well-known/openid-configuration"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"issuer": "http://id.example"},
        {"issuer": "my-realm"},
        {"issuer": "https://id.example", "jwks_url": "https://a/b", "jwks_file": "x"},
    ],
)
def test_an_issuer_without_a_safe_source_of_keys_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IssuerSettings.model_validate(fields)


NONE: Mapping[str, str] = {}
TENANTS = [
    # claims, path, map, tenant (None: refused)
    ({"sub": "acme"}, "sub", NONE, "acme"),
    ({"org": {"id": "acme"}}, "org.id", NONE, "acme"),
    ({"https://id.example/tenant": "acme"}, "https://id.example/tenant", NONE, "acme"),
    ({"groups": ["acme"]}, "groups", NONE, "acme"),
    ({"organization": {"acme": {"id": "77"}}}, "organization", NONE, "acme"),
    ({"groups": ["acme", "globex"]}, "groups", NONE, None),
    ({"sub": "two words"}, "sub", NONE, None),
    ({"sub": "Riverside Water"}, "sub", {"Riverside Water": "riverside"}, "riverside"),
    ({"sub": "acme"}, "sub", {"Riverside Water": "riverside"}, None),
    ({"sub": 7}, "sub", NONE, None),
    ({}, "a.b", NONE, None),
]


@pytest.mark.parametrize(("claims", "path", "translate", "tenant"), TENANTS)
def test_the_tenant_of_claims(
    claims: dict[str, object], path: str, translate: Mapping[str, str], tenant: str | None
) -> None:
    if tenant is None:
        with pytest.raises(TokenError):
            tenant_of(claims, path, translate)
    else:
        assert tenant_of(claims, path, translate).value == tenant


ROLES = [
    # claims, paths, map, roles
    ({"mqttScope": "A B"}, ("mqttScope",), {}, {"A", "B"}),
    ({"realm_access": {"roles": ["A", 7]}}, ("realm_access.roles",), {}, {"A"}),
    ({"a": ["A"], "b": "B"}, ("a", "b", "c"), {}, {"A", "B"}),
    ({"a": ["reader", "ADMIN"]}, ("a",), {"reader": ("A", "B")}, {"A", "B"}),
    ({"a": None}, ("a",), {}, set()),
]


@pytest.mark.parametrize(("claims", "paths", "translate", "roles"), ROLES)
def test_the_roles_of_claims(
    claims: dict[str, object], paths: tuple[str, ...], translate: dict[str, tuple[str, ...]], roles: set[str]
) -> None:
    assert roles_of(claims, paths, translate) == roles


def test_the_realm_and_its_configuration_fit() -> None:
    realm = json.loads((KEYCLOAK / "realm-meshwire.json").read_text())
    settings = read_settings(BrokerSettings, "broker", load_config(KEYCLOAK / "meshwire.toml", {})).issuer[0]
    assert {role["name"] for role in realm["roles"]["realm"]} == set(settings.roles_map)
    for roles in settings.roles_map.values():
        assert all(not BUILT_IN_ROLES[role].password_only for role in roles)
    (scope,) = realm["clientScopes"]
    mappers = {mapper["name"]: mapper["config"] for mapper in scope["protocolMappers"]}
    assert mappers["tenant"]["claim.name"] == settings.tenant_claim
    assert (mappers["realm roles"]["claim.name"],) == settings.roles_claims
    assert mappers["audience"]["included.custom.audience"] == settings.audience
    assert all(client["defaultClientScopes"] == [scope["name"]] for client in realm["clients"])
    assert "secret" not in {key for client in realm["clients"] for key in client}


def test_a_user_of_the_realm_can_have_a_tenant_and_can_not_change_it() -> None:
    """Keycloak drops attributes that the user profile does not name; users edit those that they may."""
    realm = json.loads((KEYCLOAK / "realm-meshwire.json").read_text())
    (provider,) = realm["components"]["org.keycloak.userprofile.UserProfileProvider"]
    (text,) = provider["config"]["kc.user.profile.config"]
    profile = json.loads(text)
    attributes = {each["name"]: each for each in profile["attributes"]}
    (scope,) = realm["clientScopes"]
    (mapper,) = (each["config"] for each in scope["protocolMappers"] if each["name"] == "tenant")
    tenant = attributes[mapper["user.attribute"]]
    assert tenant["permissions"] == {"view": ["admin", "user"], "edit": ["admin"]}
    pattern = tenant["validations"]["pattern"]["pattern"]
    assert re.match(pattern, TenantId("acme-1").value) and not re.match(pattern, "a b")
    assert "unmanagedAttributePolicy" not in profile, "nothing else is kept, nor edited"
    assert not any("required" in each for each in attributes.values()), "a login by password may not ask for more"
