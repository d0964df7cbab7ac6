"""Reading DER (ITU-T X.690): just enough to walk a PKCS#12 file. Pure; definite lengths only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["DerError", "Element", "oid_text", "read_element"]

SEQUENCE: Final = 0x30
CONSTRUCTED_OCTET_STRING: Final = 0x24


class DerError(ValueError):
    """The octets are no DER."""


@dataclass(frozen=True, slots=True)
class Element:
    """A tag with its content; `whole` includes tag and length."""

    tag: int
    content: bytes
    whole: bytes

    def children(self) -> list[Element]:
        """The elements inside; raises DerError."""
        return list(_elements(self.content))

    @property
    def octets(self) -> bytes:
        """The value of an octet string, also of one in pieces."""
        if self.tag in (CONSTRUCTED_OCTET_STRING, 0xA0) and self.content[:1] == b"\x04":
            return b"".join(child.content for child in self.children())
        return self.content


def read_element(octets: bytes, start: int = 0) -> tuple[Element, int]:
    """The element at `start` and where the next one begins; raises DerError."""
    position = start + 2
    if position > len(octets):
        raise DerError("cut off")
    tag, length = octets[start], octets[start + 1]
    if tag & 0x1F == 0x1F:
        raise DerError("long tag")
    if length == 0x80:
        raise DerError("indefinite length (BER)")
    if length > 0x80:
        count = length & 0x7F
        length = int.from_bytes(octets[position : position + count], "big")
        position += count
    end = position + length
    if end > len(octets):
        raise DerError("cut off")
    return Element(tag, octets[position:end], octets[start:end]), end


def _elements(octets: bytes) -> Iterator[Element]:
    position = 0
    while position < len(octets):
        element, position = read_element(octets, position)
        yield element


def oid_text(content: bytes) -> str:
    """An object identifier in dotted form."""
    if not content:
        raise DerError("empty object identifier")
    numbers, value = [min(content[0] // 40, 2)], 0
    numbers.append(content[0] - 40 * numbers[0])
    for octet in content[1:]:
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))
