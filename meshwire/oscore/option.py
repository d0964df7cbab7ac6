"""The value of the OSCORE option: a COSE header, compressed (RFC 8613 section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwire.oscore.errors import OscoreError, Reason

__all__ = ["MAX_PARTIAL_IV_OCTETS", "OscoreOption", "partial_iv"]

MAX_PARTIAL_IV_OCTETS: Final = 5
_PARTIAL_IV_LENGTH: Final = 0x07
_HAS_KEY_ID: Final = 0x08
_HAS_CONTEXT: Final = 0x10
_RESERVED: Final = 0xE0
"""Among them the flag of group OSCORE, which is not spoken here."""


@dataclass(frozen=True, slots=True)
class OscoreOption:
    """What the option says; None: nothing."""

    partial_iv: bytes | None = None
    """Sequence number of the sender, 1 to 5 octets."""
    key_id: bytes | None = None
    """`kid`: who has sent it; in requests."""
    context: bytes | None = None
    """`kid context`: which of several keys with that id."""

    def encode(self) -> bytes:
        """The option's value."""
        number, context = self.partial_iv or b"", b""
        flags = len(number)
        if self.context is not None:
            flags |= _HAS_CONTEXT
            context = bytes((len(self.context),)) + self.context
        if self.key_id is not None:
            flags |= _HAS_KEY_ID
        if not flags:
            return b""
        return bytes((flags,)) + number + context + (self.key_id or b"")

    @classmethod
    def parse(cls, value: bytes) -> OscoreOption:
        """Read a value.

        Raises:
            OscoreError: MALFORMED.
        """
        if not value:
            return cls()
        flags, position = value[0], 1
        length = flags & _PARTIAL_IV_LENGTH
        if flags & _RESERVED or length > MAX_PARTIAL_IV_OCTETS or not flags:
            raise OscoreError(Reason.MALFORMED)
        number = value[position : position + length] if length else None
        position += length
        context = None
        if flags & _HAS_CONTEXT:
            size = value[position] if position < len(value) else 0
            position += 1
            context = value[position : position + size]
            position += size
        if position > len(value) or (position < len(value) and not flags & _HAS_KEY_ID):
            raise OscoreError(Reason.MALFORMED)
        return cls(number, value[position:] if flags & _HAS_KEY_ID else None, context)


def partial_iv(number: int) -> bytes:
    """A sequence number in the fewest octets; zero is one octet (RFC 8613 section 5)."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")
