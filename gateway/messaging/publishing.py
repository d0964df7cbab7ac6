"""How an endpoint is published: DNS records as text of a zone file. Pure.

Defining an endpoint makes it reachable for nobody: a name server must lead its name to the broker.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from gateway.messaging.rules import Endpoint, Scheme, is_domain

__all__ = ["dns_records", "refuse_address"]

TTL_S: Final = 300
_SERVICES: Final = {Scheme.MQTT: "_mqtt._tcp", Scheme.MQTTS: "_secure-mqtt._tcp"}
"""Service names as registered with IANA; there are none for WebSocket."""


def refuse_address(address: str) -> str | None:
    """Why records can't lead to this; None: it is an IP address or the name of a host."""
    if _version(address) is not None or is_domain(address.removesuffix(".")):
        return None
    return f"{address!r} is neither an IP address nor the name of a host"


def dns_records(endpoint: Endpoint, address: str | None = None) -> list[str]:
    """The records to give to a name server.

    Args:
        endpoint: what is to be reached.
        address: IPv4 or IPv6 address, or host name, of the broker or of what stands before it; None: to be filled in.

    Returns:
        None at all for an endpoint that is an address itself.
    """
    if _version(endpoint.domain) is not None:
        return []
    name = f"{endpoint.domain}."
    records = [f"{name} {TTL_S} IN {_pointer(address)}"]
    service = _SERVICES.get(endpoint.scheme)
    if service is not None:
        # RFC 2782: priority, weight, port, target.
        records.append(f"{service}.{name} {TTL_S} IN SRV 0 0 {endpoint.port} {name}")
    return records


def _pointer(address: str | None) -> str:
    if address is None:
        return "A <address of the broker>"
    match _version(address):
        case 4:
            return f"A {address}"
        case 6:
            return f"AAAA {address}"
    return f"CNAME {address.rstrip('.')}."


def _version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None
