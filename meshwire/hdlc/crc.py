"""CRC-16/X-25, the check sequence of HDLC (IEC 62056-46, annex A), and which implementation computes it here.

This is the only file that knows crcmod. Its C extension is built when a compiler is there and is *silently* replaced by
a Python loop, 13 to 20 times slower, when not. In that case the standard library computes the same value: ``crc_hqx``
is the bit-reversal of X-25, so octets are reversed on the way in and the register on the way out, both by table.
``CRC_IMPLEMENTATION`` says which of the two is at work, so that a self-check can tell the operator.
"""

from __future__ import annotations

import binascii
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from crcmod.predefined import mkPredefinedCrcFun

CrcFunction = Callable[[bytes, int], int]
"""``f(data, crc)``: the check sequence of ``data`` following octets whose check sequence is ``crc``; 0 to begin."""

RESIDUE: Final = 0x0F47
"""Check sequence of any octets followed by their own check sequence, low octet first (register 0xF0B8, inverted)."""


class CrcImplementation(StrEnum):
    """Who computes the check sequences."""

    CRCMOD = "crcmod C extension"
    BINASCII = "binascii.crc_hqx"


def _reverse_bits(value: int, width: int) -> int:
    return int(f"{value:0{width}b}"[::-1], 2)


def binascii_crc() -> CrcFunction:
    """Make the X-25 function out of the standard library's non-reflected CRC-16 with the same polynomial."""
    octets = bytes(_reverse_bits(value, 8) for value in range(256))
    words = [octets[word & 0xFF] << 8 | octets[word >> 8] for word in range(65536)]
    crc_hqx = binascii.crc_hqx

    def crc(data: bytes, crc: int = 0) -> int:
        return words[crc_hqx(data.translate(octets), words[crc ^ 0xFFFF])] ^ 0xFFFF

    return crc


def crcmod_crc() -> CrcFunction:
    """Make the X-25 function of crcmod, whichever way that library computes it."""
    function: CrcFunction = mkPredefinedCrcFun("x-25")
    return function


CRCMOD_HAS_C_EXTENSION: Final = bool(getattr(sys.modules.get("crcmod.crcmod"), "_usingExtension", False))
"""Whether crcmod computes in C, as opposed to its Python loop."""

CRC_IMPLEMENTATION: Final = CrcImplementation.CRCMOD if CRCMOD_HAS_C_EXTENSION else CrcImplementation.BINASCII
"""Which of the two this process uses."""

continue_crc: Final[CrcFunction] = crcmod_crc() if CRCMOD_HAS_C_EXTENSION else binascii_crc()
"""``continue_crc(data, crc)``: go on from an earlier check sequence."""


def crc16_x25(data: bytes) -> int:
    """Return the check sequence of ``data``: polynomial 0x1021 reflected, start and final inversion 0xFFFF."""
    return continue_crc(data, 0)
