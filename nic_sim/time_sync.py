"""The board's clock: the request that sets it (dialect B.3). When it is set is decided in `observations`."""

from __future__ import annotations

import struct
from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import CON, Message
from meshwire.coap.options import CONTENT_FORMAT, OCTET_STREAM, URI_PATH, encode_uint

__all__ = ["absolute_time", "set_time_request"]

_RECORD: Final = struct.Struct(">BBII")
_ABSOLUTE_TIME: Final = 6
"""Record type 6: absolute time; then the length of what follows, seconds and milliseconds (dialect C)."""


def absolute_time(unix_s: float) -> bytes:
    """The record `06 08 ssssssss mmmmmmmm`, big-endian, UTC."""
    seconds = int(unix_s)
    return _RECORD.pack(_ABSOLUTE_TIME, 8, seconds & 0xFFFFFFFF, int((unix_s - seconds) * 1000))


def set_time_request(unix_s: float) -> Message:
    """PUT /sys/time."""
    options = ((URI_PATH, b"sys"), (URI_PATH, b"time"), (CONTENT_FORMAT, encode_uint(OCTET_STREAM)))
    return Message(CON, codes.PUT, 0, b"", options, absolute_time(unix_s))
