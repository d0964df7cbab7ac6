"""The way to an alias's broker: what a connection needs beyond MQTT, gathered once and tried again and again."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from gateway.aliases.catalogue import Catalogue, password_of
from gateway.aliases.host import BrokerAddress, parse_host
from gateway.aliases.keystore import client_context
from gateway.aliases.records import AliasSettings
from gateway.aliases.websocket import WebSocketClient
from gateway.mqtt import Login
from meshwire.site import Site

__all__ = ["Route", "client_id_of", "login_of", "route_of", "tls_of"]

_ID_KEY: Final = "alias-client-id"
_ID_OCTETS: Final = 10


@dataclass(frozen=True, slots=True)
class Route:
    """Where, and through what."""

    address: BrokerAddress
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    connect_timeout_s: float | None = 30.0
    """None: as long as it takes."""

    async def open(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Connect, so that the protocol's `connection_made` is called; raises OSError."""
        address = self.address
        factory = make
        if address.is_websocket:
            name = f"[{address.name}]" if ":" in address.name else address.name
            factory = lambda: WebSocketClient(make(), f"{name}:{address.port}", address.path)  # noqa: E731
        await asyncio.get_running_loop().create_connection(
            factory, address.name, address.port, ssl=self.tls, server_hostname=address.name if self.tls else None
        )


def client_id_of(alias: AliasSettings, site: Site) -> str:
    """The alias's own client id, or the generated one: 23 characters, the same for this site and name for ever.

    For ever, because triggers find what they have missed only under the same id; of this site, because two gateways
    with one configuration would throw each other out.
    """
    if alias.client_id:
        return alias.client_id
    digest = hmac.digest(site.secret(_ID_KEY).encode(), alias.name.encode(), hashlib.sha256)
    return f"mw-{digest[:_ID_OCTETS].hex()}"


def login_of(alias: AliasSettings, site: Site, environment: Mapping[str, str], client_id: str = "") -> Login:
    """Where and as whom; raises PasswordMissing."""
    address = parse_host(alias.host)
    return Login(
        address.name,
        address.port,
        client_id or client_id_of(alias, site),
        alias.username,
        password_of(alias, environment),
        alias.keep_alive_s,
    )


def tls_of(alias: AliasSettings, catalogue: Catalogue, environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """The TLS context of an alias whose fields fit; None without SSL. Raises StoreFileError or PasswordMissing."""
    if not parse_host(alias.host).is_tls:
        return None
    anchors, with_system = catalogue.anchors(alias.truststore, environment)
    entry = catalogue.key_entries(alias.keystore, environment)[alias.key_alias] if alias.keystore else None
    return client_context(cast("Any", anchors), with_system=with_system, entry=entry)


def route_of(alias: AliasSettings, catalogue: Catalogue, environment: Mapping[str, str]) -> Route:
    """The route of an alias whose fields fit; raises StoreFileError or PasswordMissing."""
    timeout_s = float(alias.connect_timeout_s) or None
    return Route(parse_host(alias.host), tls_of(alias, catalogue, environment), timeout_s)
