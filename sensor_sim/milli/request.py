"""A CoAP message as the Milli board reads it: more forgiving than RFC 7252 here, fatal there (dialect B.1, B.2).

The pure codec of `meshwire.coap` refuses what this board answers, so the board has its own reader. What overruns the
board's memory raises BoardCrash with the rule that was broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import MAX_TOKEN_OCTETS
from meshwire.coap.options import (
    ACCEPT,
    BLOCK2,
    CONTENT_FORMAT,
    MAX_AGE,
    OBSERVE,
    PROXY_SCHEME,
    PROXY_URI,
    URI_HOST,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    is_critical,
)

__all__ = ["MAX_MESSAGE_OCTETS", "BoardCrash", "Header", "Request", "read_header", "read_request"]

MAX_MESSAGE_OCTETS: Final = 239
"""Longer messages are answered 4.13 unread (A.6)."""
_CRASHING_QUERY_OCTETS: Final = 128
_CRASHING_OBSERVE_OCTETS: Final = (2, 4)
_ACCEPTED: Final = frozenset(
    (URI_HOST, OBSERVE, URI_PORT, URI_PATH, CONTENT_FORMAT, MAX_AGE, URI_QUERY, ACCEPT, BLOCK2, PROXY_URI, PROXY_SCHEME)
)
"""Used, or taken and ignored; any other critical option is a 4.02."""


class BoardCrash(Exception):
    """The request is on the never-send list: the real board hangs or resets (dialect G, last row)."""


class _MalformedOption(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Header:
    """The first four octets and the token."""

    mtype: int
    code: int
    mid: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What the board's resources get to see."""

    header: Header
    path: tuple[bytes, ...] = ()
    query: bytes | None = None
    """The first Uri-Query; others are ignored. None when there is none."""
    observe: bytes | None = None
    payload: bytes = b""
    refusal: int | None = None
    """A response code that the options already earned: 4.02 or 4.15."""


def read_header(data: bytes) -> Header | None:
    """The header, or None when the board stays silent: another version, or no whole header.

    Raises:
        BoardCrash: the token is longer than 8 octets.
    """
    if len(data) < 4 or data[0] >> 6 != 1:
        return None
    token_length = data[0] & 15
    if token_length > MAX_TOKEN_OCTETS:
        raise BoardCrash(f"token of {token_length} octets overruns the board's memory")
    return Header(data[0] >> 4 & 3, data[1], data[2] << 8 | data[3], data[4 : 4 + token_length])


def read_request(header: Header, data: bytes) -> Request:
    """Read options and payload.

    Raises:
        BoardCrash: an option that the board can't survive.
    """
    start = 4 + len(header.token)
    options: list[tuple[int, bytes]] = []
    try:
        payload = data[_read_options(data, start, options) :]
    except _MalformedOption:
        if options:
            return Request(header, refusal=codes.UNSUPPORTED_CONTENT_FORMAT)
        return Request(header)  # a malformed first option: the message counts as option-less, so it is for the root
    unknown = any(is_critical(number) and number not in _ACCEPTED for number, _ in options)
    return Request(
        header,
        path=tuple(value for number, value in options if number == URI_PATH),
        query=next((value for number, value in options if number == URI_QUERY), None),
        observe=next((value for number, value in options if number == OBSERVE), None),
        payload=payload if options else data[start:],  # without options the marker stays part of the payload (B.2)
        refusal=codes.BAD_OPTION if unknown else None,
    )


def _read_options(data: bytes, position: int, options: list[tuple[int, bytes]]) -> int:
    """Append (number, value) pairs; gives the position of the payload."""
    number = 0
    while position < len(data):
        if data[position] == 0xFF:
            return position + 1
        delta, length = data[position] >> 4, data[position] & 15
        if length == 14:
            raise BoardCrash("option of 269 octets or more is not supported by the board")
        delta, position = _extended(data, position + 1, delta)
        length, position = _extended(data, position, length)
        number += delta
        value = data[position : position + length]
        if len(value) < length:
            raise _MalformedOption
        _check_survivable(number, value)
        options.append((number, value))
        position += length
    return position


def _extended(data: bytes, position: int, nibble: int) -> tuple[int, int]:
    if nibble < 13:
        return nibble, position
    width, base = {13: (1, 13), 14: (2, 269)}.get(nibble, (0, 0))
    if not width or position + width > len(data):
        raise _MalformedOption
    return int.from_bytes(data[position : position + width], "big") + base, position + width


def _check_survivable(number: int, value: bytes) -> None:
    if number == OBSERVE and len(value) in _CRASHING_OBSERVE_OCTETS:
        raise BoardCrash(f"Observe option of {len(value)} octets is an unaligned access on the board")
    if number == URI_QUERY and len(value) >= _CRASHING_QUERY_OCTETS:
        raise BoardCrash(f"query of {len(value)} octets overruns the board's memory")
