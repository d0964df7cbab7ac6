"""The check sequence: the catalogue's values, both implementations against each other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc import crc

IMPLEMENTATIONS = pytest.mark.parametrize(
    "function", [crc.crcmod_crc(), crc.binascii_crc()], ids=["crcmod", "binascii"]
)


def by_the_book(data: bytes) -> int:
    register = 0xFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return register ^ 0xFFFF


@IMPLEMENTATIONS
def test_catalogue_check_value(function: crc.CrcFunction) -> None:
    assert function(b"123456789", 0) == 0x906E


@IMPLEMENTATIONS
def test_follows_the_definition_bit_by_bit(function: crc.CrcFunction) -> None:
    source = random.Random(2)
    for size in (0, 1, 2, 7, 64, 2047):
        data = source.randbytes(size)
        assert function(data, 0) == by_the_book(data)


@IMPLEMENTATIONS
def test_can_be_continued(function: crc.CrcFunction) -> None:
    assert function(b"6789", function(b"12345", 0)) == 0x906E


@IMPLEMENTATIONS
def test_residue_is_constant(function: crc.CrcFunction) -> None:
    for data in (b"", b"a", b"123456789"):
        assert function(data + function(data, 0).to_bytes(2, "little"), 0) == crc.RESIDUE


def test_the_active_implementation_is_said() -> None:
    expected = crc.CrcImplementation.CRCMOD if crc.CRCMOD_HAS_C_EXTENSION else crc.CrcImplementation.BINASCII
    assert expected is crc.CRC_IMPLEMENTATION
    assert crc.crc16_x25(b"123456789") == 0x906E


BINASCII = crc.binascii_crc()


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_implementations_agree(data: bytes, start: int) -> None:
    assert BINASCII(data, start) == crc.continue_crc(data, start)
