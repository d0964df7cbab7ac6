"""MQTT over WebSocket (MQTT 5.0 section 6, RFC 6455), server side: opening handshake and frames, as octets in and
octets out. No socket, no clock, no extensions.

Does: the handshake with sub-protocol `mqtt` or `mqttv3.1`, unmasking, fragmentation, ping, close; the payload of binary
frames is a stream of octets, whatever the frame boundaries ([MQTT-6.0.0-2]), so a frame is never held in whole.
Does not: know MQTT packets or login.
The caller owes: send what `take_output` gives; close the transport when `is_finished`.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["CloseCode", "WebSocket", "binary_header"]

SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
_METHOD: Final = b"GET "
MAX_HEAD_OCTETS: Final = 8_192
MAX_CONTROL_OCTETS: Final = 125
_CLOSE_CODES: Final = frozenset({*range(1_000, 1_004), *range(1_007, 1_015)})
"""Codes below 3000 that an endpoint may send (RFC 6455 section 7.4.1 and IANA's registry)."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """RFC 6455 section 7.4.1."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007


class _Refusal(Exception):
    """The handshake does not hold."""

    def __init__(self, status: str, *headers: str) -> None:
        super().__init__(status)
        self.response = "\r\n".join((f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""))


class _Violation(Exception):
    """A frame breaks a rule."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(slots=True)
class _Frame:
    """A frame whose payload is arriving."""

    opcode: int
    is_final: bool
    mask: bytes
    left: int
    taken: int = 0


class WebSocket:
    """One connection, from the first octet of the HTTP request on."""

    def __init__(self) -> None:
        self.is_open = False
        """The handshake is done and no close was seen."""
        self.is_finished = False
        """Nothing more comes; close the transport after sending."""
        self.has_failed = False
        """The peer broke a rule."""
        self._buffer = bytearray()
        self._output: list[bytes] = []
        self._frame: _Frame | None = None
        self._control = bytearray()
        self._is_fragmented = False

    def take_output(self) -> bytes:
        """Octets to send now."""
        data, self._output = b"".join(self._output), []
        return data

    def receive(self, data: bytes) -> bytes:
        """Takes octets from the transport; returns the MQTT octets among them."""
        if self.is_finished:
            return b""
        self._buffer += data
        try:
            if not self.is_open and not self._handshake():
                return b""
            return self._frames()
        except _Refusal as refusal:
            self._output.append(refusal.response.encode())
            self.is_finished = self.has_failed = True
        except _Violation as violation:
            self.has_failed = True
            self.close(violation.code)
        return b""

    def close(self, code: CloseCode = CloseCode.NORMAL) -> None:
        """Our side closes (RFC 6455 section 5.5.1); nothing is sent after it."""
        if self.is_open:
            self._output.append(b"\x88\x02" + code.to_bytes(2, "big"))
        self._finish()

    def _finish(self) -> None:
        self.is_open, self.is_finished = False, True
        self._buffer.clear()

    # --- opening handshake ------------------------------------------------------------------------------------------

    def _handshake(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_OCTETS:
                raise _Refusal("431 Request Header Fields Too Large")
            if not _METHOD.startswith(self._buffer[: len(_METHOD)]):  # who speaks MQTT here is not left waiting
                raise _Refusal("400 Bad Request")
            return False
        if end > MAX_HEAD_OCTETS:
            raise _Refusal("431 Request Header Fields Too Large")
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        key, chosen = _judge(head)
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        self._output.append(
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n"
            ).encode()
        )
        self.is_open = True
        return True

    # --- frames -------------------------------------------------------------------------------------------------------

    def _frames(self) -> bytes:
        collected: list[bytes] = []
        while self.is_open:
            if self._frame is None:
                self._frame = self._header()
                if self._frame is None:
                    break
            frame = self._frame
            part = self._payload(frame)
            if frame.opcode >= Opcode.CLOSE:
                self._control += part
            elif part:
                collected.append(part)
            if frame.left:
                break
            self._frame = None
            if frame.opcode >= Opcode.CLOSE:
                self._on_control(frame.opcode)
        return collected[0] if len(collected) == 1 else b"".join(collected)

    def _header(self) -> _Frame | None:
        """RFC 6455 section 5.2; None while it is incomplete."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, is_final = first & 0x0F, bool(first & 0x80)
        if first & 0x70 or not second & 0x80:  # reserved bits; unmasked (section 5.1)
            raise _Violation(CloseCode.PROTOCOL_ERROR)
        length = second & 0x7F
        self._check_opcode(opcode, is_final, length)
        extra = 2 if length == 126 else 8 if length == 127 else 0
        if len(buffer) < 6 + extra:
            return None
        if extra:
            length = int.from_bytes(buffer[2 : 2 + extra], "big")
            if length >> 63:
                raise _Violation(CloseCode.PROTOCOL_ERROR)
        mask = bytes(buffer[2 + extra : 6 + extra])
        del buffer[: 6 + extra]
        if opcode < Opcode.CLOSE:
            self._is_fragmented = not is_final
        return _Frame(opcode, is_final, mask, length)

    def _check_opcode(self, opcode: int, is_final: bool, length: int) -> None:
        if opcode >= Opcode.CLOSE:
            if not is_final or length > MAX_CONTROL_OCTETS or opcode > Opcode.PONG:
                raise _Violation(CloseCode.PROTOCOL_ERROR)  # section 5.5
        elif opcode == Opcode.TEXT:
            raise _Violation(CloseCode.UNSUPPORTED_DATA)  # [MQTT-6.0.0-1]
        elif opcode > Opcode.BINARY or (opcode == Opcode.CONTINUATION) is not self._is_fragmented:
            raise _Violation(CloseCode.PROTOCOL_ERROR)  # section 5.4

    def _payload(self, frame: _Frame) -> bytes:
        """What is there of the frame's payload, unmasked (section 5.3)."""
        count = min(frame.left, len(self._buffer))
        if not count:
            return b""
        part = bytes(self._buffer[:count])
        del self._buffer[:count]
        turn = frame.taken % 4
        key = (frame.mask[turn:] + frame.mask[:turn]) * (count // 4 + 1)
        frame.left -= count
        frame.taken += count
        plain = int.from_bytes(part, "little") ^ int.from_bytes(key[:count], "little")
        return plain.to_bytes(count, "little")

    def _on_control(self, opcode: int) -> None:
        payload, self._control = bytes(self._control), bytearray()
        if opcode == Opcode.PING:
            self._output.append(bytes((0x80 | Opcode.PONG, len(payload))) + payload)
        elif opcode == Opcode.CLOSE:
            _check_close(payload)
            code = payload[:2]
            self._output.append(bytes((0x80 | Opcode.CLOSE, len(code))) + code)
            self._finish()


def _check_close(payload: bytes) -> None:
    """RFC 6455 sections 5.5.1 and 7.4: nothing, or a code that may be sent and a reason in UTF-8."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in _CLOSE_CODES or 3_000 <= code <= 4_999):
        raise _Violation(CloseCode.PROTOCOL_ERROR)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _Violation(CloseCode.INVALID_PAYLOAD) from None


def binary_header(octets: int) -> bytes:
    """Head of an unmasked, final binary frame with so many octets."""
    if octets < 126:
        return bytes((0x82, octets))
    if octets < 65_536:
        return b"\x82\x7e" + octets.to_bytes(2, "big")
    return b"\x82\x7f" + octets.to_bytes(8, "big")


def _judge(head: bytes) -> tuple[bytes, str]:
    """RFC 6455 section 4.2.1: (key, chosen sub-protocol)."""
    try:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, _path, version = request.split(" ")
    except ValueError:
        raise _Refusal("400 Bad Request") from None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers[name] = f"{headers[name]},{value.strip()}" if name in headers else value.strip()
    if method != "GET" or version != "HTTP/1.1" or "host" not in headers:
        raise _Refusal("400 Bad Request")
    if "websocket" not in _tokens(headers, "upgrade") or "upgrade" not in _tokens(headers, "connection"):
        raise _Refusal("426 Upgrade Required", "Upgrade: websocket")
    if headers.get("sec-websocket-version") != "13":
        raise _Refusal("426 Upgrade Required", "Sec-WebSocket-Version: 13")
    key = headers.get("sec-websocket-key", "").encode("latin-1")
    offered = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
    chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
    if not _is_key(key) or chosen is None:  # [MQTT-6.0.0-3]
        raise _Refusal("400 Bad Request")
    return key, chosen


def _tokens(headers: dict[str, str], name: str) -> set[str]:
    return {part.strip().lower() for part in headers.get(name, "").split(",")}


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
