"""The Host field: a URL with the protocol, the domain and the port of a broker."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Final

__all__ = ["SCHEMES", "BrokerAddress", "parse_host"]

SCHEMES: Final = ("tcp", "ssl", "ws", "wss")
DEFAULT_PATH: Final = "/mqtt"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker and how to speak to it; `path` is for WebSocket only."""

    scheme: str
    name: str
    port: int
    path: str = ""

    @property
    def is_tls(self) -> bool:
        """Whether TLS comes first."""
        return self.scheme in ("ssl", "wss")

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT is carried in WebSocket frames."""
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.scheme}://{name}:{self.port}{self.path}"


def parse_host(text: str) -> BrokerAddress:
    """Read the URL; raises ValueError with what is wrong."""
    try:
        parts = urllib.parse.urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {error}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{text!r} has to begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if "@" in parts.netloc:
        raise ValueError("user and password do not belong into the URL: see username and password")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    if not port:
        raise ValueError(f"{text!r} names no port")
    if any(letter.isspace() for letter in parts.hostname):
        raise ValueError(f"{text!r} has a blank in its host name")
    if parts.scheme in ("ws", "wss"):
        query = f"?{parts.query}" if parts.query else ""
        return BrokerAddress(parts.scheme, parts.hostname, port, (parts.path or DEFAULT_PATH) + query)
    if parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{text!r} has a path: only ws:// and wss:// take one")
    return BrokerAddress(parts.scheme, parts.hostname, port)
