"""The test vectors of RFC 8613 appendix C, octet for octet, and the option's own rules (section 6.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.coap import decode, encode
from meshwire.oscore import OscoreError, OscoreKey, OscoreOption, RequestId, Response
from meshwire.oscore.option import partial_iv
from meshwire.oscore.protection import Protection

SECRET = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
SALT = bytes.fromhex("9e7ca92223786340")
CONTEXT = bytes.fromhex("37cbf3210017a2d3")

KEYS = {
    # salt, sender id, recipient id, id context, sender key, recipient key, common IV
    "C.1.1": (SALT, "", "01", None, "f0910ed7295e6ad4b54fc793154302ff", "ffb14e093c94c9cac9471648b4f98710",
              "4622d4dd6d944168eefb54987c"),
    "C.1.2": (SALT, "01", "", None, "ffb14e093c94c9cac9471648b4f98710", "f0910ed7295e6ad4b54fc793154302ff",
              "4622d4dd6d944168eefb54987c"),
    "C.2.1": (b"", "00", "01", None, "321b26943253c7ffb6003b0b64d74041", "e57b5635815177cd679ab4bcec9d7dda",
              "be35ae297d2dace910c52e99f9"),
    "C.2.2": (b"", "01", "00", None, "e57b5635815177cd679ab4bcec9d7dda", "321b26943253c7ffb6003b0b64d74041",
              "be35ae297d2dace910c52e99f9"),
    "C.3.1": (SALT, "", "01", CONTEXT, "af2a1300a5e95788b356336eeecd2b92", "e39a0c7c77b43f03b4b39ab9a268699f",
              "2ca58fb85ff1b81c0b7181b85e"),
    "C.3.2": (SALT, "01", "", CONTEXT, "e39a0c7c77b43f03b4b39ab9a268699f", "af2a1300a5e95788b356336eeecd2b92",
              "2ca58fb85ff1b81c0b7181b85e"),
}  # fmt: skip

REQUESTS = {
    # key, plain, protected; the sequence number is 20
    "C.4": ("C.1.1", "44015d1f00003974396c6f63616c686f737483747631",
            "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e"),
    "C.5": ("C.2.1", "440171c30000b932396c6f63616c686f737483747631",
            "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0"),
    "C.6": ("C.3.1", "44012f8eef9bbf7a396c6f63616c686f737483747631",
            "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3"),
}  # fmt: skip

RESPONSES = {
    # own sequence number, protected
    "C.7": (None, "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"),
    "C.8": (b"\x00", "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"),
}
PLAIN_RESPONSE = "64455d1f00003974ff48656c6c6f20576f726c6421"


def key(name: str) -> OscoreKey:
    salt, sender, recipient, context, *_ = KEYS[name]
    return OscoreKey.derive(
        SECRET, salt, sender_id=bytes.fromhex(sender), recipient_id=bytes.fromhex(recipient), id_context=context
    )


@pytest.mark.parametrize("name", KEYS)
def test_keys(name: str) -> None:
    made = key(name)
    assert (made.sender_key.hex(), made.recipient_key.hex(), made.common_iv.hex()) == KEYS[name][4:]


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    context, plain, protected = REQUESTS[name]
    ours, _ = Protection(key(context)).protect_request(decode(bytes.fromhex(plain)), b"\x14")
    assert encode(ours).hex() == protected
    theirs = decode(bytes.fromhex(protected))
    header = OscoreOption.parse(theirs.option(9) or b"")
    opened, request_id = Protection(key(context[:-1] + "2")).open_request(theirs, header)
    assert encode(opened).hex() == plain
    assert (request_id.key_id, request_id.partial_iv) == (bytes.fromhex(KEYS[context][1]), b"\x14")


@pytest.mark.parametrize("name", RESPONSES)
def test_responses(name: str) -> None:
    number, protected = RESPONSES[name]
    plain = decode(bytes.fromhex(PLAIN_RESPONSE))
    wanted = decode(bytes.fromhex(protected))
    request_id = RequestId(b"", b"\x14", 2)
    answer = Response(plain.code, plain.options, plain.payload)
    ours = Protection(key("C.1.2")).protect_response(answer, request_id, number)
    assert (ours.code, ours.options, ours.payload) == (wanted.code, wanted.options, wanted.payload)
    opened, theirs = Protection(key("C.1.1")).open_response(ours, request_id)
    assert (opened, theirs) == (answer, None if number is None else 0)


@given(
    st.none() | st.binary(min_size=1, max_size=5),
    st.none() | st.binary(max_size=7),
    st.none() | st.binary(max_size=20),
)
def test_option_values_come_back(number: bytes | None, key_id: bytes | None, context: bytes | None) -> None:
    option = OscoreOption(number, key_id, context)
    assert OscoreOption.parse(option.encode()) == option


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("00", "an empty header has no octet (section 6.1)"),
        ("0600", "partial IV of 6 octets"),
        ("0700", "partial IV of 7 octets"),
        ("02aa", "partial IV is cut"),
        ("21aa", "reserved flag"),
        ("41aa", "reserved flag"),
        ("81aa", "reserved flag"),
        ("11aa", "no length of the context"),
        ("19aa03bbbb", "context is cut"),
        ("01aabb", "octets behind the partial IV, and no kid"),
    ],
)
def test_values_that_are_none(value: str, meaning: str) -> None:
    with pytest.raises(OscoreError, match="malformed"):
        OscoreOption.parse(bytes.fromhex(value))


@given(st.binary(max_size=32))
def test_any_octets_are_read_or_refused(value: bytes) -> None:
    try:
        option = OscoreOption.parse(value)
    except OscoreError:
        return
    assert option.encode() == value


@pytest.mark.parametrize(("number", "octets"), [(0, "00"), (255, "ff"), (256, "0100"), ((1 << 40) - 1, "ffffffffff")])
def test_partial_ivs_are_as_short_as_they_can_be(number: int, octets: str) -> None:
    assert partial_iv(number).hex() == octets
