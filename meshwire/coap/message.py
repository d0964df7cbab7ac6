"""A CoAP message and its octets over UDP and HDLC (RFC 7252 section 3).

Does: encode and decode one message, keep options in the order of the wire. Does not: judge critical options,
assemble blocks, match tokens, repeat. The caller owes a message no longer than its transport can carry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from meshwire.coap.codes import code_text
from meshwire.coap.options import URI_PATH, URI_QUERY, decode_uint

__all__ = ["ACK", "CON", "NON", "RST", "Message", "MessageError", "decode", "encode"]

CON: Final = 0
NON: Final = 1
ACK: Final = 2
RST: Final = 3
_TYPE_NAMES: Final = ("CON", "NON", "ACK", "RST")

MAX_TOKEN_OCTETS: Final = 8


class MessageError(ValueError):
    """The octets are no CoAP message; `reason` is a stable word for counters.

    `mid` and `mtype` are what the header said, when there was one: a confirmable message that can't be read is
    answered by a Reset with its message ID (RFC 7252 section 4.2).
    """

    def __init__(self, reason: str, *, mtype: int | None = None, mid: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mtype = mtype
        self.mid = mid


@dataclass(frozen=True, slots=True)
class Message:
    """One CoAP message. `options` are (number, value) pairs, ascending; equal numbers keep their order."""

    mtype: int
    code: int
    mid: int
    token: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""

    def option(self, number: int) -> bytes | None:
        """The first value of an option, or None."""
        for candidate, value in self.options:
            if candidate == number:
                return value
        return None

    def option_values(self, number: int) -> tuple[bytes, ...]:
        """All values of a repeatable option."""
        return tuple(value for candidate, value in self.options if candidate == number)

    def uint(self, number: int) -> int | None:
        """The first value of an option, read as unsigned integer, or None."""
        value = self.option(number)
        return None if value is None else decode_uint(value)

    def path(self) -> tuple[str, ...]:
        """Uri-Path segments; octets that are not UTF-8 become replacement characters."""
        return tuple(value.decode(errors="replace") for value in self.option_values(URI_PATH))

    def query(self) -> tuple[str, ...]:
        """Uri-Query arguments, read like `path`."""
        return tuple(value.decode(errors="replace") for value in self.option_values(URI_QUERY))

    def without(self, *numbers: int) -> Message:
        """The same message without the options named."""
        return replace(self, options=tuple(pair for pair in self.options if pair[0] not in numbers))

    def with_options(self, extra: Iterable[tuple[int, bytes]]) -> Message:
        """The same message with options added, in ascending order."""
        return replace(self, options=tuple(sorted((*self.options, *extra), key=lambda pair: pair[0])))

    def __str__(self) -> str:
        line = f"{_TYPE_NAMES[self.mtype]} {code_text(self.code)} mid={self.mid:04x} token={self.token.hex() or '-'}"
        if path := "/".join(self.path()):
            line += f" /{path}"
        if query := "&".join(self.query()):
            line += f"?{query}"
        return f"{line} {len(self.payload)} octets" if self.payload else line


def encode(message: Message) -> bytes:
    """The octets of a message (RFC 7252 figures 7 and 8).

    Raises:
        ValueError: a field is out of range or the options are not ascending.
    """
    token = message.token
    if len(token) > MAX_TOKEN_OCTETS:
        raise ValueError(f"token of {len(token)} octets; at most {MAX_TOKEN_OCTETS}")
    octets = bytearray((0x40 | message.mtype << 4 | len(token), message.code))
    octets += message.mid.to_bytes(2, "big")
    octets += token
    last = 0
    for number, value in message.options:
        delta, length = number - last, len(value)
        if delta < 0:
            raise ValueError("options are not in ascending order")
        last = number
        if delta < 13 and length < 13:
            octets.append(delta << 4 | length)
        else:
            delta_nibble, delta_octets = _extend(delta)
            length_nibble, length_octets = _extend(length)
            octets.append(delta_nibble << 4 | length_nibble)
            octets += delta_octets
            octets += length_octets
        octets += value
    if message.payload:
        octets.append(0xFF)
        octets += message.payload
    return bytes(octets)


def _extend(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")


def decode(data: bytes) -> Message:
    """Read one message from a whole datagram or SDU.

    Raises:
        MessageError: with the reason `short`, `version`, `token-length`, `empty-with-content`, `option`, or
            `payload-marker`.
    """
    if len(data) < 4:
        raise MessageError("short")
    first = data[0]
    if first >> 6 != 1:
        raise MessageError("version")
    mtype, token_length, code, mid = first >> 4 & 3, first & 15, data[1], data[2] << 8 | data[3]
    if token_length > MAX_TOKEN_OCTETS:
        raise MessageError("token-length", mtype=mtype, mid=mid)
    position = 4 + token_length
    end = len(data)
    if position > end:
        raise MessageError("short", mtype=mtype, mid=mid)
    if code == 0 and end > 4:
        raise MessageError("empty-with-content", mtype=mtype, mid=mid)
    options: list[tuple[int, bytes]] = []
    number = 0
    while position < end:
        octet = data[position]
        position += 1
        if octet == 0xFF:
            if position == end:
                raise MessageError("payload-marker", mtype=mtype, mid=mid)
            break
        delta, length = octet >> 4, octet & 15
        if delta > 12 or length > 12:
            try:
                delta, position = _extended(data, position, delta)
                length, position = _extended(data, position, length)
            except (IndexError, ValueError):
                raise MessageError("option", mtype=mtype, mid=mid) from None
        number += delta
        if number > 0xFFFF or position + length > end:
            raise MessageError("option", mtype=mtype, mid=mid)
        options.append((number, data[position : position + length]))
        position += length
    return Message(mtype, code, mid, data[4 : 4 + token_length], tuple(options), data[position:])


def _extended(data: bytes, position: int, nibble: int) -> tuple[int, int]:
    if nibble < 13:
        return nibble, position
    if nibble == 13:
        return data[position] + 13, position + 1
    if nibble == 14:
        return (data[position] << 8 | data[position + 1]) + 269, position + 2
    raise ValueError("reserved nibble 15")
