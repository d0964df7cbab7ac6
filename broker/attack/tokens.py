"""Attacks with tokens that must not hold, and with tokens that hold and claim what they may not have."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Final

from broker.attack.arena import MAC, Arena, new_id, new_secret
from broker.attack.proof import Findings
from meshwire.tokens import SigningKeys

__all__ = [
    "claimed_roles",
    "expired_tokens",
    "forged_keys",
    "forged_tenants",
    "public_key_as_secret",
    "unsigned_tokens",
]

JsonObject = dict[str, object]
ODD_ROLES: Final = (
    "admin",
    "Admin",
    "ADMIN",
    " ADMIN",
    "ADMIN\0",
    "GATEWAY",
    "gateway",
    "BUBBLE_UP_READ_CONSUMER_ALL",
    "bubble_up_read_consumer_all",
    "BUBBLE_UP_ALERT_CONSUMER_ALL",
    "*",
    "#",
    "{tenantId}",
)


def part(value: JsonObject | bytes) -> str:
    """One part of a compact token."""
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def opened(text: str) -> JsonObject:
    """A part as it was before."""
    value: object = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value if isinstance(value, dict) else {}


async def try_logins(arena: Arena, found: Findings, tokens: Iterator[tuple[str, str]]) -> None:
    """Each token must be refused."""
    for what, token in tokens:
        found.tries += 1
        login = await arena.target.show_token(token, new_id())
        if login is not None and await arena.is_let_in(login):
            found.breach(f"{what} was accepted")
        else:
            found.reaction("refused")


def genuine(arena: Arena, found: Findings) -> tuple[JsonObject, JsonObject, str] | None:
    """Header, claims and text of A's valid token, with B in the place of A."""
    token = arena.target.token
    if token is None:
        found.skipped = "needs a valid token of A"
        return None
    header, claims = opened(token.split(".")[0]), opened(token.split(".")[1])
    return header, claims | {"sub": arena.b, "exp": int(time.time()) + 600}, token


async def unsigned_tokens(arena: Arena, found: Findings) -> None:
    """`none` in all cases, the signature taken away, empty or of another token."""
    if (real := genuine(arena, found)) is None:
        return
    header, claims, token = real

    def forged() -> Iterator[tuple[str, str]]:
        for name in ("none", "None", "NONE", "nOnE", ""):
            yield f"alg {name!r}", f"{part(header | {'alg': name})}.{part(claims)}."
        yield "no alg", f"{part({'typ': 'JWT'})}.{part(claims)}."
        yield "an empty signature", f"{part(header)}.{part(claims)}."
        yield "another token's signature", f"{part(header)}.{part(claims)}.{token.split('.')[2]}"
        yield "a signature of zeros", f"{part(header)}.{part(claims)}.{part(bytes(64))}"
        yield "two parts", f"{part(header)}.{part(claims)}"

    await try_logins(arena, found, forged())


async def public_key_as_secret(arena: Arena, found: Findings) -> None:
    """HS256, HS384, HS512 with the published public key as the secret, in each form in which it may lie about."""
    real = genuine(arena, found)
    if real is None:
        return
    if arena.target.jwks is None:
        found.skipped = "needs the public key set (--jwks)"
        return
    header, claims, _ = real
    jwks = arena.target.jwks

    def forged() -> Iterator[tuple[str, str]]:
        for secret in secrets_of(jwks):
            for name, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
                text = f"{part(header | {'alg': name})}.{part(claims)}"
                yield f"{name} with the public key", f"{text}.{part(hmac.digest(secret, text.encode(), digest))}"

    await try_logins(arena, found, forged())


def secrets_of(jwks: str) -> Iterator[bytes]:
    """The octets, the texts and the JSON of every key."""
    yield jwks.encode()
    keys = json.loads(jwks).get("keys", [])
    for key in keys:
        yield json.dumps(key).encode()
        yield json.dumps(key, separators=(",", ":")).encode()
        for name in ("x", "n", "y", "kid"):
            if isinstance(key.get(name), str):
                yield key[name].encode()
                yield base64.urlsafe_b64decode(key[name] + "=" * (-len(key[name]) % 4))
    yield b""


async def forged_keys(arena: Arena, found: Findings) -> None:
    """A key of A's own under the site's `kid`, under none, under a path, and carried along in the header."""
    if (real := genuine(arena, found)) is None:
        return
    header, claims, _ = real
    mine = SigningKeys.generate()
    jwk = next(iter(mine.public().to_jwks()["keys"]))  # type: ignore[call-overload]

    def signed(head: JsonObject) -> str:
        text = f"{part({'alg': 'EdDSA', 'typ': 'JWT'} | head)}.{part(claims)}"
        return f"{text}.{part(mine.key.sign(text.encode()))}"

    def forged() -> Iterator[tuple[str, str]]:
        yield "an own key under the site's kid", signed({"kid": header.get("kid")})
        yield "an own key under its own kid", signed({"kid": mine.kid})
        yield "no kid", signed({})
        for kid in ("../../../../dev/null", "/dev/null", "' OR 1=1 --", "", 0, None, ["x"], {"x": 1}, "\0"):
            yield f"kid {kid!r}", signed({"kid": kid})
        yield "a key in the header", signed({"jwk": jwk, "kid": mine.kid})
        yield "a key set's address", signed({"jku": "http://127.0.0.1:9/jwks.json", "kid": mine.kid})
        yield "a certificate in the header", signed({"x5c": ["AA=="], "x5u": "http://127.0.0.1:9/", "kid": mine.kid})
        yield "crit", signed({"kid": header.get("kid"), "crit": ["exp"]})

    await try_logins(arena, found, forged())


async def expired_tokens(arena: Arena, found: Findings) -> None:
    """Tokens of the site that have ended."""
    issue = arena.target.issue
    if issue is None:
        found.skipped = "needs the site's signing key"
        return
    ended = [(f"a token that ended {age} s ago", issue(arena.a, (), -float(age))) for age in (1, 60, 86_400)]
    await try_logins(arena, found, iter(ended))


async def forged_tenants(arena: Arena, found: Findings) -> None:
    """Tokens whose tenant is a wildcard or a path, signed by the site as if its token service had been fooled."""
    if arena.target.issue is None:
        found.skipped = "needs the site's signing key"
        return
    for name in ("+", "#", f"{arena.a}/../{arena.b}", f"{arena.b}/#", f"{arena.b}\0", "", "*", f"{arena.b}.", "$SYS"):
        token = arena.target.issue(name, ("BUBBLE_UP_READ_CONSUMER",), 600.0)
        await overhear_with(arena, found, token, f"tenant {name!r} in a token")


async def claimed_roles(arena: Arena, found: Findings) -> None:
    """A valid token of A that names roles of others: those for password users alone, and odd spellings."""
    if arena.target.issue is None:
        found.skipped = "needs the site's signing key"
        return
    for role in ODD_ROLES:
        await overhear_with(arena, found, arena.target.issue(arena.a, (role,), 600.0), f"role {role!r} in a token")


async def overhear_with(arena: Arena, found: Findings, token: str, what: str) -> None:
    """The token may log in or not; it must not hear B."""
    found.tries += 1
    target, secret = arena.target, new_secret()
    login = await target.show_token(token, new_id())
    if login is None or not await arena.is_let_in(login):
        found.reaction("refused")
        return
    for text in ("#", "+/read/#", f"{arena.b}/read/{MAC}/temp"):
        async with arena.open(target.attacker) as ear:
            answer = await arena.greet(ear, login)
            if answer is None or answer.reason_code != 0 or await arena.subscribe(ear, text) is None:
                continue
            await arena.bait(secret)
            await ear.drain(target.grace_s / 2)
            if ear.has_heard(secret):
                found.breach(f"{what} hears {text}")
    found.reaction("let in, hearing nothing")


def sign_claims(keys: SigningKeys, tenant: str, roles: tuple[str, ...], life_s: float, now: float) -> str:
    """A token with the site's own signature for any text as tenant, as no honest token service would make it."""
    claims: JsonObject = {"iss": "/data", "sub": tenant, "scope": "api", "jti": "attack", "mqttScope": list(roles)}
    claims |= {"iat": int(min(now, now + life_s)), "exp": int(now + life_s)}
    text = f"{part({'alg': 'EdDSA', 'typ': 'JWT', 'kid': keys.kid})}.{part(claims)}"
    return f"{text}.{part(keys.key.sign(text.encode()))}"
