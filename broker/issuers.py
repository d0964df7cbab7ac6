"""Tokens of external identity providers, such as Keycloak: whose key sets are trusted, and which claims mean what.

Decides that a token holds and what it says. A key set behind a URL is fetched in a thread, kept, and fetched again when
it is old or a token names an unknown key, but never more often than once in `MIN_INTERVAL_S`: a flood of invented key
names costs the provider nothing. HS256 is accepted only for an issuer that has a shared secret and nothing else, so a
public key can never be taken for a secret.
"""

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, NoReturn, Self

import jwt
import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.claims import roles_of, tenant_of
from broker.discovery import SAFE_URL, jwks_url
from meshwire.identity import LoginKind, Principal
from meshwire.tokens import CLOCK_SKEW_S, TokenError, VerifyingKeys

__all__ = ["Issuer", "IssuerSettings", "issuer_of"]

MIN_INTERVAL_S: Final = 30.0
FETCH_TIMEOUT_S: Final = 5.0
MAX_KEY_SET_OCTETS: Final = 1_048_576
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
MIN_SECRET_OCTETS: Final = 32

_log = structlog.get_logger()


class IssuerSettings(BaseModel):
    """One identity provider, `[[broker.issuer]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1)
    """Must equal the token's `iss` claim. With none of the three sources of keys below it is asked for its key set:
    OpenID Connect Discovery, `ISSUER/.well-known/openid-configuration`.
    """
    jwks_url: str | None = Field(default=None, pattern=SAFE_URL)
    """Key set of the provider; https, or http on this machine."""
    jwks_file: Path | None = None
    hs256_secret_file: Path | None = None
    """Shared secret of at least 32 octets, for a provider that has no key pair."""
    audience: str | None = None
    """Must be among the token's `aud`; None: not looked at."""
    tenant_claim: str = "sub"
    """Path with dots, such as `organization.id`; a text, or a list of one."""
    tenant_map: dict[str, str] = Field(default_factory=dict)
    """From what the claim says to the tenant id; a word that is not in it is refused. Empty: it says the tenant id."""
    roles_claim: str | tuple[str, ...] = "mqttScope"
    """Path with dots, such as `realm_access.roles`, or several; a list, or names separated by blanks."""
    roles_map: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """From what the claim says to roles; a word that is not in it grants nothing. Empty: it says the roles."""
    refresh_s: float = Field(default=600.0, ge=MIN_INTERVAL_S)

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = sum(source is not None for source in (self.jwks_url, self.jwks_file, self.hs256_secret_file))
        if given > 1:
            raise ValueError("only one of jwks_url, jwks_file and hs256_secret_file may be set")
        if not given and re.match(SAFE_URL, self.issuer) is None:
            raise ValueError(
                "without a source of keys the issuer is asked: it must be an https URL, or http on this machine"
            )
        return self

    @property
    def roles_claims(self) -> tuple[str, ...]:
        return (self.roles_claim,) if isinstance(self.roles_claim, str) else self.roles_claim


class Issuer:
    """See the module.

    Args:
        settings: of this provider.
        executor: where key sets are fetched.
        clock: monotonic seconds.
        fetch: gets a URL's octets; blocks.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        executor: Executor,
        *,
        clock: Callable[[], float] = time.monotonic,
        fetch: "Callable[[str], bytes] | None" = None,
    ) -> None:
        self.settings = settings
        self._executor = executor
        self._clock = clock
        self._fetch = fetch or _fetch
        self.generation = 0
        """Rises whenever the keys were read."""
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._secret: bytes | None = None

    def wants_refresh(self, kid: object) -> bool:
        """Whether the key set has to be fetched before this token can be judged, and may be."""
        settings = self.settings
        if settings.hs256_secret_file is not None:
            return self._secret is None
        if self._fetched_at is None:
            return True
        age_s = self._clock() - self._fetched_at
        return age_s > settings.refresh_s or (kid not in self._keys and age_s > MIN_INTERVAL_S)

    @property
    def is_old(self) -> bool:
        """The key set was fetched once, longer ago than it is to be kept."""
        return self._fetched_at is not None and self._clock() - self._fetched_at > self.settings.refresh_s

    async def refresh(self) -> None:
        """Fetches the key set; a failure is logged and keeps the former keys."""
        loop = asyncio.get_running_loop()
        self._fetched_at = self._clock()  # before the first wait: nobody else fetches meanwhile
        try:
            await loop.run_in_executor(self._executor, self._load)
            self.generation += 1
        except (OSError, ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
            _log.warning("key set can't be read, the former keys stay", issuer=self.settings.issuer, error=str(error))

    def _load(self) -> None:
        settings = self.settings
        if settings.hs256_secret_file is not None:
            secret = settings.hs256_secret_file.read_bytes().strip()
            if len(secret) < MIN_SECRET_OCTETS:
                raise ValueError(f"the shared secret has fewer than {MIN_SECRET_OCTETS} octets")
            self._secret = secret
        elif settings.jwks_file is not None:
            self._keys = VerifyingKeys.load(settings.jwks_file).keys
        else:
            url = settings.jwks_url or jwks_url(settings.issuer, self._fetch)
            self._keys = VerifyingKeys.from_jwks(json.loads(self._fetch(url))).keys

    def verify(self, token: str, *, now: float) -> Principal:
        """The Principal a token stands for.

        Args:
            token: the compact JWT.
            now: Unix time in seconds.

        Raises:
            TokenError: with the reason.
        """
        key_id, claims = self._claims(token)
        settings = self.settings
        expires_at, not_before = _number(claims, "exp"), _number(claims, "nbf") or _number(claims, "iat")
        if expires_at is None or now >= expires_at:
            raise TokenError("token has expired" if expires_at is not None else "token has no exp claim")
        if not_before is not None and not_before > now + CLOCK_SKEW_S:
            raise TokenError("token is not valid yet")
        audience = claims.get("aud")
        if settings.audience is not None and settings.audience not in (
            audience if isinstance(audience, list) else [audience]
        ):
            raise TokenError("token is not for this audience")
        tenant = tenant_of(claims, settings.tenant_claim, settings.tenant_map)
        roles = roles_of(claims, settings.roles_claims, settings.roles_map)
        name = str(claims.get("jti", ""))
        return Principal(name, tenant, roles, LoginKind.TOKEN, expires_at, key_id=key_id, issuer=self.settings.issuer)

    def has_key(self, key_id: str) -> bool:
        """Whether the provider still names this key."""
        return key_id in self._keys

    def _claims(self, token: str) -> tuple[str | None, Mapping[str, object]]:
        """The key that signed, None for the shared secret, and what is said."""
        try:
            key: object
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if self.settings.hs256_secret_file is not None:
                accepted, key, kid = "HS256", self._secret, None
            else:
                found = self._keys.get(kid) if isinstance(kid, str) else None
                if found is None:
                    raise TokenError("token is signed by an unknown key")
                accepted, key = found.algorithm_name, found.key
                if accepted not in ALGORITHMS:
                    raise TokenError(f"algorithm {accepted!r} is not accepted")
            if key is None or algorithm != accepted:
                raise TokenError("algorithm does not fit the key")
            claims: Mapping[str, object] = jwt.decode(
                token,
                key=key,  # type: ignore[arg-type]
                algorithms=[accepted],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )
        except jwt.PyJWTError as error:
            raise TokenError(f"signature: {error}") from None
        if claims.get("iss") != self.settings.issuer:
            raise TokenError("token is of another issuer")
        return kid if isinstance(kid, str) else None, claims


def issuer_of(token: str) -> tuple[object, object]:
    """(`iss` claim, `kid`) of a token, unverified: to find who may verify it."""
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None, None
    return claims.get("iss"), header.get("kid")


class _StaysThere(urllib.request.HTTPRedirectHandler):
    """Asks nobody but whom the configuration names: a redirect could lead to any address that this machine reaches."""

    def redirect_request(self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str) -> NoReturn:
        raise ValueError(f"{code}, a redirect to {newurl}, which is not followed: set jwks_url to where the keys are")


_OPENER: Final = urllib.request.build_opener(_StaysThere)


def _fetch(url: str) -> bytes:
    with _OPENER.open(url, timeout=FETCH_TIMEOUT_S) as response:
        data = response.read(MAX_KEY_SET_OCTETS + 1)
    if not isinstance(data, bytes) or len(data) > MAX_KEY_SET_OCTETS:
        raise ValueError("key set is too long")
    return data


def _number(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
