"""Reading orders: JSON bodies, and the query arguments of a proxied request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from command_parts import request

from gateway.commands.errors import CommandRefused
from gateway.commands.orders import coap_order, order_of, parse_body, split_arguments
from gateway.commands.records import Mode, ReplyTo, target_text
from meshwire.coap import codes, options


def body(**fields: Any) -> bytes:
    return json.dumps({"method": "PUT", "path": "snsr/arduino/temp?cfg=C"} | fields).encode()


def test_a_body_becomes_a_request() -> None:
    order = order_of(parse_body(body(mode="stored", ttl=60, payload="hé", contentFormat=0, accept=60, replace=True)))
    assert (order.mode, order.ttl_s, order.replace, order.idempotent, order.id) == (Mode.STORED, 60, True, False, None)
    message = order.request
    assert (message.code, message.payload) == (codes.PUT, "hé".encode())
    assert message.options == (
        (options.URI_PATH, b"snsr"),
        (options.URI_PATH, b"arduino"),
        (options.URI_PATH, b"temp"),
        (options.CONTENT_FORMAT, b""),
        (options.URI_QUERY, b"cfg=C"),
        (options.ACCEPT, bytes([60])),
    )


@pytest.mark.parametrize(
    ("path", "shown"),
    [("", ""), ("/", ""), ("/a/b", "a/b"), ("a//b", "a//b"), ("a?", "a"), ("a?b&c=d", "a?b&c=d"), ("a%2Fb", "a/b")],
)
def test_paths(path: str, shown: str) -> None:
    assert target_text(order_of(parse_body(body(path=path))).request) == shown


def test_a_payload_in_hexadecimal_digits_and_any_spelling_of_the_method() -> None:
    order = order_of(parse_body(body(method="ipatch", payloadHex="00ff")))
    assert (order.request.code, order.request.payload) == (codes.IPATCH, b"\0\xff")


def test_the_shorter_of_two_lives_counts() -> None:
    reply_to = ReplyTo("acme/cmd/me/res/1", b"c")
    for ttl, expiry, expected in ((60, 5.0, 5.0), (5, 60.0, 5), (None, 7.0, 7.0), (7, None, 7), (None, None, None)):
        order = order_of(parse_body(body(ttl=ttl)), reply_to=reply_to, ttl_s=expiry)
        assert (order.ttl_s, order.reply_to) == (expected, reply_to)


@pytest.mark.parametrize(
    ("octets", "where"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "method"),
        (body(mode="later"), "mode"),
        (body(ttl="soon"), "ttl"),
        (body(ttl=1e999), "ttl"),
        (body(payloadHex="0"), "payloadHex"),
        (body(contentFormat=65_536), "contentFormat"),
        (body(id="x" * 65), "id"),
        (body(when="now"), "when"),
    ],
)
def test_a_body_that_is_none(octets: bytes, where: str) -> None:
    with pytest.raises(CommandRefused, match=where):
        parse_body(octets)


@pytest.mark.parametrize(
    "fields",
    [{"method": "TRACE"}, {"payload": "a", "payloadHex": "61"}, {"path": "a/" + "b" * 256}, {"path": "a?" + "b" * 256}],
)
def test_a_body_that_is_no_request(fields: dict[str, Any]) -> None:
    with pytest.raises(CommandRefused):
        order_of(parse_body(body(**fields)))


# --- over CoAP


@pytest.mark.parametrize(
    ("query", "ours", "rest"),
    [
        ((b"cfg=C",), None, (b"cfg=C",)),
        ((b"mode=eco", b"ttl=5"), None, (b"mode=eco", b"ttl=5")),
        ((b"ttl=5",), None, (b"ttl=5",)),
        ((b"cfg=C", b"mode=stored", b"ttl=5"), (b"mode=stored", b"ttl=5"), (b"cfg=C",)),
        ((b"mode=direct", b"replace", b"x"), (b"mode=direct", b"replace"), (b"x",)),
    ],
)
def test_which_arguments_are_ours(query: tuple[bytes, ...], ours: object, rest: tuple[bytes, ...]) -> None:
    assert split_arguments(query) == (ours, rest)


def test_arguments_become_an_order() -> None:
    order = coap_order((b"mode=stored", b"ttl=1.5", b"replace", b"idempotent=false"), request())
    assert (order.mode, order.ttl_s, order.replace, order.idempotent) == (Mode.STORED, 1.5, True, False)
    assert coap_order((b"mode=direct", b"replace=0", b"idempotent=1"), request()).idempotent


@pytest.mark.parametrize("bad", [b"ttl=soon", b"ttl=inf", b"ttl=", b"replace=maybe", b"mode=stored"])
def test_arguments_that_are_wrong(bad: bytes) -> None:
    with pytest.raises(CommandRefused):
        coap_order((b"mode=stored", bad), request())
