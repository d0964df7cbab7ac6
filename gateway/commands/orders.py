"""Reading orders: the JSON body that HTTP and MQTT share, and the query arguments of a proxied CoAP request.

`?mode=stored&ttl=60` is ours and is taken out of a request; without `mode=stored` or `mode=direct` every argument
belongs to the device.
"""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.commands.errors import CommandRefused
from gateway.commands.records import Mode, Order, ReplyTo, bare
from meshwire.coap import Message, codes, options

__all__ = ["OrderBody", "coap_order", "order_of", "parse_body", "request_of", "split_arguments", "stored_arguments"]

_METHODS: Final = {codes.code_text(code).upper(): code for code in range(codes.GET, codes.IPATCH + 1)}
_MODES: Final = {f"mode={mode}".encode(): mode for mode in Mode}
_OURS: Final = frozenset({b"mode", b"ttl", b"replace", b"idempotent"})
_LONGEST_PART: Final = 255
"""Longest Uri-Path or Uri-Query value (RFC 7252 table 4)."""

Uint16 = Annotated[int, Field(ge=0, le=65_535)]


class OrderBody(BaseModel):
    """An order as JSON."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    method: str = Field(max_length=8)
    """GET, PUT, POST, DELETE, FETCH, PATCH or iPATCH."""
    path: str = Field(max_length=2048)
    """Path and query at the device, such as `snsr/arduino/temp?cfg=C`; `%xx` stands for an octet."""
    payload: str | None = None
    """Text, sent as UTF-8."""
    payloadHex: str | None = Field(default=None, pattern=r"^([0-9A-Fa-f]{2})*$")
    """The payload in hexadecimal digits, in the place of `payload`."""
    contentFormat: Uint16 | None = None
    """CoAP Content-Format of the payload."""
    accept: Uint16 | None = None
    """CoAP Accept."""
    mode: Literal["direct", "stored"] = "direct"
    """direct: rejected at once when the device can't be reached; stored: kept until it returns."""
    ttl: float | None = Field(default=None, allow_inf_nan=False)
    """Seconds; mandatory for stored commands."""
    replace: bool = False
    """Cancel older waiting commands for the same method and path."""
    idempotent: bool = False
    """Executing it twice does no harm, so it may be sent again when its outcome is not known."""
    id: str | None = Field(default=None, max_length=64)
    """The client's own name for it; the same order with the same id is taken once."""


def parse_body(octets: bytes) -> OrderBody:
    """Read a body; raises CommandRefused."""
    try:
        return OrderBody.model_validate_json(octets)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise CommandRefused("the order is not of that form", evidence=f"{where}: {first['msg']}") from None


def order_of(body: OrderBody, *, reply_to: ReplyTo | None = None, ttl_s: float | None = None) -> Order:
    """The order of a body.

    Args:
        body: checked for types.
        reply_to: of MQTT 5.
        ttl_s: a second bound beside the body's, such as MQTT's message expiry: the shorter one counts.

    Raises:
        CommandRefused: method, path or payload can't be used.
    """
    bounds = [each for each in (body.ttl, ttl_s) if each is not None]
    return Order(
        mode=Mode(body.mode),
        request=request_of(body),
        ttl_s=min(bounds) if bounds else None,
        id=body.id,
        replace=body.replace,
        idempotent=body.idempotent,
        reply_to=reply_to or ReplyTo(),
    )


def request_of(body: OrderBody) -> Message:
    """The CoAP request of a body; raises CommandRefused."""
    code = _METHODS.get(body.method.upper())
    if code is None:
        raise CommandRefused("method is unknown", evidence=body.method, fix=", ".join(_METHODS))
    if body.payload is not None and body.payloadHex is not None:
        raise CommandRefused("payload and payloadHex are both given", fix="give one")
    payload = bytes.fromhex(body.payloadHex) if body.payloadHex is not None else (body.payload or "").encode()
    path, _, query = body.path.partition("?")
    segments = path.removeprefix("/").split("/") if path.strip("/") else []
    arguments = query.split("&") if query else []
    pairs = [(options.URI_PATH, urllib.parse.unquote_to_bytes(each)) for each in segments]
    pairs += [(options.URI_QUERY, urllib.parse.unquote_to_bytes(each)) for each in arguments]
    if any(len(value) > _LONGEST_PART for _, value in pairs):
        raise CommandRefused("a part of the path is too long", fix=f"at most {_LONGEST_PART} octets each")
    for number, value in ((options.CONTENT_FORMAT, body.contentFormat), (options.ACCEPT, body.accept)):
        if value is not None:
            pairs.append((number, options.encode_uint(value)))
    return bare(code, tuple(sorted(pairs, key=lambda pair: pair[0])), payload)


def split_arguments(query: Sequence[bytes]) -> tuple[tuple[bytes, ...] | None, tuple[bytes, ...]]:
    """Our arguments and the device's: the first are None when the request is no command."""
    if not any(argument in _MODES for argument in query):
        return None, tuple(query)
    ours = tuple(argument for argument in query if argument.partition(b"=")[0] in _OURS)
    return ours, tuple(argument for argument in query if argument.partition(b"=")[0] not in _OURS)


def stored_arguments(ttl_s: float, *, replace: bool) -> str:
    """Our arguments of a stored command, as a query that `split_arguments` and `coap_order` read."""
    return f"mode={Mode.STORED}&ttl={ttl_s:g}" + ("&replace" if replace else "")


def coap_order(arguments: Sequence[bytes], request: Message) -> Order:
    """The order of a CoAP request.

    Args:
        arguments: ours, from `split_arguments`.
        request: what is forwarded; our arguments are taken out of it.

    Raises:
        CommandRefused: an argument is given twice or has no usable value.
    """
    values: dict[bytes, bytes] = {}
    for argument in arguments:
        name, _, value = argument.partition(b"=")
        if name in values:
            raise CommandRefused("an argument is given twice", evidence=name.decode())
        values[name] = value
    return Order(
        mode=_MODES[b"mode=" + values[b"mode"]],
        request=bare(request.code, _without(request.options, arguments), request.payload),
        ttl_s=_seconds(values[b"ttl"]) if b"ttl" in values else None,
        replace=_flag(values, b"replace"),
        idempotent=_flag(values, b"idempotent"),
    )


def _without(pairs: tuple[tuple[int, bytes], ...], arguments: Sequence[bytes]) -> tuple[tuple[int, bytes], ...]:
    """A request's options without our arguments."""
    return tuple(pair for pair in pairs if pair[0] != options.URI_QUERY or pair[1] not in arguments)


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise CommandRefused("ttl is no number of seconds", evidence=value.decode(errors="replace")[:40])
    return seconds


def _flag(values: dict[bytes, bytes], name: bytes) -> bool:
    value = values.get(name, b"false").lower()
    if value not in (b"", b"true", b"1", b"false", b"0"):
        raise CommandRefused(f"{name.decode()} is neither true nor false", evidence=value.decode(errors="replace")[:40])
    return value in (b"", b"true", b"1")
