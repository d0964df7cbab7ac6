"""The guard: what never reaches a board, row by row."""

from __future__ import annotations

import pytest

from meshwire.coap import codes
from meshwire.coap.message import CON, Message, encode
from meshwire.coap.options import OBSERVE, PROXY_URI, URI_PATH, URI_QUERY
from nic_sim.board_profile import BOARD_PROFILES, ProfileName
from nic_sim.board_rules import FRAGILE_BOARD_RULES, check_request, normalise
from nic_sim.errors import RequestRefused

MILLI = BOARD_PROFILES[ProfileName.MILLI_1_4_8]
STANDARD = BOARD_PROFILES[ProfileName.STANDARD]


def request(
    path: str,
    query: str | None = None,
    code: int = codes.GET,
    extra: tuple[tuple[int, bytes], ...] = (),
    payload: bytes = b"",
) -> Message:
    options = [(URI_PATH, segment.encode()) for segment in path.strip("/").split("/")]
    options += [] if query is None else [(URI_QUERY, query.encode())]
    return Message(CON, code, 0, b"", (), payload).with_options((*options, *extra))


REFUSED = [
    (request("/sys/stats"), codes.BAD_REQUEST),
    (request("/sys/stats", ""), codes.BAD_REQUEST),
    (request("/sys/stats", "x=1"), codes.BAD_REQUEST),
    (request("/arduino/echo", "cfg"), codes.BAD_REQUEST),
    (request("/other/echo", "cfg=1"), codes.BAD_REQUEST),
    (request("/arduino/temp", "q" * 128), codes.BAD_REQUEST),
    (request("/arduino/temp", "sens", extra=((URI_QUERY, b"q" * 200),)), codes.BAD_REQUEST),
    (request("/arduino/temp", "sens", extra=((OBSERVE, b"\x01\x00"),)), codes.BAD_OPTION),
    (request("/arduino/temp", "sens", extra=((OBSERVE, b"\x01\x00\x00\x00"),)), codes.BAD_OPTION),
    (request("/arduino/temp", "sens", extra=((PROXY_URI, b"c" * 269),)), codes.BAD_OPTION),
    (request("/arduino/temp", "cfg=C", codes.PUT, payload=b"x" * 230), codes.REQUEST_ENTITY_TOO_LARGE),
]

ALLOWED = [
    request("/sys/stats", "mod=coap"),
    request("/arduino/echo", "sens"),
    request("/arduino/echo", "cfg=hello", codes.PUT),
    request("/arduino/temp", "q" * 127),
    request("/arduino/temp", "sens", extra=((OBSERVE, b""),)),
    request("/arduino/temp", "sens", extra=((OBSERVE, b"\x01"),)),
    request("/arduino/temp", "sens", extra=((OBSERVE, b"\x00\x00\x00\x01"),)),
    request("/sys/time", code=codes.PUT, payload=bytes(10)),
]


@pytest.mark.parametrize(("message", "code"), REFUSED)
def test_refused_for_a_fragile_board(message: Message, code: int) -> None:
    with pytest.raises(RequestRefused) as caught:
        check_request(normalise(message), MILLI)
    assert caught.value.response_code == code


@pytest.mark.parametrize("message", [message for message, _ in REFUSED])
def test_a_sturdy_board_gets_it(message: Message) -> None:
    check_request(normalise(message), STANDARD)


@pytest.mark.parametrize("message", ALLOWED)
def test_allowed(message: Message) -> None:
    check_request(normalise(message), MILLI)


def test_long_token_is_refused_before_it_is_encoded() -> None:
    with pytest.raises(RequestRefused):
        check_request(Message(CON, codes.GET, 0, b"123456789"), MILLI)


def test_longest_message_that_fits() -> None:
    bare = len(encode(request("/arduino/temp", "cfg=C", codes.PUT, payload=b"x"))) - 1
    check_request(request("/arduino/temp", "cfg=C", codes.PUT, payload=b"x" * (239 - bare)), MILLI)
    with pytest.raises(RequestRefused):
        check_request(request("/arduino/temp", "cfg=C", codes.PUT, payload=b"x" * (240 - bare)), MILLI)


def test_normalise_spells_it_for_boards() -> None:
    message = normalise(request("/arduino/temp", "", extra=((OBSERVE, b"\x00\x00"),)))
    assert message.option_values(URI_QUERY) == ()
    assert message.option(OBSERVE) == b""


def test_every_rule_says_why() -> None:
    assert all(rule.reason and rule.response_code >> 5 == 4 for rule in FRAGILE_BOARD_RULES)
