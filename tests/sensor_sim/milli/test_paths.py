"""Dialect B.3: every row of the path table, against both versions."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from meshwire.coap import codes

METHODS = {
    "GET": codes.GET,
    "POST": codes.POST,
    "PUT": codes.PUT,
    "DELETE": codes.DELETE,
    "FETCH": codes.FETCH,
}
LINKS = b'</sys>;if="sys";title="System";ct=42;rev=1;,</arduino>;if="arduino";title="Arduino Sensors";ct=42;,'
STATISTICS = bytes.fromhex("08240000") + bytes(36)

# path, query, methods, payload, answer after code and token: (code, what follows the token)
ROWS: list[tuple[str, str | None, str, bytes, int, bytes]] = [
    ("", None, "POST PUT DELETE FETCH", b"", codes.FORBIDDEN, b""),
    (".well-known/core", None, "GET", b"", codes.CONTENT, b"\xc1\x28\xff" + LINKS),
    (".well-known/core", None, "POST PUT DELETE", b"", codes.NOT_IMPLEMENTED, b""),
    (".well-known", None, "GET POST PUT DELETE", b"", codes.INTERNAL_SERVER_ERROR, b""),
    ("sys", None, "GET POST PUT DELETE", b"", codes.NOT_FOUND, b""),
    ("sys/time", None, "PUT", bytes.fromhex("06086553f10000000000"), codes.CHANGED, b""),
    ("sys/time", None, "PUT", b"", codes.NOT_ACCEPTABLE, b""),
    ("sys/time", None, "PUT", bytes.fromhex("06086553f100"), codes.NOT_ACCEPTABLE, b""),
    ("sys/time", None, "PUT", bytes.fromhex("05086553f10000000000"), codes.NOT_ACCEPTABLE, b""),
    ("sys/time", None, "PUT", bytes.fromhex("06076553f10000000000"), codes.NOT_ACCEPTABLE, b""),
    ("sys/time", None, "PUT", bytes.fromhex("06086553f1000000000000"), codes.NOT_ACCEPTABLE, b""),
    ("sys/time", None, "POST DELETE", b"", codes.NOT_IMPLEMENTED, b""),
    ("sys/stats", "mod=coap", "GET", b"", codes.CONTENT, b"\xc1\x2a\xff" + STATISTICS),
    ("sys/stats", "mod=pwr", "GET", b"", codes.NOT_ACCEPTABLE, b""),
    ("sys/stats", "mod=x", "GET", b"", codes.NOT_IMPLEMENTED, b""),
    ("anything", None, "GET POST PUT DELETE", b"", codes.NOT_FOUND, b""),
    ("sys/anything", None, "GET", b"", codes.NOT_FOUND, b""),
    ("sys/time/more", None, "GET", b"", codes.NOT_FOUND, b""),
    (".well-known/core/more", None, "GET", b"", codes.NOT_FOUND, b""),
    ("arduino/none", "sens", "GET", b"", codes.NOT_FOUND, b""),
    ("arduino/temp/more", "sens", "GET", b"", codes.NOT_FOUND, b""),
    ("snsr/arduino/temp", "sens", "GET", b"", codes.NOT_FOUND, b""),
]
IDS = [f"/{path}?{query} {methods} {payload.hex()}" for path, query, methods, payload, _, _ in ROWS]


@pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])
@pytest.mark.parametrize(("path", "query", "methods", "payload", "code", "rest"), ROWS, ids=IDS)
def test_paths(
    make_bench: Any, profile: str, path: str, query: str | None, methods: str, payload: bytes, code: int, rest: bytes
) -> None:
    bench = make_bench(profile)
    for method in methods.split():
        answer = bench.ask(METHODS[method], path, query, payload=payload)
        assert answer == bytes((0x62, code)) + bench.mid.to_bytes(2, "big") + b"\xaa\xbb" + rest, method


@pytest.mark.parametrize("version", ["1.4.8", "1.4.5"])
def test_root(make_bench: Any, version: str) -> None:
    answer = make_bench(f"milli-{version}").ask(codes.GET, "")
    assert answer[6:] == b"\xc0\xff" + f"Itron Reference CoAP Server: {version}".encode()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("mtype", [0, 1], ids=["CON", "NON"])
def test_the_classifier_alone_gets_a_bare_ack(bench: Any, mtype: int, method: int) -> None:
    assert bench.ask(method, "arduino", mtype=mtype) == b"\x60\x00" + bench.mid.to_bytes(2, "big")


def test_time(bench: Any) -> None:
    assert bench.ask(codes.PUT, "sys/time", payload=bytes.fromhex("0608 6553f100 00000000"))[1] == codes.CHANGED
    start = bench.now
    answer = bench.ask(codes.GET, "sys/time", "")  # an empty query is no matter
    assert answer[6:9] == b"\xc1\x2a\xff"
    (seconds,) = struct.unpack(">I", answer[9:])
    assert 0x6553F100 <= seconds <= 0x6553F100 + bench.now - start + 1


def test_a_time_delta_is_a_bare_ack_and_not_applied(bench: Any) -> None:
    before = bench.board.clock.epoch(bench.now)
    answer = bench.ask(codes.PUT, "sys/time", payload=bytes.fromhex("0708 00010000 00000000"))
    assert answer == b"\x60\x00" + bench.mid.to_bytes(2, "big")
    assert bench.board.clock.epoch(bench.now) - before < 3


def test_the_clock_starts_near_1999_11_30(make_bench: Any) -> None:
    bench = make_bench(epoch=None)
    (seconds,) = struct.unpack(">I", bench.ask(codes.GET, "sys/time")[-4:])
    assert 943_920_000 <= seconds < 943_920_010


def test_all_statistics_stay_0_through_many_requests(bench: Any) -> None:
    for _ in range(20):
        bench.ask(codes.GET, "arduino/temp", "sens")
    assert bench.ask(codes.GET, "sys/stats", "mod=coap")[-40:] == STATISTICS


def test_another_classifier(make_bench: Any) -> None:
    bench = make_bench(classifier="rl78")
    assert bench.ask(codes.GET, "rl78/temp", "sens")[1] == codes.CONTENT
    assert bench.ask(codes.GET, "arduino/temp", "sens")[1] == codes.NOT_FOUND
    assert b'</rl78>;if="rl78"' in bench.ask(codes.GET, ".well-known/core")


def test_observe_is_ignored_outside_sensors(bench: Any) -> None:
    for path in ("", "sys/time", ".well-known/core"):
        answer = bench.ask(codes.GET, path, observe=b"")
        assert answer[1] == codes.CONTENT and answer[6] >> 4 == 12, path  # first option is Content-Format
    assert bench.board.observers() == 0
