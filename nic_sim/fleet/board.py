"""A sensor board as a light object: one temperature sensor, its setting and its observe; octets in and out.

It speaks CoAP as the reference board does (`/arduino/temp?sens`, `?cfg`, `PUT ?cfg=C`, observe by RFC 7641, `/sys/time`
in the structure of dialect B.3), and keeps nothing that it can work out: values come from the seed, the board's number
and the time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Final

from meshwire.coap import ACK, CON, NON, RST, Message, MessageError, codes, decode, encode, options
from meshwire.coap.observe import SEQUENCE_MODULUS

__all__ = ["CLASSIFIER", "RESOURCE", "SENSOR", "LightBoard", "temperature_f"]

CLASSIFIER: Final = "arduino"
SENSOR: Final = "temp"
RESOURCE: Final = f"snsr/{CLASSIFIER}/{SENSOR}"
"""The sensor as the network names it."""
DAY_S: Final = 86_400
_LINKS: Final = b'</arduino/temp>;rt="temp";if="sensor";ct=60;obs,</sys/time>;ct=42'
_VERSION: Final = b"meshwire light sensor board"
_TIME: Final = struct.Struct(">BBiI")
_TIME_DELTA: Final = 7
_MIX: Final = 0x9E37_79B9_7F4A_7C15
_MASK: Final = (1 << 64) - 1
_CBOR: Final = (options.CONTENT_FORMAT, b"\x3c")


def temperature_f(seed: int, number: int, unix_s: int) -> float:
    """What board `number` measures at that second, degrees Fahrenheit: a day's course and its own small noise."""
    mixed = ((seed << 40) ^ (number << 20) ^ unix_s) * _MIX & _MASK
    mixed = (mixed ^ mixed >> 29) * _MIX & _MASK
    place = (number * _MIX & _MASK) >> 58
    return 60 + place / 4 - 9 * math.cos(2 * math.pi * (unix_s % DAY_S) / DAY_S) + (mixed >> 48) / 0x10000


class LightBoard:
    """One board.

    Args:
        seed: of the whole fleet.
        number: this board's.
    """

    __slots__ = ("_celsius", "_mid", "_number", "_observe_token", "_seed", "_sequence")

    def __init__(self, seed: int, number: int) -> None:
        self._seed = seed
        self._number = number
        self.reboot()

    def reboot(self) -> None:
        """As after power-up: nobody observes, the setting is the first one, the Observe numbers begin again."""
        self._celsius = False
        self._observe_token: bytes | None = None
        self._sequence = 0
        self._mid = self._number & 0xFFFF

    def report(self, unix_s: float) -> bytes | None:
        """The notification of a new reading, NON 2.05 (RFC 7641 section 4.2); None when nobody observes."""
        token = self._observe_token
        if token is None:
            return None
        self._mid = self._mid + 1 & 0xFFFF
        observe = (options.OBSERVE, options.encode_uint(self._next_sequence()))
        return encode(Message(NON, codes.CONTENT, self._mid, token, (observe, _CBOR), self.record(unix_s)))

    def record(self, unix_s: float) -> bytes:
        """The CBOR device record `{0: "temp", 1: "epoch,value,unit"}` (dialect B.4)."""
        return self._cbor(f"{int(unix_s)},{self._value(int(unix_s)):.2f},{self._unit}")

    def receive(self, octets: bytes, unix_s: float) -> bytes | None:
        """The answer to one message of the NIC; None when there is none."""
        try:
            request = decode(octets)
        except MessageError:
            return None
        if request.mtype == RST:
            self._observe_token = None
            return None
        if not codes.is_request(request.code):
            return None
        code, pairs, payload = self._answer(request, unix_s)
        return encode(Message(ACK if request.mtype == CON else NON, code, request.mid, request.token, pairs, payload))

    # --- private

    def _answer(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        handler = _HANDLERS.get((request.code, "/".join(request.path())))
        if handler is not None:
            return handler(self, request, unix_s)
        known = any(path == "/".join(request.path()) for _, path in _HANDLERS)
        return (codes.METHOD_NOT_ALLOWED if known else codes.NOT_FOUND), (), b""

    def _get_sensor(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        if request.query() == ("cfg",):
            return codes.CONTENT, (_CBOR,), self._cbor(f"{int(unix_s)},{self._unit}")
        if request.query() not in ((), ("sens",)):
            return codes.BAD_REQUEST, (), b"query is sens or cfg"
        pairs: tuple[tuple[int, bytes], ...] = (_CBOR,)
        observe = request.uint(options.OBSERVE)
        if observe == 0:
            self._observe_token = request.token
            pairs = ((options.OBSERVE, options.encode_uint(self._next_sequence())), _CBOR)
        elif observe == 1 and request.token == self._observe_token:
            self._observe_token = None
        return codes.CONTENT, pairs, self.record(unix_s)

    def _put_sensor(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        if request.query() not in (("cfg=C",), ("cfg=F",)):
            return codes.BAD_REQUEST, (), b"query is cfg=C or cfg=F"
        self._celsius = request.query() == ("cfg=C",)
        return codes.CHANGED, (), b""

    def _get_time(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        structure = _TIME.pack(6, 8, int(unix_s), int(unix_s * 1000) % 1000)
        return codes.CONTENT, ((options.CONTENT_FORMAT, options.encode_uint(options.OCTET_STREAM)),), structure

    def _put_time(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        """The board's clock is the fleet's and always right: only the form of what comes is judged."""
        if len(request.payload) != _TIME.size or request.payload[0] not in (6, _TIME_DELTA):
            return codes.BAD_REQUEST, (), b"not a time structure"
        return codes.CHANGED, (), b""

    def _get_links(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        return codes.CONTENT, ((options.CONTENT_FORMAT, options.encode_uint(options.LINK_FORMAT)),), _LINKS

    def _get_root(self, request: Message, unix_s: float) -> tuple[int, tuple[tuple[int, bytes], ...], bytes]:
        return codes.CONTENT, ((options.CONTENT_FORMAT, b""),), _VERSION

    @property
    def _unit(self) -> str:
        return "C" if self._celsius else "F"

    def _value(self, unix_s: int) -> float:
        fahrenheit = temperature_f(self._seed, self._number, unix_s)
        return (fahrenheit - 32) / 1.8 if self._celsius else fahrenheit

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS
        return self._sequence

    @staticmethod
    def _cbor(text: str) -> bytes:
        octets = text.encode()
        head = bytes((0x60 | len(octets),)) if len(octets) < 24 else bytes((0x78, len(octets)))
        return b"\xa2\x00\x64temp\x01" + head + octets


_Handler = Callable[[LightBoard, Message, float], tuple[int, tuple[tuple[int, bytes], ...], bytes]]
_HANDLERS: Final[dict[tuple[int, str], _Handler]] = {
    (codes.GET, ""): LightBoard._get_root,
    (codes.GET, ".well-known/core"): LightBoard._get_links,
    (codes.GET, f"{CLASSIFIER}/{SENSOR}"): LightBoard._get_sensor,
    (codes.PUT, f"{CLASSIFIER}/{SENSOR}"): LightBoard._put_sensor,
    (codes.GET, "sys/time"): LightBoard._get_time,
    (codes.PUT, "sys/time"): LightBoard._put_time,
}
