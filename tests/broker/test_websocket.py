"""RFC 6455 as octets: handshake, frames in any cut, what is refused and how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.websocket import CloseCode, WebSocket, binary_header

MASK = b"\x37\xfa\x21\x3d"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""Of RFC 6455 section 1.3, with its answer."""
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def request(**changes: str | None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "broker.example",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "chat, mqtt",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join(["GET /mqtt HTTP/1.1", *lines, "", ""]).encode()


def frame(
    payload: bytes, opcode: int = 2, *, final: bool = True, mask: bytes | None = MASK, reserved: int = 0
) -> bytes:
    first = opcode | (0x80 if final else 0) | reserved
    masked = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 65_536:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    if not mask:
        return head + payload
    return head + mask + bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload))


def opened() -> WebSocket:
    websocket = WebSocket()
    assert websocket.receive(request()) == b""
    websocket.take_output()
    return websocket


def test_the_handshake_of_the_standards_example() -> None:
    websocket = WebSocket()
    for octet in request():
        assert not websocket.is_open
        websocket.receive(bytes((octet,)))
    answer = websocket.take_output()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT in answer
    assert b"Sec-WebSocket-Protocol: mqtt\r\n" in answer
    assert websocket.is_open


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(Upgrade="h2c"), b"426"),
        (request(Connection="close"), b"426"),
        (request(Sec_WebSocket_Version="8"), b"426"),
        (request(Sec_WebSocket_Key="c2hvcnQ="), b"400"),
        (request(Sec_WebSocket_Key="?"), b"400"),
        (request(Sec_WebSocket_Protocol="chat"), b"400"),
        (request(Sec_WebSocket_Protocol=None), b"400"),
        (request(Host=None), b"400"),
        (request().replace(b"GET", b"POST"), b"400"),
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), b"400"),
        (b"\x10\x0c\x00\x04MQTT\x04\r\n\r\n", b"400"),
        (b"\x10", b"400"),
        (b"GET\r", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"x" * 9_000, b"431"),
    ],
)
def test_a_handshake_that_does_not_hold(head: bytes, status: bytes) -> None:
    websocket = WebSocket()
    assert websocket.receive(head) == b""
    assert websocket.take_output().startswith(b"HTTP/1.1 " + status)
    assert websocket.is_finished
    assert websocket.has_failed
    assert websocket.receive(frame(b"x")) == b""


def test_the_older_name_of_the_protocol_is_known() -> None:
    websocket = WebSocket()
    websocket.receive(request(Sec_WebSocket_Protocol="mqttv3.1"))
    assert b"Sec-WebSocket-Protocol: mqttv3.1\r\n" in websocket.take_output()


@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans(), st.booleans()), max_size=6), st.integers(1, 50))
def test_the_octets_come_out_whatever_the_frames_and_segments(
    parts: list[tuple[bytes, bool, bool]], segment: int
) -> None:
    octets, expected, pings, is_open = b"", b"", 0, False
    for payload, final, with_ping in parts:
        octets += frame(payload, 0 if is_open else 2, final=final)
        is_open = not final
        expected += payload
        if with_ping:
            octets += frame(b"ping", 9)
            pings += 1
    websocket, received = opened(), b""
    for start in range(0, len(octets), segment):
        received += websocket.receive(octets[start : start + segment])
    assert received == expected
    assert websocket.take_output() == b"\x8a\x04ping" * pings
    assert websocket.is_open


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_every_form_of_the_length(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    assert opened().receive(frame(payload[:size])) == payload[:size]
    head = binary_header(size)
    assert frame(payload[:size], mask=None) == head + payload[:size]


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(b"x", mask=None), CloseCode.PROTOCOL_ERROR),
        (frame(b"x", reserved=0x40), CloseCode.PROTOCOL_ERROR),
        (frame(b"x", 1), CloseCode.UNSUPPORTED_DATA),
        (frame(b"x", 3), CloseCode.PROTOCOL_ERROR),
        (frame(b"x", 11), CloseCode.PROTOCOL_ERROR),
        (frame(b"x", 0), CloseCode.PROTOCOL_ERROR),
        (frame(b"x", 2, final=False) + frame(b"y", 2), CloseCode.PROTOCOL_ERROR),
        (frame(b"x", 9, final=False), CloseCode.PROTOCOL_ERROR),
        (frame(b"x" * 126, 9), CloseCode.PROTOCOL_ERROR),
        (b"\x82\xff" + b"\xff" * 8 + MASK, CloseCode.PROTOCOL_ERROR),
        (frame(b"\x03", 8), CloseCode.PROTOCOL_ERROR),
        (frame((999).to_bytes(2, "big"), 8), CloseCode.PROTOCOL_ERROR),
        (frame((1_005).to_bytes(2, "big"), 8), CloseCode.PROTOCOL_ERROR),
        (frame((2_999).to_bytes(2, "big"), 8), CloseCode.PROTOCOL_ERROR),
        (frame((5_000).to_bytes(2, "big"), 8), CloseCode.PROTOCOL_ERROR),
        (frame(b"\x03\xe8\xff", 8), CloseCode.INVALID_PAYLOAD),
    ],
)
def test_a_frame_that_breaks_a_rule_ends_the_connection(octets: bytes, code: CloseCode) -> None:
    websocket = opened()
    websocket.receive(octets)
    assert websocket.take_output() == b"\x88\x02" + code.to_bytes(2, "big")
    assert (websocket.is_finished, websocket.has_failed) == (True, True)


@pytest.mark.parametrize("code", [1_000, 1_001, 1_003, 1_007, 1_011, 3_000, 4_999])
def test_a_close_is_answered_with_its_code(code: int) -> None:
    websocket = opened()
    websocket.receive(frame(code.to_bytes(2, "big") + "grüß".encode(), 8))
    assert websocket.take_output() == b"\x88\x02" + code.to_bytes(2, "big")
    assert not websocket.has_failed


def test_closing_from_either_side() -> None:
    websocket = opened()
    assert websocket.receive(frame(b"a") + frame(b"\x03\xe8bye", 8) + frame(b"late")) == b"a"
    assert websocket.take_output() == b"\x88\x02\x03\xe8"
    assert (websocket.is_finished, websocket.has_failed) == (True, False)
    websocket = opened()
    websocket.close()
    assert websocket.take_output() == b"\x88\x02\x03\xe8"
    websocket.close()
    assert websocket.take_output() == b""


@given(st.binary(max_size=400))
def test_no_octets_raise_and_nothing_is_hoarded(noise: bytes) -> None:
    websocket = opened()
    websocket.receive(noise)
    assert len(websocket._buffer) <= 14
