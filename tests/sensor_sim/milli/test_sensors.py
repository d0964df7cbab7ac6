"""Dialect B.4: sensor resources of both versions, row by row, and the vectors of B.4 and E.6 through the board."""

from __future__ import annotations

from typing import Any

import pytest

from meshwire.coap import codes

DOCUMENT_VECTORS = [
    (
        "temp?sens",
        1_700_000_005,
        "a2 00 64 74 65 6d 70 01 72 31 37 30 30 30 30 30 30 30 35 2c 37 32 2e 35 30 2c 46",
    ),
    ("temp?cfg", 1_700_000_002, "a2 00 64 74 65 6d 70 01 6c 31 37 30 30 30 30 30 30 30 32 2c 46"),
    ("echo?sens", 1_700_000_002, "a2 00 64 65 63 68 6f 01 6e 48 65 6c 6c 6f 20 57 6f 72 6c 64 3a 20 31"),
    ("ncmth1?sens", 1_700_000_002, "a2 00 66 6e 63 6d 74 68 31 01 66 31 30 2c 6c 76 6c"),
    (
        "lnic?sens",
        0x57D89814,
        "a2 00 64 6c 6e 69 63 01 58 25 57 d8 98 14 00 01 1a 76 00 19 10 00 02 00 01 02 09 67 00 03 01 4c "
        "00 05 0c 00 00 01 30 00 00 02 d0 00 00 02 3c",
    ),
]


@pytest.mark.parametrize(("profile", "content_format"), [("milli-1.4.8", "c1 3c ff"), ("milli-1.4.5", "c1 02 ff")])
@pytest.mark.parametrize(("target", "epoch", "record"), DOCUMENT_VECTORS, ids=[row[0] for row in DOCUMENT_VECTORS])
def test_vectors(make_bench: Any, profile: str, content_format: str, target: str, epoch: int, record: str) -> None:
    bench = make_bench(profile)
    path, _, query = target.partition("?")
    request = bench.coap(codes.GET, f"arduino/{path}", query)
    bench.connect()
    bench.board.clock.set(epoch, bench.now + 0.4)
    answer = bench.information(request)
    assert answer[:6] == b"\x62\x45" + bench.mid.to_bytes(2, "big") + b"\xaa\xbb"
    assert answer[6:].hex(" ") == f"{content_format} {record}"


ROWS = [
    ("GET other query: 5.01", codes.GET, "temp", "other", codes.NOT_IMPLEMENTED),
    ("GET an empty query is another query: 5.01", codes.GET, "temp", "", codes.NOT_IMPLEMENTED),
    ("GET no query: 4.05", codes.GET, "temp", None, codes.METHOD_NOT_ALLOWED),
    ("PUT ?cfg=<text>: 2.04", codes.PUT, "temp", "cfg=C", codes.CHANGED),
    ("unknown text: 5.01", codes.PUT, "temp", "cfg=K", codes.NOT_IMPLEMENTED),
    ("bad data: 4.06", codes.PUT, "echo", "cfg=" + "x" * 32, codes.NOT_ACCEPTABLE),
    ("PUT other query: 5.01", codes.PUT, "temp", "sens", codes.NOT_IMPLEMENTED),
    ("PUT no query: 4.05", codes.PUT, "temp", None, codes.METHOD_NOT_ALLOWED),
    ("nothing to configure: 5.01", codes.PUT, "lnic", "cfg=1", codes.NOT_IMPLEMENTED),
    ("POST: 4.05", codes.POST, "temp", "sens", codes.METHOD_NOT_ALLOWED),
    ("DELETE: 4.05", codes.DELETE, "temp", "sens", codes.METHOD_NOT_ALLOWED),
    ("DELETE without query: 4.05", codes.DELETE, "temp", None, codes.METHOD_NOT_ALLOWED),
]


@pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])
@pytest.mark.parametrize(("row", "method", "name", "query", "code"), ROWS, ids=[row[0] for row in ROWS])
def test_rows(make_bench: Any, profile: str, row: str, method: int, name: str, query: str | None, code: int) -> None:
    bench = make_bench(profile)
    answer = bench.ask(method, f"arduino/{name}", query, payload=b"ignored")
    assert answer == bytes((0x62, code)) + bench.mid.to_bytes(2, "big") + b"\xaa\xbb", row


def test_the_unit_changes_the_reading(bench: Any) -> None:
    assert bench.ask(codes.PUT, "arduino/temp", "cfg=C")[1] == codes.CHANGED
    assert bench.ask(codes.GET, "arduino/temp", "sens")[-8:] == b",22.50,C"
    assert bench.ask(codes.GET, "arduino/temp", "cfg")[-2:] == b",C"


def test_echo_takes_a_text_and_counts_from_1(bench: Any) -> None:
    for number in (1, 2):
        assert bench.ask(codes.GET, "arduino/echo", "sens").endswith(f"Hello World: {number}".encode())
    bench.ask(codes.PUT, "arduino/echo", "cfg=Bonjour")
    assert bench.ask(codes.GET, "arduino/echo", "sens").endswith(b"Bonjour 1")


def test_delete_all_in_1_4_8_is_4_05(bench: Any) -> None:
    assert bench.ask(codes.DELETE, "arduino/temp", "all")[1] == codes.METHOD_NOT_ALLOWED


def test_delete_all_in_1_4_5_switches_the_sensor_off_until_it_is_configured(make_bench: Any) -> None:
    bench = make_bench("milli-1.4.5")
    assert bench.ask(codes.DELETE, "arduino/temp", "all")[1] == codes.DELETED
    assert bench.ask(codes.GET, "arduino/temp", "sens")[1] == codes.INTERNAL_SERVER_ERROR
    assert bench.ask(codes.GET, "arduino/echo", "sens")[1] == codes.CONTENT
    assert bench.ask(codes.PUT, "arduino/temp", "cfg=K")[1] == codes.NOT_IMPLEMENTED
    assert bench.ask(codes.GET, "arduino/temp", "sens")[1] == codes.INTERNAL_SERVER_ERROR
    assert bench.ask(codes.PUT, "arduino/temp", "cfg=F")[1] == codes.CHANGED
    assert bench.ask(codes.GET, "arduino/temp", "sens")[1] == codes.CONTENT
