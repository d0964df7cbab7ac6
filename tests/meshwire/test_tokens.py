import json
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from meshwire.identity import LoginKind, TenantId
from meshwire.tokens import SigningKeys, TokenError, VerifyingKeys

NOW = 1_700_000_000.0
KEYS = SigningKeys.generate()
ACME = TenantId("acme")


def test_a_token_names_its_tenant_roles_and_end() -> None:
    principal = KEYS.public().verify(KEYS.issue(ACME, ["A", "B"], now=NOW, ttl_s=60, scope="api admin"), now=NOW)
    assert (principal.tenant, principal.roles, principal.kind) == (ACME, {"A", "B"}, LoginKind.TOKEN)
    assert (principal.expires_at, principal.scopes) == (NOW + 60, {"api", "admin"})


def test_roles_may_be_one_string_of_names() -> None:
    claims = {"sub": "acme", "exp": NOW + 1, "mqttScope": "A B"}
    token = jwt.encode(claims, KEYS.key, algorithm="EdDSA", headers={"kid": KEYS.kid})
    assert KEYS.public().verify(token, now=NOW).roles == {"A", "B"}


def test_without_the_claim_there_are_no_roles() -> None:
    assert KEYS.public().verify(KEYS.issue(ACME, None, now=NOW), now=NOW).roles == frozenset()


def forged(**changes: object) -> str:
    claims: dict[str, object] = {"sub": "acme", "exp": NOW + 60, "iat": NOW}
    headers = {"kid": changes.pop("kid", KEYS.kid)}
    algorithm = str(changes.pop("algorithm", "EdDSA"))
    key = changes.pop("key", KEYS.key)
    claims.update(changes)
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm, headers=headers)  # type: ignore[arg-type]


RAW_PUBLIC = KEYS.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "not a JWT"),
        ("a.b.c", "not a JWT"),
        (forged(exp=NOW - 1), "expired"),
        (forged(exp=None), "no exp"),
        (forged(exp="soon"), "no exp"),
        (forged(iat=NOW + 3600), "not valid yet"),
        (forged(nbf=NOW + 3600), "not valid yet"),
        (forged(sub="a/b"), "sub claim"),
        (forged(sub="+"), "sub claim"),
        (forged(kid="other"), "unknown key"),
        (forged(key=SigningKeys.generate().key), "signature"),
        (forged(algorithm="HS256", key=RAW_PUBLIC), "not accepted"),
        (forged(algorithm="none", key=None), "not accepted"),
    ],
)
def test_a_token_that_does_not_hold_is_refused_with_the_reason(token: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason):
        KEYS.public().verify(token, now=NOW)


def test_a_changed_payload_breaks_the_signature() -> None:
    head, _, signature = KEYS.issue(ACME, [], now=NOW).split(".")
    other = KEYS.issue(TenantId("other"), [], now=NOW).split(".")[1]
    with pytest.raises(TokenError, match="signature"):
        KEYS.public().verify(f"{head}.{other}.{signature}", now=NOW)


def test_the_key_survives_the_disk_and_its_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "signing.json"
    KEYS.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKeys.load(path).kid == KEYS.kid


def test_the_public_key_set_holds_no_private_part() -> None:
    jwks = KEYS.public().to_jwks()
    assert '"d"' not in json.dumps(jwks)
    private = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(KEYS.key))
    leaked = VerifyingKeys.from_jwks({"keys": [{**private, "kid": KEYS.kid, "alg": "EdDSA"}]})
    assert '"d"' not in json.dumps(leaked.to_jwks())
    token = KEYS.issue(ACME, [], now=NOW)
    assert VerifyingKeys.from_jwks(jwks).verify(token, now=NOW).tenant == ACME
