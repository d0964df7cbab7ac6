"""What the board's reader makes of octets that a strict reader refuses (dialect B.2)."""

from __future__ import annotations

import pytest

from sensor_sim.milli.request import BoardCrash, read_header, read_request


def read(octets: str) -> object:
    data = bytes.fromhex(octets)
    header = read_header(data)
    assert header is not None
    return read_request(header, data)


@pytest.mark.parametrize(
    ("octets", "path", "payload"),
    [
        ("40031234 b161 ff0102", (b"a",), "0102"),
        ("40031234 ff0102", (), "ff0102"),
        ("41031234 aa ff0102", (), "ff0102"),
        ("40031234 b161 ff", (b"a",), ""),
        ("40031234 b161 0162", (b"a", b"b"), ""),
    ],
    ids=["after options", "without options the marker stays", "behind a token", "nothing behind it", "none"],
)
def test_payload(octets: str, path: tuple[bytes, ...], payload: str) -> None:
    request = read(octets)
    assert (request.path, request.payload.hex()) == (path, payload)  # type: ignore[attr-defined]


@pytest.mark.parametrize("octets", ["", "40", "400112", "00011234", "80011234", "c0011234"])
def test_no_header_no_answer(octets: str) -> None:
    assert read_header(bytes.fromhex(octets)) is None


@pytest.mark.parametrize("length", range(9, 16))
def test_every_token_length_above_8_is_fatal(length: int) -> None:
    with pytest.raises(BoardCrash):
        read_header(bytes((0x40 | length, 1, 0, 0)) + bytes(length))


def test_an_option_of_269_octets_is_fatal_wherever_it_stands() -> None:
    for octets in ("40011234 be0000", "40011234 b161 0e0000"):
        with pytest.raises(BoardCrash):
            read(octets)
