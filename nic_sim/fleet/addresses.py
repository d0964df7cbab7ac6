"""Which address each light NIC has: of a prefix that the system routes to us, or of 127.0.0.0/8.

An IPv6 address is the prefix and the NIC's modified EUI-64 (RFC 4291 section 2.5.1). Where no prefix is routed, NIC n
is 127.64.0.0 + n: Linux owns all of 127.0.0.0/8 without any set-up, and the socket carries it as `::ffff:127.…`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwire.identity import DeviceId

__all__ = ["LoopbackAddresses", "PrefixAddresses", "interface_address"]

_MAPPED: Final = bytes(10) + b"\xff\xff"
_FIRST_LOOPBACK: Final = 0x7F400000
MAX_LOOPBACK: Final = 0x400000
"""127.64.0.0 to 127.127.255.255."""
_UNIVERSAL_BIT: Final = 1 << 57


def interface_address(prefix: bytes, mac: DeviceId) -> bytes:
    """Prefix (8 octets) and modified EUI-64."""
    return prefix + (int(mac.value, 16) ^ _UNIVERSAL_BIT).to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class LoopbackAddresses:
    """`::ffff:127.64.0.0` + number."""

    def of(self, number: int, mac: DeviceId) -> bytes:
        """The address of a NIC, 16 octets."""
        if number >= MAX_LOOPBACK:
            raise ValueError(f"NIC {number}: 127.64.0.0/10 holds {MAX_LOOPBACK}")
        return _MAPPED + (_FIRST_LOOPBACK + number).to_bytes(4, "big")

    def number(self, address: bytes) -> int:
        """Which NIC has the address; negative: none."""
        return int.from_bytes(address[12:], "big") - _FIRST_LOOPBACK if address.startswith(_MAPPED) else -1


@dataclass(frozen=True, slots=True)
class PrefixAddresses:
    """Prefix and EUI-64 of consecutive MACs."""

    prefix: bytes
    first_mac: int

    def of(self, number: int, mac: DeviceId) -> bytes:
        """The address of a NIC, 16 octets."""
        return interface_address(self.prefix, mac)

    def number(self, address: bytes) -> int:
        """Which NIC has the address; negative: none."""
        if not address.startswith(self.prefix):
            return -1
        return (int.from_bytes(address[8:], "big") ^ _UNIVERSAL_BIT) - self.first_mac
