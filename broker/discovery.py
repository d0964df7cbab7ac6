"""Where an OpenID provider keeps its keys, by its own word (OpenID Connect Discovery 1.0, section 4)."""

import json
import re
from collections.abc import Callable
from typing import Final

__all__ = ["SAFE_URL", "discovery_url", "jwks_url"]

SAFE_URL: Final = r"^(https://|http://(127\.0\.0\.1|\[::1\]|localhost)[:/])"
"""https, or http on this machine: whoever can change the answer signs tokens."""


def discovery_url(issuer: str) -> str:
    """Section 4.1: one slash at the issuer's end is left out."""
    return f"{issuer.removesuffix('/')}/.well-known/openid-configuration"


def jwks_url(issuer: str, fetch: Callable[[str], bytes]) -> str:
    """Asks the provider.

    Args:
        issuer: its URL, exactly as in the tokens' `iss`.
        fetch: gets a URL's octets; blocks, and raises OSError or ValueError.

    Raises:
        OSError, ValueError: it does not answer, or not as the standard asks: the document must name this very issuer
            (section 4.3), and a safe URL.
    """
    document = json.loads(fetch(discovery_url(issuer)))
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("the provider's configuration is of another issuer")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or re.match(SAFE_URL, url) is None:
        raise ValueError(f"jwks_uri of the provider is not https: {url!r}")
    return url
