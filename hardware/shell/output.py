"""What the shell says: lines for people, or one JSON object a line. The only file of this package that writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Protocol

from hardware.shell.board import Answer
from hardware.shell.tap import Seen
from meshwire.coap.codes import code_text
from meshwire.coap.message import Message
from meshwire.coap.options import CONTENT_FORMAT, OBSERVE
from meshwire.frame_text import discarded_line, frame_line, hex_text, message_line, payload_text
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.link_stats import LinkStats

__all__ = ["JsonOutput", "Output", "TextOutput", "clock_text"]

Write = Callable[[str], None]


class Output(Protocol):
    """Where everything that happens is told."""

    hex_shown: bool

    def frame(self, seen: Seen) -> None: ...
    def answer(self, target: str, answer: Answer) -> None: ...
    def unasked(self, message: Message, target: str | None) -> None: ...
    def board_time(self, unix_s: int, answer: Answer) -> None: ...
    def stats(self, stats: LinkStats) -> None: ...
    def note(self, text: str) -> None: ...
    def error(self, text: str, code: str) -> None: ...


def clock_text(unix_s: float) -> str:
    """`12:34:56.789`, local time."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s)) + f".{int(unix_s * 1000) % 1000:03d}"


def _octets(seen: Seen) -> bytes:
    return encode_frame(seen.item) if isinstance(seen.item, Frame) else seen.item.octets


class TextOutput:
    """For people.

    Args:
        write: takes a line.
        now: Unix seconds.
    """

    def __init__(self, write: Write, now: Callable[[], float] = time.time) -> None:
        self.hex_shown = False
        self._write = write
        self._now = now

    def frame(self, seen: Seen) -> None:
        line = frame_line(seen.item) if isinstance(seen.item, Frame) else discarded_line(seen.item)
        self._write(f"{clock_text(self._now())} {seen.direction.value} {line}")
        if self.hex_shown:
            self._write(f"{'':12} {seen.direction.value} {hex_text(_octets(seen))}")

    def answer(self, target: str, answer: Answer) -> None:
        message = answer.message
        body = f" {payload_text(message, None)}" if message.payload else ""
        self._write(f"{code_text(message.code)} {target}{body} ({answer.round_trip_s * 1000:.0f} ms)")

    def unasked(self, message: Message, target: str | None) -> None:
        if target is None:
            self._write(f"the board says: {message_line(message)}")
        else:
            self._write(f"notification {message.uint(OBSERVE)} {target} {payload_text(message, None)}")

    def board_time(self, unix_s: int, answer: Answer) -> None:
        there = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
        self._write(f"{there} ({unix_s}), {unix_s - self._now():+.0f} s against this machine")

    def stats(self, stats: LinkStats) -> None:
        for name, value in stats.lines():
            self._write(f"{name:<20} {value}")

    def note(self, text: str) -> None:
        self._write(text)

    def error(self, text: str, code: str) -> None:
        self._write(f"error: {text}")


class JsonOutput:
    """For programs; `event` says what a line is.

    Args:
        write: takes a line.
        now: Unix seconds.
    """

    def __init__(self, write: Write, now: Callable[[], float] = time.time) -> None:
        self.hex_shown = True
        self._write = write
        self._now = now

    def frame(self, seen: Seen) -> None:
        line = frame_line(seen.item) if isinstance(seen.item, Frame) else discarded_line(seen.item)
        self._put("frame", direction=seen.direction.value, text=line, hex=_octets(seen).hex())

    def answer(self, target: str, answer: Answer) -> None:
        round_trip_ms = round(answer.round_trip_s * 1000, 1)
        self._put("response", target=target, round_trip_ms=round_trip_ms, **_message(answer.message))

    def unasked(self, message: Message, target: str | None) -> None:
        self._put("message" if target is None else "notification", target=target, **_message(message))

    def board_time(self, unix_s: int, answer: Answer) -> None:
        self._put("time", unix_s=unix_s, difference_s=round(unix_s - self._now(), 3))

    def stats(self, stats: LinkStats) -> None:
        self._put("stats", **stats.record())

    def note(self, text: str) -> None:
        self._put("note", text=text)

    def error(self, text: str, code: str) -> None:
        self._put("error", text=text, code=code)

    def _put(self, event: str, **values: object) -> None:
        record = {"event": event, "time": round(self._now(), 3), **values}
        self._write(json.dumps(record, ensure_ascii=False))


def _message(message: Message) -> dict[str, object]:
    return {
        "code": code_text(message.code),
        "observe": message.uint(OBSERVE),
        "content_format": message.uint(CONTENT_FORMAT),
        "payload_hex": message.payload.hex(),
        "decoded": payload_text(message, None) if message.payload else "",
        "message": message_line(message),
    }
