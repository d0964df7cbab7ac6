"""Addresses of 1, 2 and 4 octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc.address import Address, address_size, decode_address
from meshwire.hdlc.errors import AddressError, DiscardReason, FrameError

CASES = [
    (Address(1), "03", "both Milli stations (dialect A.3)"),
    (Address(0), "01", "no-station"),
    (Address(127), "ff", "all-station, one octet"),
    (Address(1, 2), "00 03", "one in two octets is another station"),
    (Address(0x3FFF, 2), "fe ff", "all-station, two octets"),
    (Address(0x91, 2), "02 23", "upper 1, lower 17 (IEC 62056-46, 6.4.2)"),
    (Address(1 << 14 | 17, 4), "00 02 00 23", "upper 1, lower 17 in four octets"),
    (Address((1 << 28) - 1, 4), "fe fe fe ff", "largest"),
]


@pytest.mark.parametrize(("address", "octets", "meaning"), CASES)
def test_octets_both_ways(address: Address, octets: str, meaning: str) -> None:
    assert address.octets == bytes.fromhex(octets)
    assert decode_address(bytes.fromhex(octets)) == address
    assert decode_address(bytes.fromhex(octets)).size == address.size


@pytest.mark.parametrize(("value", "size"), [(128, 1), (-1, 1), (1 << 14, 2), (1 << 28, 4), (1, 0), (1, 3), (1, 5)])
def test_what_no_address_can_hold_is_refused(value: int, size: int) -> None:
    with pytest.raises(AddressError):
        Address(value, size)


@pytest.mark.parametrize("octets", ["", "02", "03 03", "02 02 03", "02 02 02 02 03", "02 02 02 02"])
def test_a_field_of_another_length_is_no_address(octets: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode_address(bytes.fromhex(octets))
    assert caught.value.reason is DiscardReason.ADDRESS


def test_size_is_unknown_until_the_last_octet_came() -> None:
    whole = Address(5, 4).octets
    assert [address_size(whole[:cut], 0) for cut in range(5)] == [None, None, None, None, 4]


@given(st.sampled_from([1, 2, 4]).flatmap(lambda size: st.tuples(st.integers(0, (1 << 7 * size) - 1), st.just(size))))
def test_round_trip(case: tuple[int, int]) -> None:
    address = Address(*case)
    assert decode_address(address.octets) == address


def test_text_for_logs() -> None:
    assert (str(Address(1)), str(Address(1, 2))) == ("1", "1/2")
