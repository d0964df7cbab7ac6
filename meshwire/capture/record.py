"""Record: one thing that was seen on the line, and the line of text that says so to a person."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from meshwire.coap.message import MessageError, decode
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.errors import DiscardReason, ParameterError
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import decode_parameters

__all__ = ["Record", "Side", "describe"]


class Side(StrEnum):
    """Who sent."""

    NIC = "nic"
    BOARD = "board"

    @property
    def other(self) -> Side:
        return Side.BOARD if self is Side.NIC else Side.NIC


@dataclass(frozen=True, slots=True)
class Record:
    """One frame, or octets that are none, or an event of the line.

    Args:
        at_ns: Unix time in nanoseconds when its last octet was seen.
        sender: who sent it.
        octets: as on the line, flags included; empty for an event.
        frame: taken apart; None for octets that are no frame, and for events.
        reason: why the octets are no frame.
        sdu: the SDU that this frame completes; empty when it completes none.
        note: what a person should know beyond that, such as that a frame came again.
    """

    at_ns: int
    sender: Side
    octets: bytes
    frame: Frame | None = None
    reason: DiscardReason | None = None
    sdu: bytes = b""
    note: str = ""


def describe(record: Record, *, with_hex: bool = False) -> str:
    """One line: time, direction, frame, CoAP message. Payloads are shown as octets on demand only.

    Args:
        record: what was seen.
        with_hex: add the octets as on the line.
    """
    seconds, nanoseconds = divmod(record.at_ns, 1_000_000_000)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    words = [f"{clock}.{nanoseconds // 1000:06d} {record.sender:>5} > {record.sender.other:<5}", *_words(record)]
    if with_hex and record.octets:
        words.append(f"[{record.octets.hex(' ')}]")
    return "  ".join(words)


def _words(record: Record) -> list[str]:
    words = []
    if record.reason is not None:
        words.append(f"no frame: {record.reason.value}, {len(record.octets)} octets")
    if record.frame is not None:
        words += _frame_words(record.frame)
    if record.sdu:
        words.append(_coap_words(record.sdu))
    if record.note:
        words.append(f"({record.note})")
    return words


def _frame_words(frame: Frame) -> list[str]:
    words = [str(frame.control)]
    if frame.control.kind in (FrameKind.SNRM, FrameKind.UA) and frame.info:
        try:
            limits = decode_parameters(frame.info)
            words.append(
                f"info {limits.max_info_transmit}/{limits.max_info_receive} octets, "
                f"window {limits.window_transmit}/{limits.window_receive}"
            )
        except ParameterError as error:
            words.append(f"parameters unreadable: {error}")
    elif frame.segmented:
        words.append(f"segment of {len(frame.info)} octets")
    return words


def _coap_words(sdu: bytes) -> str:
    try:
        message = decode(sdu)
    except MessageError as error:
        return f"no CoAP ({error.reason}), {len(sdu)} octets"
    observe = message.uint(6)
    return f"{message}{'' if observe is None else f' observe={observe}'}"
