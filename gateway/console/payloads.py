"""Octets of a message as people read them: text where it is text, hexadecimal digits otherwise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

__all__ = ["Payload", "shown_payload"]

SHOWN_OCTETS: Final = 2_048


@dataclass(frozen=True, slots=True)
class Payload:
    """What is shown."""

    text: str
    kind: str
    """text, JSON, CBOR or hex."""
    octets: int
    is_cut: bool


def shown_payload(octets: bytes, content_type: str | None) -> Payload:
    """The first octets of a payload; CBOR, and what is no printable UTF-8, as hexadecimal digits."""
    part, is_cut = octets[:SHOWN_OCTETS], len(octets) > SHOWN_OCTETS
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "application/cbor" or kind.endswith("+cbor"):
        return Payload(part.hex(" "), "CBOR", len(octets), is_cut)
    text = part.decode("utf-8", "ignore" if is_cut else "replace")
    if "\ufffd" in text or not all(each.isprintable() or each in "\r\n\t" for each in text):
        return Payload(part.hex(" "), "hex", len(octets), is_cut)
    try:
        is_json = not is_cut and isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        is_json = False
    return Payload(text, "JSON" if is_json else "text", len(octets), is_cut)
