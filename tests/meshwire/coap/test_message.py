"""The CoAP codec against RFC 7252 section 3, the dialect's datagrams, and aiocoap as the oracle."""

import aiocoap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwire.coap import ACK, CON, NON, Message, MessageError, decode, encode
from meshwire.coap.codes import CHANGED, CONTENT, GET, POST, code_text
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY, decode_uint, encode_uint

VECTORS = {
    # dialect A.10, CON GET /arduino/temp?sens
    "get temp": (
        "42 01 12 34 aa bb b7 61 72 64 75 69 6e 6f 04 74 65 6d 70 44 73 65 6e 73",
        Message(CON, GET, 0x1234, b"\xaa\xbb", ((11, b"arduino"), (11, b"temp"), (15, b"sens"))),
    ),
    # dialect B.6, the reboot message
    "reboot": (
        "50 03 ff ff b3 73 79 73 04 73 6e 73 72 46 65 76 3d 72 62 74",
        Message(NON, 3, 0xFFFF, b"", ((11, b"sys"), (11, b"snsr"), (15, b"ev=rbt"))),
    ),
    # dialect A.10, a notification: Observe 4, Content-Format 60, Max-Age 90
    "notification": (
        "52 45 f1 08 c0 de 63 00 00 04 61 3c 24 00 00 00 5a ff a2 00",
        Message(NON, CONTENT, 0xF108, b"\xc0\xde", ((6, b"\0\0\4"), (12, b"<"), (14, b"\0\0\0Z")), b"\xa2\0"),
    ),
    # RFC 7252 appendix A, figure 16: empty acknowledgement
    "empty ack": ("60 00 7d 34", Message(ACK, 0, 0x7D34)),
    # extended delta and length, RFC 7252 section 3.1: option 35 of 20 octets, then option 300 with 1 octet
    "extended": (
        "40 02 00 01 dd 16 07" + "61" * 20 + "d1 fc 01",
        Message(CON, POST, 1, b"", ((35, b"a" * 20), (300, b"\x01"))),
    ),
    # delta and length of two octets: option 2000, 300 octets
    "two octets": ("40 02 00 01 ee 06 c3 00 1f" + "62" * 300, Message(CON, POST, 1, b"", ((2000, b"b" * 300),))),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_decodes_and_encodes_octet_for_octet(name: str) -> None:
    octets, message = VECTORS[name]
    assert decode(bytes.fromhex(octets)) == message
    assert encode(message) == bytes.fromhex(octets)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("", "short"),
        ("40 01 00", "short"),
        ("80 01 00 01", "version"),
        ("49 01 00 01 00 00 00 00 00 00 00 00 00", "token-length"),
        ("44 01 00 01 aa", "short"),
        ("40 00 00 01 ff", "empty-with-content"),
        ("41 00 00 01 aa", "empty-with-content"),
        ("40 01 00 01 ff", "payload-marker"),
        ("40 01 00 01 b5 61", "option"),
        ("40 01 00 01 f0", "option"),
        ("40 01 00 01 0f", "option"),
        ("40 01 00 01 d0", "option"),
        ("40 01 00 01 e0 00", "option"),
        ("40 01 00 01 e0 ff ff", "option"),
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(octets: str, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(bytes.fromhex(octets))
    assert caught.value.reason == reason


def test_a_refused_message_still_tells_type_and_id_for_the_reset() -> None:
    with pytest.raises(MessageError) as caught:
        decode(bytes.fromhex("50 01 12 34 f0"))
    assert (caught.value.mtype, caught.value.mid) == (NON, 0x1234)


def test_readers_give_path_query_and_numbers() -> None:
    message = decode(bytes.fromhex(VECTORS["notification"][0]))
    assert message.uint(OBSERVE) == 4
    assert message.uint(URI_PATH) is None
    assert decode(bytes.fromhex(VECTORS["get temp"][0])).path() == ("arduino", "temp")
    assert Message(CON, GET, 1, options=((URI_QUERY, b"a=1"), (URI_QUERY, b"b"))).query() == ("a=1", "b")
    assert str(decode(bytes.fromhex(VECTORS["get temp"][0]))) == "CON GET mid=1234 token=aabb /arduino/temp?sens"


def test_options_are_added_in_order_and_taken_away() -> None:
    message = Message(CON, GET, 1, options=((11, b"a"),)).with_options([(6, b""), (11, b"b")])
    assert message.options == ((6, b""), (11, b"a"), (11, b"b"))
    assert message.without(11).options == ((6, b""),)


@pytest.mark.parametrize(("value", "octets"), [(0, b""), (1, b"\x01"), (255, b"\xff"), (256, b"\x01\0")])
def test_unsigned_integers_are_as_short_as_can_be(value: int, octets: bytes) -> None:
    assert encode_uint(value) == octets
    assert decode_uint(b"\0" + octets) == value


def test_codes_have_the_text_of_the_standard() -> None:
    assert [code_text(code) for code in (GET, CHANGED, 0x84, 0xA0)] == ["GET", "2.04", "4.04", "5.00"]


option_pairs = st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=300)), max_size=8)
messages = st.builds(
    Message,
    mtype=st.integers(0, 3),
    code=st.integers(1, 255),
    mid=st.integers(0, 0xFFFF),
    token=st.binary(max_size=8),
    options=option_pairs.map(lambda pairs: tuple(sorted(pairs, key=lambda pair: pair[0]))),
    payload=st.binary(max_size=100),
)


@given(messages)
def test_what_is_encoded_decodes_to_the_same(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.one_of(st.binary(max_size=64), messages.map(encode)))
@settings(max_examples=400)
def test_aiocoap_decodes_and_refuses_alike(octets: bytes) -> None:
    """aiocoap is the oracle; the places where it is laxer than RFC 7252 are named here."""
    try:
        ours: Message | None = decode(octets)
    except MessageError as error:
        if error.reason in ("empty-with-content", "payload-marker", "token-length", "short"):
            return  # RFC 7252 sections 3 and 4.1 call these format errors; aiocoap lets some of them pass
        ours = None
    try:
        theirs: aiocoap.Message | None = aiocoap.Message.decode(octets)
    except aiocoap.error.UnparsableMessage:
        theirs = None
    except ValueError:
        return  # an option value that aiocoap refuses to interpret; framing is what is compared
    if theirs is None or ours is None:
        assert ours is None and theirs is None
        return
    assert (ours.mid, ours.token, ours.payload) == (theirs.mid, theirs.token, theirs.payload)
    assert (ours.mtype, ours.code) == (int(theirs.mtype), int(theirs.code))
    assert [number for number, _ in ours.options] == [int(o.number) for o in theirs.opt.option_list()]
