"""Dialect B.1 and B.2: message types and options, every row."""

from __future__ import annotations

from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.coap.message import CON, NON, decode
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY

VERSION = b"Itron Reference CoAP Server: 1.4.8"
ROOT = "45{mid}c0ff" + VERSION.hex()


def information(bench: Any, octets: bytes) -> bytes:
    bench.connect()
    return bytes(bench.information(octets))


MESSAGES = [
    ("CON: piggybacked ACK, same MID, same token", "420112341a2b", "624512341a2bc0ff" + VERSION.hex()),
    ("NON: NON with the same MID, same token", "520112341a2b", "524512341a2bc0ff" + VERSION.hex()),
    ("empty CON: RST", "40001234", "70001234"),
    ("empty NON: empty NON, same MID", "50001234", "50001234"),
    ("RST: echoed", "70001234", "70001234"),
    ("any ACK, empty: empty I frame", "60001234", ""),
    ("any ACK, with a response code: empty I frame", "60451234", ""),
    ("CON 2.05 on root: 4.03 in an ACK", "40451234", "60831234"),
    ("NON 2.04 on root: 4.03 NON with that MID", "5044ffff", "5083ffff"),
    ("version 2: silence", "80011234", ""),
    ("shorter than a header: silence", "400112", ""),
    ("zero-length token", "40011234", "6045" + "1234c0ff" + VERSION.hex()),
]


@pytest.mark.parametrize(("row", "request_hex", "answer_hex"), MESSAGES, ids=[row for row, _, _ in MESSAGES])
def test_messages(bench: Any, row: str, request_hex: str, answer_hex: str) -> None:
    assert information(bench, bytes.fromhex(request_hex)).hex() == answer_hex, row


def test_fetch_on_a_sensor(bench: Any) -> None:
    assert bench.ask(codes.FETCH, "arduino/temp", "sens")[1] == codes.METHOD_NOT_ALLOWED


def test_paths_are_case_sensitive(bench: Any) -> None:
    assert bench.ask(codes.GET, "ARDUINO/temp", "sens")[1] == codes.NOT_FOUND


def test_no_deduplication(bench: Any) -> None:
    request = bench.coap(codes.GET, "arduino/echo", "sens")
    assert information(bench, request)[-1:] == b"1"
    assert information(bench, request)[-1:] == b"2"


def test_an_rst_does_not_cancel_an_observation(bench: Any) -> None:
    bench.ask(codes.GET, "arduino/temp", "sens", observe=b"")
    bench.wait(60.0)
    notification = decode(bench.fetch())
    information(bench, b"\x70\x00" + notification.mid.to_bytes(2, "big"))
    assert bench.board.observers() == 1


@pytest.mark.parametrize("length", [239, 240, 255])
@pytest.mark.parametrize("mtype", [CON, NON])
def test_a_message_above_239_octets_is_4_13_without_payload(bench: Any, mtype: int, length: int) -> None:
    head = bench.coap(codes.PUT, "arduino/temp", "cfg=C", mtype=mtype) + b"\xff"
    answer = information(bench, head + bytes(length - len(head)))
    expected = codes.CHANGED if length == 239 else codes.REQUEST_ENTITY_TOO_LARGE
    assert answer == bytes(((0x62 if mtype == CON else 0x52), expected)) + head[2:4] + b"\xaa\xbb"


OPTIONS = [
    ("Uri-Host 3", 3, b"x", codes.CONTENT),
    ("Uri-Port 7", 7, b"\x12", codes.CONTENT),
    ("Accept 17", 17, b"\x32", codes.CONTENT),
    ("Block2 23", 23, b"\x03", codes.CONTENT),
    ("Proxy-Uri 35", 35, b"coap://x/", codes.CONTENT),
    ("Proxy-Scheme 39", 39, b"coap", codes.CONTENT),
    ("Max-Age 14", 14, b"\x01", codes.CONTENT),
    ("Content-Format 12", 12, b"\x2a", codes.CONTENT),
    ("ETag 4", 4, b"\x01", codes.CONTENT),
    ("60", 60, b"\x01", codes.CONTENT),
    ("124", 124, b"\x01\x02\x03\x04", codes.CONTENT),
    ("258", 258, b"\x02", codes.CONTENT),
    ("other elective", 2052, b"", codes.CONTENT),
    ("If-Match 1", 1, b"", codes.BAD_OPTION),
    ("If-None-Match 5", 5, b"", codes.BAD_OPTION),
    ("Block1 27", 27, b"\x03", codes.BAD_OPTION),
    ("other critical", 9, b"", codes.BAD_OPTION),
    ("other critical, extended", 2053, b"", codes.BAD_OPTION),
]


@pytest.mark.parametrize(("row", "number", "value", "code"), OPTIONS, ids=[row for row, *_ in OPTIONS])
@pytest.mark.parametrize("mtype", [CON, NON])
def test_options(bench: Any, mtype: int, row: str, number: int, value: bytes, code: int) -> None:
    answer = decode(bench.ask(codes.GET, "arduino/temp", "sens", mtype=mtype, options=[(number, value)]))
    assert (answer.mtype, answer.code) == ((2 if mtype == CON else NON), code), row
    assert bool(answer.payload) == (code == codes.CONTENT)


def test_only_the_first_uri_query_counts(bench: Any) -> None:
    extra = [(URI_QUERY, b"sens"), (URI_QUERY, b"bogus")]
    assert bench.ask(codes.GET, "arduino/temp", options=extra)[1] == codes.CONTENT
    assert bench.ask(codes.GET, "arduino/temp", options=extra[::-1])[1] == codes.NOT_IMPLEMENTED


MALFORMED = [
    ("malformed option after a good one: 4.15", "40011234b161f0", "608f1234"),
    ("value beyond the message after a good one: 4.15", "40011234b1610561", "608f1234"),
    ("extended length beyond the message: 4.15", "40011234b1610d", "608f1234"),
    ("extended delta beyond the message: 4.15", "40011234b161e001", "608f1234"),
    ("malformed first option: option-less, so root", "40011234b561", "60451234c0ff" + VERSION.hex()),
    ("malformed first option, PUT: root's 4.03", "40031234f0", "60831234"),
    ("payload with no options: for the root", "40011234ff61", "60451234c0ff" + VERSION.hex()),
]


@pytest.mark.parametrize(("row", "request_hex", "answer_hex"), MALFORMED, ids=[row for row, _, _ in MALFORMED])
def test_malformed_options(bench: Any, row: str, request_hex: str, answer_hex: str) -> None:
    assert information(bench, bytes.fromhex(request_hex)).hex() == answer_hex, row


FATAL = [
    ("token > 8 bytes", bytes.fromhex("49011234") + bytes(9), "token of 9"),
    ("Observe of 2 bytes", (OBSERVE, b"\x00\x00"), "Observe option of 2"),
    ("Observe of 4 bytes", (OBSERVE, b"\x00\x00\x00\x00"), "Observe option of 4"),
    ("/sys/stats without query", ("sys/stats", None), "null pointer"),
    ("/arduino/echo?cfg", ("arduino/echo", "cfg"), "null handler"),
    ("query of 128 bytes", (URI_QUERY, b"x" * 128), "query of 128"),
    ("option length of 269", bytes.fromhex("40011234be0000") + bytes(150), "269"),
]


@pytest.mark.parametrize(("row", "request_", "reason"), FATAL, ids=[row for row, _, _ in FATAL])
def test_the_never_send_list_crashes_the_board(bench: Any, row: str, request_: Any, reason: str) -> None:
    bench.ask(codes.GET, "arduino/temp", "sens", observe=b"")
    match request_:
        case bytes():
            octets = request_
        case (str() as path, query):
            octets = bench.coap(codes.GET, path, query)
        case option:
            octets = bench.coap(codes.GET, "arduino/temp", options=[option])
    assert information(bench, octets) == b"", row
    (told,) = bench.resets()
    assert reason in told
    assert bench.board.observers() == 0, "registrations are lost"
    assert bench.fetch() == bytes.fromhex("5003ffffb373797304736e73724665763d726274"), "the reboot message waits"
    assert int.from_bytes(bench.ask(codes.GET, "sys/time")[-4:], "big") < 943_920_100, "the clock is lost"


def test_a_query_of_127_octets_is_survived(bench: Any) -> None:
    assert bench.ask(codes.GET, "arduino/temp", "x" * 127)[1] == codes.NOT_IMPLEMENTED
    assert bench.resets() == []


def test_an_empty_path_segment_is_the_root(bench: Any) -> None:
    assert bench.ask(codes.GET, options=[(URI_PATH, b"")])[-34:] == VERSION
