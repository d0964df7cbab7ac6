"""Sign and verify the JWT that names a Principal (RFC 7519; EdDSA by RFC 8037; key sets by RFC 7517).

This file decides the claims and the accepted algorithms. The tenant is the `sub` claim, the roles are the
`mqttScope` claim (a list, or one string of names separated by blanks); a token without `mqttScope` has no roles
here, and whoever verifies it may add the default roles of its tenant. Which tokens are issued to whom is the
gateway's decision. HS256 and `none` are never accepted: a public key must not be usable as a shared secret.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from meshwire.identity import IdentityError, LoginKind, Principal, TenantId

if TYPE_CHECKING:
    from jwt.types import Options

__all__ = ["SigningKeys", "TokenError", "VerifyingKeys"]

ISSUER: Final = "/data"
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
CLOCK_SKEW_S: Final = 30.0
"""How far a token's `iat` may lie in the future, in seconds, before the token is refused."""


class TokenError(ValueError):
    """A token does not hold; `str(error)` is the reason in words, without the token."""


@dataclass(frozen=True, slots=True)
class VerifyingKeys:
    """Public keys by `kid`."""

    keys: Mapping[str, jwt.PyJWK]

    @classmethod
    def from_jwks(cls, jwks: Mapping[str, object]) -> VerifyingKeys:
        """Read a JWK Set (RFC 7517 section 5); keys without `kid` or of an unknown type are left out."""
        keys: dict[str, jwt.PyJWK] = {}
        for jwk in cast("Iterable[dict[str, object]]", jwks.get("keys", ())):
            kid = jwk.get("kid")
            if not isinstance(kid, str) or jwk.get("kty") not in ("OKP", "EC", "RSA"):
                continue
            keys[kid] = jwt.PyJWK({name: value for name, value in jwk.items() if name != "d"})
        return cls(keys)

    @classmethod
    def load(cls, path: Path) -> VerifyingKeys:
        """Read a JWK Set file."""
        return cls.from_jwks(json.loads(path.read_text()))

    def to_jwks(self) -> dict[str, object]:
        """The key set as JSON-ready mapping, public parts only."""
        return {"keys": [dict(key._jwk_data) for key in self.keys.values()]}

    def verify(self, token: str, *, now: float) -> Principal:
        """Check signature, algorithm and times of `token`.

        Args:
            token: the compact JWT.
            now: Unix time in seconds.

        Raises:
            TokenError: with the reason, for any token that does not hold.
        """
        key_id, claims = self._claims(token)
        expires_at = _number(claims, "exp")
        if expires_at is None or now >= expires_at:
            raise TokenError("token has expired" if expires_at is not None else "token has no exp claim")
        not_before = _number(claims, "nbf") or _number(claims, "iat")
        if not_before is not None and not_before > now + CLOCK_SKEW_S:
            raise TokenError("token is not valid yet")
        try:
            tenant = TenantId(str(claims.get("sub", "")))
        except IdentityError as error:
            raise TokenError(f"sub claim: {error}") from None
        return Principal(
            name=str(claims.get("jti", "")),
            tenant=tenant,
            roles=_names(claims.get("mqttScope")),
            kind=LoginKind.TOKEN,
            expires_at=expires_at,
            scopes=_names(claims.get("scope")),
            client=_text(claims.get("client_id")),
            key_id=key_id,
        )

    def _claims(self, token: str) -> tuple[str, Mapping[str, object]]:
        """The key that signed, and what is said."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise TokenError(f"not a JWT: {error}") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenError(f"algorithm {algorithm!r} is not accepted")
        key = self.keys.get(kid) if isinstance(kid, str) else None
        if key is None or not isinstance(kid, str):
            raise TokenError("token is signed by an unknown key")
        if key.algorithm_name != algorithm:
            raise TokenError("algorithm does not fit the key")
        try:
            # The times are checked against the caller's clock in `verify`, not against the machine's.
            options: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
            return kid, jwt.decode(token, key=key.key, algorithms=[algorithm], options=options)
        except jwt.InvalidTokenError as error:
            raise TokenError(f"signature: {error}") from None


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """One Ed25519 key that signs; its `kid` is the thumbprint of RFC 7638."""

    kid: str
    key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> SigningKeys:
        """Make a new key from the system's randomness."""
        return cls._of(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKeys:
        """Read the private JWK written by `save`."""
        key = OKPAlgorithm.from_jwk(path.read_text())
        if not isinstance(key, Ed25519PrivateKey):
            raise TokenError(f"{path} holds no Ed25519 private key")
        return cls._of(key)

    @classmethod
    def _of(cls, key: Ed25519PrivateKey) -> SigningKeys:
        public = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
        canonical = json.dumps({name: public[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).digest()
        return cls(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), key)

    def save(self, path: Path) -> None:
        """Write the private key as JWK, mode 0600, replaced atomically."""
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(OKPAlgorithm.to_jwk(self.key))
        temporary.replace(path)

    def issue(
        self,
        tenant: TenantId,
        roles: Iterable[str] | None,
        *,
        now: float,
        ttl_s: float = 3600.0,
        scope: str = "api",
        client: str = "",
    ) -> str:
        """Sign a token for `tenant`.

        Args:
            tenant: becomes the `sub` claim.
            roles: become the `mqttScope` claim; None leaves the claim out.
            now: Unix time in seconds, becomes `iat`.
            ttl_s: life in seconds; `exp` = `iat` + `ttl_s`.
            scope: API scopes, separated by blanks.
            client: who asked for it, becomes the `client_id` claim; empty: there is none.
        """
        claims: dict[str, object] = {
            "iss": ISSUER,
            "sub": tenant.value,
            "scope": scope,
            "jti": str(uuid.uuid4()),
            "iat": int(now),
            "exp": int(now + ttl_s),
        }
        if client:
            claims["client_id"] = client
        if roles is not None:
            claims["mqttScope"] = sorted(str(role) for role in roles)
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": self.kid})

    def public(self) -> VerifyingKeys:
        """The key set that verifies what this key signs."""
        jwk = json.loads(OKPAlgorithm.to_jwk(self.key.public_key()))
        return VerifyingKeys.from_jwks({"keys": [{**jwk, "kid": self.kid, "alg": "EdDSA", "use": "sig"}]})


def _number(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _text(claim: object) -> str:
    return claim[:256] if isinstance(claim, str) else ""


def _names(claim: object) -> frozenset[str]:
    if isinstance(claim, str):
        return frozenset(claim.split())
    if isinstance(claim, list):
        return frozenset(name for name in claim if isinstance(name, str))
    return frozenset()
