"""A record of a serial line taken apart for the eyes: one line, and a tree of fields to unfold. Pure.

    node    [name, value] or [name, value, [node, …]]

Decided here: names and order. The page makes texts of it, so nothing that a device sends becomes markup.
"""

from __future__ import annotations

from typing import Any, Final

from meshwire.capture.record import Record
from meshwire.coap import Message, MessageError, codes, decode, options
from meshwire.frame_text import coap_line, frame_line, hex_text, payload_text
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import decode_parameters

__all__ = ["Node", "record_document", "record_tree"]

Node = list[Any]

_TYPES: Final = ("confirmable", "non-confirmable", "acknowledgement", "reset")
_OPTIONS: Final = {
    options.IF_MATCH: "If-Match",
    options.URI_HOST: "Uri-Host",
    options.ETAG: "ETag",
    options.IF_NONE_MATCH: "If-None-Match",
    options.OBSERVE: "Observe",
    options.URI_PORT: "Uri-Port",
    options.LOCATION_PATH: "Location-Path",
    options.OSCORE: "OSCORE",
    options.URI_PATH: "Uri-Path",
    options.CONTENT_FORMAT: "Content-Format",
    options.MAX_AGE: "Max-Age",
    options.URI_QUERY: "Uri-Query",
    options.HOP_LIMIT: "Hop-Limit",
    options.ACCEPT: "Accept",
    options.LOCATION_QUERY: "Location-Query",
    options.BLOCK2: "Block2",
    options.BLOCK1: "Block1",
    options.SIZE2: "Size2",
    options.PROXY_URI: "Proxy-Uri",
    options.PROXY_SCHEME: "Proxy-Scheme",
    options.SIZE1: "Size1",
    options.NO_RESPONSE: "No-Response",
}
_TEXTS: Final = frozenset(
    {
        options.URI_HOST,
        options.LOCATION_PATH,
        options.URI_PATH,
        options.URI_QUERY,
        options.LOCATION_QUERY,
        options.PROXY_URI,
        options.PROXY_SCHEME,
    }
)
_BLOCKS: Final = frozenset({options.BLOCK1, options.BLOCK2})
_OPAQUE: Final = frozenset({options.ETAG, options.IF_MATCH, options.OSCORE})
_FORMATS: Final = {
    options.TEXT: "text/plain",
    options.LINK_FORMAT: "application/link-format",
    options.OCTET_STREAM: "application/octet-stream",
    options.JSON: "application/json",
    options.CBOR: "application/cbor",
    options.SENML_JSON: "application/senml+json",
}


def record_document(record: Record) -> dict[str, Any]:
    """One row of the page: `t` Unix seconds, `from`, `line`, `kind` (hdlc, coap, poll, bad, event), `hex`, `tree`."""
    return {
        "t": record.at_ns / 1e9,
        "from": record.sender.value,
        "line": _line(record),
        "kind": _kind(record),
        "hex": record.octets.hex(" "),
        "tree": record_tree(record),
    }


def _kind(record: Record) -> str:
    if record.reason is not None:
        return "bad"
    if record.frame is None:
        return "event"
    if record.sdu:
        return "coap"
    return "poll" if record.frame.control.kind in (FrameKind.RR, FrameKind.RNR) else "hdlc"


def _line(record: Record) -> str:
    if record.reason is not None:
        line = f"no frame: {record.reason.value}, {len(record.octets)} octets"
    elif record.frame is None:
        line = record.note
    elif record.sdu and record.sdu != record.frame.info:
        line = f"{frame_line(record.frame)} | {coap_line(record.sdu)}"
    else:
        line = frame_line(record.frame)
    return f"{line} ({record.note})" if record.note and record.note != line else line


def record_tree(record: Record) -> list[Node]:
    """Everything that is known of a record."""
    nodes: list[Node] = []
    if record.frame is not None:
        nodes.append(["HDLC", str(record.frame.control), _frame_nodes(record.frame, record.octets)])
    if record.sdu:
        try:
            message = decode(record.sdu)
        except MessageError as error:
            nodes.append(["Not CoAP", error.reason, [["Octets", hex_text(record.sdu)]]])
        else:
            nodes.append(["CoAP", codes.code_text(message.code), _message_nodes(message)])
    if record.reason is not None:
        nodes.append(["No frame", record.reason.value])
    if record.note:
        nodes.append(["Note", record.note])
    return nodes


def _frame_nodes(frame: Frame, octets: bytes) -> list[Node]:
    control, size = frame.control, len(octets) - 2
    nodes: list[Node] = [
        ["Format", f"type 3, {size} octets between the flags" + (", more segments follow" if frame.segmented else "")],
        ["Destination", str(frame.destination)],
        ["Source", str(frame.source)],
        ["Control", f"0x{control.octet:02x}", _control_nodes(frame)],
    ]
    if frame.control.kind in (FrameKind.SNRM, FrameKind.UA) and frame.info:
        nodes.append(["Parameters", f"{len(frame.info)} octets", _parameter_nodes(frame.info)])
    elif frame.info:
        nodes.append(["Information", f"{len(frame.info)} octets", [["Octets", hex_text(frame.info)]]])
    nodes.append(["Check sequences", "good"])
    return nodes


def _control_nodes(frame: Frame) -> list[Node]:
    control = frame.control
    nodes: list[Node] = [["Kind", control.kind.value], ["P/F", "1" if control.poll_final else "0"]]
    if control.kind is FrameKind.I:
        nodes.append(["N(S)", str(control.ns)])
    if control.kind in (FrameKind.I, FrameKind.RR, FrameKind.RNR, FrameKind.REJ):
        nodes.append(["N(R)", str(control.nr)])
    return nodes


def _parameter_nodes(info: bytes) -> list[Node]:
    try:
        found = decode_parameters(info)
    except ParameterError as error:
        return [["Unreadable", str(error)]]
    return [
        ["Information, transmit", f"{found.max_info_transmit} octets"],
        ["Information, receive", f"{found.max_info_receive} octets"],
        ["Window, transmit", str(found.window_transmit)],
        ["Window, receive", str(found.window_receive)],
    ]


def _message_nodes(message: Message) -> list[Node]:
    nodes: list[Node] = [
        ["Type", _TYPES[message.mtype]],
        ["Code", codes.code_text(message.code)],
        ["Message ID", f"0x{message.mid:04x}"],
        ["Token", message.token.hex() or "none"],
    ]
    nodes += [
        [_OPTIONS.get(number, f"Option {number}"), _option_text(number, value)] for number, value in message.options
    ]
    if message.payload:
        nodes.append(
            [
                "Payload",
                f"{len(message.payload)} octets",
                [["Value", payload_text(message, None)], ["Octets", hex_text(message.payload)]],
            ]
        )
    return nodes


def _option_text(number: int, value: bytes) -> str:
    if number in _TEXTS:
        return value.decode(errors="replace")
    if number in _OPAQUE or number not in _OPTIONS:
        return value.hex() or "empty"
    if number in _BLOCKS:
        block = options.decode_uint(value)
        return f"{block >> 4}, {'more' if block & 8 else 'last'}, {1 << (block & 7) + 4} octets"
    whole = options.decode_uint(value)
    if number in (options.CONTENT_FORMAT, options.ACCEPT):
        return _FORMATS.get(whole, str(whole))
    return str(whole)
