"""What differs between a recorded frame and the one that came, field by field, with what may differ left out.

Message IDs and tokens that the peer chose itself are its own business and are masked unless asked for; those that it
repeats from our requests have to be right. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from typing import Final

from meshwire.coap.codes import code_text, is_request
from meshwire.coap.message import ACK, RST, Message, MessageError, decode, encode
from meshwire.coap.options import ETAG, OBSERVE
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.frame import Frame

__all__ = ["DEFAULT_MASKS", "Mask", "Translation", "differences"]

_UNIX_TIME: Final = re.compile(rb"1\d{9}")


class Mask(StrEnum):
    """What may differ."""

    MID = "mid"
    """Message IDs that the peer chose."""
    TOKEN = "token"
    """Tokens that the peer chose."""
    OBSERVE = "observe"
    """Observe numbers."""
    TIME = "time"
    """Unix times written in decimal in payloads."""
    VALUE = "value"
    """Payloads and their ETags."""
    NUMBERS = "numbers"
    """N(S) and N(R)."""
    PARAMETERS = "parameters"
    """The parameter field of SNRM and UA."""


DEFAULT_MASKS: Final = frozenset({Mask.MID, Mask.TOKEN})


class Translation:
    """The message IDs and tokens of the recording, in those of today; learnt from what came, for what is sent."""

    def __init__(self) -> None:
        self._mids: dict[int, int] = {}
        self._tokens: dict[bytes, bytes] = {}

    def learn(self, recorded: Frame, came: Frame) -> None:
        """The frame that came stands for the recorded one."""
        then, now = coap_of(recorded), coap_of(came)
        if then is None or now is None or then.mtype in (ACK, RST):
            return
        self._mids[then.mid] = now.mid
        if is_request(then.code):
            self._tokens[then.token] = now.token

    def apply(self, recorded: Frame) -> Frame:
        """The recorded frame as it is to be sent now: an answer answers the request of today."""
        message = coap_of(recorded)
        if message is None or is_request(message.code):
            return recorded
        answers = message.mtype in (ACK, RST) or message.option(OBSERVE) is None
        mid = self._mids.get(message.mid, message.mid) if answers else message.mid
        token = self._tokens.get(message.token, message.token)
        return replace(recorded, info=encode(replace(message, mid=mid, token=token)))


def coap_of(frame: Frame) -> Message | None:
    """The CoAP message of an I frame that holds a whole one."""
    if frame.control.kind is not FrameKind.I or frame.segmented or not frame.info:
        return None
    try:
        return decode(frame.info)
    except MessageError:
        return None


def differences(recorded: Frame, came: Frame, masks: Collection[Mask]) -> tuple[str, ...]:
    """One clause for each field that differs: `name: recorded value, now value`."""
    pairs: list[tuple[str, object, object]] = [
        ("frame", recorded.control.kind.value, came.control.kind.value),
        ("P/F", recorded.control.poll_final, came.control.poll_final),
        ("addresses", f"{recorded.source}>{recorded.destination}", f"{came.source}>{came.destination}"),
        ("segmentation", recorded.segmented, came.segmented),
    ]
    if Mask.NUMBERS not in masks and recorded.control.kind is came.control.kind:
        pairs += [
            ("N(S)", recorded.control.ns, came.control.ns),
            ("N(R)", recorded.control.nr, came.control.nr),
        ]
    then, now = coap_of(recorded), coap_of(came)
    if then is not None and now is not None:
        pairs += _message_pairs(then, now, masks)
    elif not (Mask.PARAMETERS in masks and recorded.control.kind in (FrameKind.SNRM, FrameKind.UA)):
        pairs.append(("information", recorded.info.hex() or "none", came.info.hex() or "none"))
    return tuple(f"{name}: recorded {a}, now {b}" for name, a, b in pairs if a != b)


def _message_pairs(then: Message, now: Message, masks: Collection[Mask]) -> list[tuple[str, object, object]]:
    chosen_by_sender = then.mtype not in (ACK, RST)
    pairs: list[tuple[str, object, object]] = [
        ("type", then.mtype, now.mtype),
        ("code", code_text(then.code), code_text(now.code)),
    ]
    if not (chosen_by_sender and Mask.MID in masks):
        pairs.append(("message ID", f"{then.mid:04x}", f"{now.mid:04x}"))
    if not (is_request(then.code) and Mask.TOKEN in masks):
        pairs.append(("token", then.token.hex(), now.token.hex()))
    pairs.append(("options", _options(then, masks), _options(now, masks)))
    if Mask.VALUE not in masks:
        pairs.append(("payload", _payload(then, masks), _payload(now, masks)))
    return pairs


def _options(message: Message, masks: Collection[Mask]) -> str:
    """Options as `number=hex`; of a masked one only that it is there."""
    masked = {OBSERVE} if Mask.OBSERVE in masks and not is_request(message.code) else set()
    masked |= {ETAG} if Mask.VALUE in masks else set()
    return " ".join(f"{number}={'…' if number in masked else value.hex()}" for number, value in message.options)


def _payload(message: Message, masks: Collection[Mask]) -> str:
    payload = _UNIX_TIME.sub(b"#" * 10, message.payload) if Mask.TIME in masks else message.payload
    return payload.hex()
