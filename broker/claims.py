"""What the claims of a provider's token mean here: tenant and roles. Pure.

A provider names organisations and roles in its own words. A map translates them; where there is one, a word that it
does not hold means nothing, so that a role somebody adds at the provider grants nothing here by accident.
"""

from collections.abc import Iterable, Mapping

from meshwire.identity import IdentityError, TenantId
from meshwire.tokens import TokenError

__all__ = ["roles_of", "tenant_of"]


def tenant_of(claims: Mapping[str, object], path: str, translate: Mapping[str, str]) -> TenantId:
    """The tenant.

    Args:
        claims: of the verified token.
        path: of the claim, with dots; a text, or a list of one.
        translate: from the provider's word to the tenant id; empty: the word is the tenant id.

    Raises:
        TokenError: the claim is absent, names several, or names none that is known.
    """
    words = _words(_at(claims, path), split=False)
    if len(words) != 1:
        raise TokenError(f"{path} claim: {'names several tenants' if words else 'names no tenant'}")
    (word,) = words
    if translate and word not in translate:
        raise TokenError(f"{path} claim: {word!r} is not in tenant_map")
    try:
        return TenantId(translate.get(word, word))
    except IdentityError as error:
        raise TokenError(f"{path} claim: {error}") from None


def roles_of(
    claims: Mapping[str, object], paths: Iterable[str], translate: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """The roles.

    Args:
        claims: of the verified token.
        paths: of the claims, with dots; each a list, or names separated by blanks.
        translate: from the provider's word to roles; empty: words are roles.
    """
    words = frozenset[str]().union(*(_words(_at(claims, path), split=True) for path in paths))
    if not translate:
        return words
    return frozenset(role for word in words for role in translate.get(word, ()))


def _at(claims: Mapping[str, object], path: str) -> object:
    """A claim by its whole name, which may hold dots (`https://id.example/tenant`), or by its path."""
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _words(claim: object, *, split: bool) -> frozenset[str]:
    """A text, a list of texts, or the keys of an object (as Keycloak's `organization` is one)."""
    if isinstance(claim, str):
        return frozenset(claim.split() if split else filter(None, (claim,)))
    if isinstance(claim, list | dict):
        return frozenset(name for name in claim if isinstance(name, str))
    return frozenset()
