"""CoAP option numbers, and the unsigned integers that many of them hold (RFC 7252 sections 3.2 and 5.4)."""

from __future__ import annotations

from typing import Final

__all__ = ["decode_uint", "encode_uint", "is_critical", "is_unsafe_to_forward"]

IF_MATCH: Final = 1
URI_HOST: Final = 3
ETAG: Final = 4
IF_NONE_MATCH: Final = 5
OBSERVE: Final = 6
URI_PORT: Final = 7
LOCATION_PATH: Final = 8
OSCORE: Final = 9
URI_PATH: Final = 11
CONTENT_FORMAT: Final = 12
MAX_AGE: Final = 14
URI_QUERY: Final = 15
HOP_LIMIT: Final = 16
ACCEPT: Final = 17
LOCATION_QUERY: Final = 20
BLOCK2: Final = 23
BLOCK1: Final = 27
SIZE2: Final = 28
PROXY_URI: Final = 35
PROXY_SCHEME: Final = 39
SIZE1: Final = 60
ENDPOINT_ID: Final = 124
"""Endpoint-ID-1 of an expired draft that nCoAP clients still send; elective, ignored."""
ECHO: Final = 252
"""Proof that who asks is there now (RFC 9175 section 2)."""
NO_RESPONSE: Final = 258

TEXT: Final = 0
LINK_FORMAT: Final = 40
OCTET_STREAM: Final = 42
JSON: Final = 50
CBOR: Final = 60
SENML_JSON: Final = 110
"""Content formats (RFC 7252 section 12.3, RFC 7049, RFC 8428)."""


def is_critical(number: int) -> bool:
    """Odd numbers must be understood (RFC 7252 section 5.4.6)."""
    return bool(number & 1)


def is_unsafe_to_forward(number: int) -> bool:
    """Bit 1 says that a proxy must understand the option to forward it (RFC 7252 section 5.4.6)."""
    return bool(number & 2)


def encode_uint(value: int) -> bytes:
    """A non-negative integer in the fewest octets; zero is no octet."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode_uint(octets: bytes) -> int:
    """The integer that the octets hold, leading zeros allowed."""
    return int.from_bytes(octets, "big")
