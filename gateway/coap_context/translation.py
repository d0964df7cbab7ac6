"""aiocoap's messages as ours, and ours as aiocoap's: options pass as they are, known to aiocoap or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiocoap
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption

from meshwire.coap import CON, Message

__all__ = ["new_message", "to_ours", "to_theirs"]

# aiocoap is not annotated; this is the call into it, named once.
new_message: Callable[..., Any] = aiocoap.Message


def to_ours(message: Any) -> Message:
    """An aiocoap message in our terms; integers come out in their shortest form."""
    pairs = tuple((int(option.number), option.encode()) for option in message.opt.option_list())
    # Over TCP there are no types: what comes arrives, as if it were confirmable.
    mtype = CON if message.mtype is None else int(message.mtype)
    return Message(mtype, int(message.code), message.mid or 0, message.token, pairs, message.payload)


def to_theirs(code: int, pairs: tuple[tuple[int, bytes], ...], payload: bytes) -> Any:
    """A new aiocoap message; an option value that aiocoap can't read is carried as opaque octets."""
    message = new_message(code=code, payload=payload)
    for number, value in pairs:
        try:
            option = OptionNumber(number).create_option(decode=value)
        except ValueError:
            option = OpaqueOption(OptionNumber(number), value)
        message.opt.add_option(option)
    return message
