"""Which device and resource a proxied request is for: Proxy-Uri or Proxy-Scheme with Uri-Host, taken apart. Pure.

The splitter is our own (RFC 7252 section 6.4): aiocoap's proxy refuses Proxy-Uri. A device is named by its MAC, as
`SSN<mac>.<domain>` in any case or bare; the port is ignored, since the registry knows where the device is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId, IdentityError

__all__ = ["ACCESS_TOKEN", "Target", "TargetError", "is_by_path", "is_proxied", "target_of"]

DEVICES: Final = b"devices"
"""First path segment of requests that name a device in their path."""
ACCESS_TOKEN: Final = "access_token="
"""Of a query argument that is the request's own token."""
_ACCESS_TOKEN: Final = ACCESS_TOKEN.encode()
_URI: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[^\]/?#@]*\]|[^:/?#@\[\]]*)(?::(?P<port>[0-9]*))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_LONGEST_VALUE: Final = 255
"""Longest Uri-Path or Uri-Query value (RFC 7252 table 4)."""


class TargetError(ValueError):
    """A request names no target that a proxy could take; `code` is the answer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """A resource of a device."""

    mac: DeviceId | None
    """None: the host names no device that we could know."""
    path: tuple[bytes, ...]
    query: tuple[bytes, ...]
    access_token: str | None = None
    """The request's own token, taken out of the query."""
    pairs: tuple[tuple[int, bytes], ...] = ()
    """Path and query as options."""


def is_proxied(request: Message) -> bool:
    """Whether a request is for somebody else by the proxy's own options."""
    return request.option(options.PROXY_URI) is not None or request.option(options.PROXY_SCHEME) is not None


def is_by_path(request: Message) -> bool:
    """Whether a request names a device in its path, `/devices/{mac}/…`: for clients that can't name a proxy."""
    return request.option(options.URI_PATH) == DEVICES and len(request.option_values(options.URI_PATH)) > 1


def target_of(request: Message, domains: Sequence[str]) -> Target:
    """Take a proxied request's target apart.

    Args:
        request: for which `is_proxied` or `is_by_path` holds.
        domains: accepted domains of host names; empty: any.

    Raises:
        TargetError: with 4.02 for what is no URI, 5.05 for a scheme that is not ours.
    """
    uris = request.option_values(options.PROXY_URI)
    if len(uris) > 1:
        raise TargetError(codes.BAD_OPTION, "gateway: more than one Proxy-Uri")
    if uris:
        # RFC 7252 section 5.10.2: Proxy-Uri takes precedence over any Uri-* option.
        if _ACCESS_TOKEN in uris[0]:
            return _target(*_split(uris[0]), domains)
        return _remembered(uris[0], tuple(domains))
    if not is_proxied(request):
        _, mac, *path_of_device = request.option_values(options.URI_PATH)
        queries = request.option_values(options.URI_QUERY)
        return _target("coap", mac.decode(errors="replace"), tuple(path_of_device), queries, domains)
    scheme = (request.option(options.PROXY_SCHEME) or b"").decode(errors="replace")
    host = (request.option(options.URI_HOST) or b"").decode(errors="replace")
    path, query = request.option_values(options.URI_PATH), request.option_values(options.URI_QUERY)
    return _target(scheme, host, path, query, domains)


@lru_cache(4096)
def _remembered(uri: bytes, domains: tuple[str, ...]) -> Target:
    """Clients ask for the same few resources again and again; what carries a secret is never remembered."""
    return _target(*_split(uri), domains)


def _target(
    scheme: str, host: str, path: tuple[bytes, ...], query: tuple[bytes, ...], domains: Sequence[str]
) -> Target:
    if scheme.lower() != "coap":
        raise TargetError(codes.PROXYING_NOT_SUPPORTED, "gateway: only scheme coap is forwarded")
    if not host:
        raise TargetError(codes.BAD_OPTION, "gateway: no host to forward to")
    token, rest = _take_token(query)
    if any(len(value) > _LONGEST_VALUE for value in (*path, *rest)):
        raise TargetError(codes.BAD_OPTION, f"gateway: a part of the URI is longer than {_LONGEST_VALUE} octets")
    pairs = [(options.URI_PATH, value) for value in path] + [(options.URI_QUERY, value) for value in rest]
    return Target(_device(host, domains), path, rest, token, tuple(pairs))


def _split(octets: bytes) -> tuple[str, str, tuple[bytes, ...], tuple[bytes, ...]]:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise TargetError(codes.BAD_OPTION, "gateway: Proxy-Uri is not UTF-8") from None
    match = _URI.fullmatch(text)
    if match is None or _BAD_ESCAPE.search(octets):
        raise TargetError(codes.BAD_OPTION, "gateway: Proxy-Uri is no absolute URI")
    # Section 6.4, items 8 and 9: "/" alone and a missing path are no segment; an empty query is no argument.
    path = (match["path"] or "/")[1:]
    segments = path.split("/") if path else []
    arguments = match["query"].split("&") if match["query"] else []
    return match["scheme"], _decoded(match["host"]).decode(errors="replace"), _all(segments), _all(arguments)


def _all(parts: list[str]) -> tuple[bytes, ...]:
    return tuple(map(_decoded, parts))


def _decoded(part: str) -> bytes:
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), part.encode())


def _take_token(query: tuple[bytes, ...]) -> tuple[str | None, tuple[bytes, ...]]:
    tokens = [value[len(_ACCESS_TOKEN) :] for value in query if value.startswith(_ACCESS_TOKEN)]
    rest = tuple(value for value in query if not value.startswith(_ACCESS_TOKEN))
    return (tokens[0].decode(errors="replace") if tokens else None), rest


def _device(host: str, domains: Sequence[str]) -> DeviceId | None:
    name = host.rstrip(".").lower()
    label, _, domain = name.partition(".")
    if domain and domains and domain not in {known.rstrip(".").lower() for known in domains}:
        return None
    if domain and not label.startswith("ssn"):
        return None
    try:
        return DeviceId.parse(label)
    except IdentityError:
        return None
