"""Station addresses: values of 7, 14 or 28 bits in 1, 2 or 4 octets (IEC 62056-46, 6.4.2).

Each octet carries seven bits of the value, most significant first; its lowest bit is 1 in the last octet only. An
address keeps its size: address 1 in one octet and address 1 in two octets are different stations to a receiver.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from meshwire.hdlc.errors import AddressError, DiscardReason, FrameError

SIZES: Final = (1, 2, 4)
"""Octets that an address field may have."""

_KNOWN_LIMIT: Final = 1024
"""Addresses kept for re-use; a link needs two, a process with many links a few dozen."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address field: ``value`` in ``size`` octets (1, 2 or 4). Raises AddressError when it does not fit."""

    value: int
    size: int = 1
    octets: bytes = field(init=False, repr=False, compare=False)
    """As sent on the line."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise AddressError(f"an address of {self.size} octets; there are 1, 2 and 4")
        if not 0 <= self.value < 1 << 7 * self.size:
            raise AddressError(f"address {self.value} does not fit in {self.size} octet(s)")
        shifts = range(7 * (self.size - 1), -1, -7)
        octets = bytearray((self.value >> shift & 0x7F) << 1 for shift in shifts)
        octets[-1] |= 1
        object.__setattr__(self, "octets", bytes(octets))

    def __str__(self) -> str:
        return f"{self.value}/{self.size}" if self.size > 1 else str(self.value)


_known: dict[bytes, Address] = {}


def address_size(data: bytes, start: int) -> int | None:
    """Return how many octets the address field at ``start`` has, None while its last octet has not come yet.

    Raises FrameError(ADDRESS) for 3 octets and for more than 4.
    """
    for size in (1, 2, 3, 4):
        if start + size > len(data):
            return None
        if data[start + size - 1] & 1:
            if size == 3:
                break
            return size
    raise FrameError(DiscardReason.ADDRESS, "neither 1, 2 nor 4 octets")


def decode_address(octets: bytes) -> Address:
    """Return the address of a whole address field. Raises FrameError(ADDRESS)."""
    known = _known.get(octets)
    if known is not None:
        return known
    if address_size(octets, 0) != len(octets):
        raise FrameError(DiscardReason.ADDRESS, "octets are missing or left over")
    value = 0
    for octet in octets:
        value = value << 7 | octet >> 1
    if len(_known) >= _KNOWN_LIMIT:
        _known.clear()
    return _known.setdefault(octets, Address(value, len(octets)))
