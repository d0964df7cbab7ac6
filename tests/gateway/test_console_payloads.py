"""Octets as people read them; where a browser reaches a broker; a plan beside its use."""

import pytest

from gateway.console.address_pages import plan_figures
from gateway.console.mqtt_client_pages import origin_of
from gateway.console.payloads import SHOWN_OCTETS, shown_payload
from gateway.console.rendering import _headers, is_socket_origin
from gateway.operations.records import Listener, PlanUse


@pytest.mark.parametrize(
    ("octets", "content_type", "text", "kind"),
    [
        (b"hello", None, "hello", "text"),
        ("grün".encode(), None, "grün", "text"),
        (b'{"a": 1}', None, '{"a": 1}', "JSON"),
        (b"12", None, "12", "text"),
        (b'{"a": ', None, '{"a": ', "text"),
        (b"\xa1\x01\x02", "application/cbor", "a1 01 02", "CBOR"),
        (b"\xa1\x01\x02", "application/senml+cbor; x=1", "a1 01 02", "CBOR"),
        (b"\xff\xfe", None, "ff fe", "hex"),
        (b"a\x00b", None, "61 00 62", "hex"),
        (b"", None, "", "text"),
        (b"[" * 2000, None, "[" * 2000, "text"),
    ],
)
def test_payloads(octets: bytes, content_type: str | None, text: str, kind: str) -> None:
    shown = shown_payload(octets, content_type)
    assert (shown.text, shown.kind, shown.octets, shown.is_cut) == (text, kind, len(octets), False)


def test_a_long_payload_is_cut_also_within_a_character() -> None:
    shown = shown_payload("ü".encode() * SHOWN_OCTETS, None)
    assert (shown.kind, shown.is_cut, len(shown.text)) == ("text", True, SHOWN_OCTETS // 2)
    assert shown_payload(b"x" + "ü".encode() * SHOWN_OCTETS, None).kind == "text"


@pytest.mark.parametrize(
    ("kind", "host", "origin"),
    [
        ("ws", "127.0.0.1", "ws://127.0.0.1:80"),
        ("wss", "broker.example", "wss://broker.example:80"),
        ("ws", "0.0.0.0", "ws://console.example:80"),
        ("ws", "::", "ws://console.example:80"),
        ("ws", "", "ws://console.example:80"),
        ("ws", "fd00::1", "ws://[fd00::1]:80"),
        ("mqtt", "127.0.0.1", None),
    ],
)
def test_where_a_browser_reaches_a_listener(kind: str, host: str, origin: str | None) -> None:
    assert origin_of(Listener(kind=kind, host=host, port=80), "console.example") == origin


@pytest.mark.parametrize("origin", ["http://x:1", "ws://x:1; script-src *", "ws://x", "ws://*:1", "ws://x:1/path"])
def test_nothing_but_an_origin_gets_into_the_policy(origin: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        _headers(origin)


def test_a_plan_stands_beside_what_is_used() -> None:
    use = PlanUse(
        plan={"max_connections": 5, "max_messages_per_s": 2.0, "max_addresses": None},
        connections=3,
        queued_messages=0,
        queued_octets=0,
        addresses=1,
    )
    figures = {each["name"]: (each["used"], each["most"]) for each in plan_figures(use)}
    assert figures == {
        "Addresses": (1, None),
        "Connections": (3, 5),
        "Messages that wait": (0, None),
        "Octets that wait": (0, None),
        "Messages a second": (None, 2.0),
    }


@pytest.mark.parametrize("host", ["we!rd", "a b", "x;y", "fe80::1%eth0", ""])
def test_a_host_that_is_none_makes_no_origin(host: str) -> None:
    origin = origin_of(Listener(kind="ws", host="0.0.0.0", port=80), host)
    assert origin is None or not is_socket_origin(origin)
