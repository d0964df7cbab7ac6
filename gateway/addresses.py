"""Socket addresses as the gateway writes and reads them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import Final

from meshwire.identity import DeviceId

__all__ = ["Address", "nic_of", "of_nic", "parse_endpoint"]

_NIC_KEY: Final = "oscore nic "


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and a UDP or TCP port; `host` is canonical text, with `%scope` for link-local addresses."""

    host: str
    port: int
    security: str = ""
    """What protects the messages from there: nothing, or the name of one TLS connection or OSCORE context. Part of
    who somebody is: the same port without the protection is somebody else."""
    octets: bytes = field(init=False, repr=False, compare=False)
    """Host and port, to begin the keys of tables with: octets are hashed once, and not each time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "octets", f"{self.host} {self.port} ".encode())

    @property
    def is_loopback(self) -> bool:
        """Whether the address can only be reached from this machine."""
        try:
            return ipaddress.ip_address(self.host.split("%", 1)[0]).is_loopback
        except ValueError:
            return False

    @property
    def keeps_secrets(self) -> bool:
        """Whether what is sent from there can't be read on the way."""
        return bool(self.security) or self.is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def of_nic(mac: DeviceId, address: Address) -> Address:
    """The same address, what comes from there and goes there being protected by the key of a NIC."""
    return replace(address, security=f"{_NIC_KEY}{mac}")


def nic_of(address: Address) -> DeviceId | None:
    """The NIC whose key protects what goes to an address; None: no NIC's does."""
    return DeviceId(address.security[len(_NIC_KEY) :]) if address.security.startswith(_NIC_KEY) else None


def parse_endpoint(text: str) -> Address:
    """Read `HOST:PORT` or `[IPV6]:PORT`; raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return Address(host, int(port))
