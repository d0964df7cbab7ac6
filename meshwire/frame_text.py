"""Frames and CoAP messages as one line of text each, for the eyes of whoever watches a line. Pure.

Decided here: the words. `SNRM P/F`, `I ns=0 nr=1 P/F | CON GET 1234 /arduino/temp?sens observe=0`. Left to callers:
when a line is shown, the time and direction in front of it, and the octets behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshwire.coap import options
from meshwire.coap.codes import code_text
from meshwire.coap.message import Message, MessageError, decode
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.deframer import Discarded
from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import decode_parameters
from meshwire.notification import decode_reading

__all__ = ["coap_line", "discarded_line", "frame_line", "hex_text", "message_line", "payload_text"]

_TYPE_NAMES: Final = ("CON", "NON", "ACK", "RST")
_FORMAT_NAMES: Final = {
    options.TEXT: "text",
    options.LINK_FORMAT: "link-format",
    options.OCTET_STREAM: "octets",
    options.JSON: "json",
    options.CBOR: "cbor",
    options.SENML_JSON: "senml+json",
}
_SHOWN_OPTIONS: Final = frozenset(
    {options.URI_PATH, options.URI_QUERY, options.OBSERVE, options.CONTENT_FORMAT, options.MAX_AGE}
)
"""Options that the line shows in words; others appear by number."""
_LONGEST_TEXT: Final = 160
"""Characters of a payload that a line shows."""


def hex_text(octets: bytes, limit: int | None = None) -> str:
    """`7e a0 07`, and ` …` where more than `limit` octets are there."""
    shown = octets if limit is None else octets[:limit]
    return shown.hex(" ") + (" …" if len(shown) < len(octets) else "")


def frame_line(frame: Frame) -> str:
    """One frame: its addresses where they are not 1, its control field, and what it carries."""
    addresses = "" if frame.source.value == frame.destination.value == 1 else f"{frame.source}>{frame.destination} "
    line = f"{addresses}{frame.control}"
    if frame.segmented:
        return f"{line} segment of {len(frame.info)} octets"
    if not frame.info:
        return line
    if frame.control.kind in (FrameKind.SNRM, FrameKind.UA):
        return f"{line} {_parameters_text(frame.info)}"
    return (
        f"{line} | {coap_line(frame.info)}" if frame.control.kind is FrameKind.I else f"{line} {hex_text(frame.info)}"
    )


def discarded_line(discarded: Discarded) -> str:
    """Octets that are no frame: why, how many, the first of them."""
    return f"!! {discarded.reason.value}: {len(discarded.octets)} octets {hex_text(discarded.octets, 12)}"


def _parameters_text(info: bytes) -> str:
    try:
        found = decode_parameters(info)
    except ParameterError as error:
        return f"parameters that can't be read ({error})"
    return (
        f"info {found.max_info_transmit}/{found.max_info_receive} octets, "
        f"window {found.window_transmit}/{found.window_receive}"
    )


def coap_line(sdu: bytes) -> str:
    """One SDU as CoAP message; what can't be read says why."""
    try:
        return message_line(decode(sdu))
    except MessageError as error:
        return f"no CoAP message ({error.reason}): {hex_text(sdu, 24)}"


def message_line(message: Message) -> str:
    """Type, code, message ID, token, path, the options worth a word, and the payload as people read it."""
    parts = [_TYPE_NAMES[message.mtype], code_text(message.code), f"{message.mid:04x}"]
    if message.token:
        parts.append(f"token={message.token.hex()}")
    parts += _uri(message)
    parts += _options(message)
    if message.payload:
        parts.append(f'"{payload_text(message)}"')
    return " ".join(parts)


def _uri(message: Message) -> Sequence[str]:
    path, query = message.path(), message.query()
    if not path and not query:
        return ("/",) if 0 < message.code < 32 else ()
    return ("/" + "/".join(path) + (f"?{'&'.join(query)}" if query else ""),)


def _options(message: Message) -> list[str]:
    parts = []
    if (observe := message.uint(options.OBSERVE)) is not None:
        parts.append(f"observe={observe}")
    if (content_format := message.uint(options.CONTENT_FORMAT)) is not None:
        parts.append(_FORMAT_NAMES.get(content_format, f"format={content_format}"))
    if (max_age := message.uint(options.MAX_AGE)) is not None:
        parts.append(f"max-age={max_age}")
    parts += [f"option{number}={value.hex()}" for number, value in message.options if number not in _SHOWN_OPTIONS]
    return parts


def payload_text(message: Message, limit: int | None = _LONGEST_TEXT) -> str:
    """A payload for people: the value of a device record, text where it is text, else hex.

    Args:
        message: whose payload.
        limit: most characters; None: all.
    """
    text = _readable(message)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def _readable(message: Message) -> str:
    path = message.path()
    if message.uint(options.CONTENT_FORMAT) != options.OCTET_STREAM:
        reading = decode_reading(path[-1] if path else "", message.payload)
        if reading is not None and reading.text.isprintable():
            return reading.text
    return hex_text(message.payload)
