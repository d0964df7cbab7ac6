"""Who may ask the authority: whoever knows the shared secret, or any process of this machine where that is set."""

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from broker.authority.http import Request
from broker.authority.settings import CallerRule

__all__ = ["Callers", "is_loopback"]

BEARER = "Bearer "


def is_loopback(address: str) -> bool:
    """Whether an address text is one of this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


@dataclass(frozen=True, slots=True)
class Callers:
    """The rule and the secret."""

    rule: CallerRule
    secret: str

    def path_of(self, request: Request) -> tuple[str, ...] | None:
        """The path behind the secret, as segments; None for a caller that may not ask."""
        segments = tuple(unquote(part) for part in urlsplit(request.target).path.split("/") if part)
        if self._holds_secret(request.headers.get("authorization", "").removeprefix(BEARER)):
            return segments
        if segments and self._holds_secret(segments[0]):
            return segments[1:]
        if self.rule is CallerRule.LOOPBACK and is_loopback(request.peer):
            return segments
        return None

    def _holds_secret(self, offered: str) -> bool:
        return bool(self.secret) and hmac.compare_digest(offered.encode(), self.secret.encode())
