"""What a Milli board serves beside its sensors: `/`, `/.well-known/core`, `/sys/time`, `/sys/stats` (dialect B.3)."""

from __future__ import annotations

import struct
from typing import Final

from meshwire.coap import codes
from meshwire.coap.options import LINK_FORMAT, OCTET_STREAM, TEXT
from sensor_sim.clock import BoardClock
from sensor_sim.milli.reply import BARE, Reply, Resource, content
from sensor_sim.milli.request import BoardCrash, Request

__all__ = ["SystemResources"]

_COAP_STATISTICS: Final = bytes((0x08, 0x24, 0, 0)) + bytes(9 * 4)
"""Type 8, length 36, two pad octets, nine counters; all stayed 0 on the real board."""
_ABSOLUTE_TIME: Final = b"\x06\x08"
_TIME_DELTA: Final = b"\x07\x08"
_TIME_OCTETS: Final = 10


class SystemResources:
    """The fixed resources of one board.

    Args:
        version_text: body of `/`.
        classifier: first path segment of the sensors.
        clock: what `/sys/time` shows and sets.
    """

    def __init__(self, version_text: str, classifier: str, clock: BoardClock) -> None:
        self._version = version_text.encode()
        self._classifier = classifier
        self._clock = clock

    def paths(self) -> dict[tuple[bytes, ...], Resource]:
        """Every fixed path and its resource; `/sys` is not among them and is a 4.04."""
        return {
            (): self._root,
            (b"",): self._root,
            (b".well-known",): lambda request, now: Reply(codes.INTERNAL_SERVER_ERROR),
            (b".well-known", b"core"): self._well_known,
            (b"sys", b"time"): self._time,
            (b"sys", b"stats"): self._statistics,
            (self._classifier.encode(),): lambda request, now: BARE,
        }

    def _root(self, request: Request, now: float) -> Reply:
        if request.header.code != codes.GET:
            return Reply(codes.FORBIDDEN)
        return content(TEXT, self._version)

    def _well_known(self, request: Request, now: float) -> Reply:
        if request.header.code != codes.GET:
            return Reply(codes.NOT_IMPLEMENTED)
        name = self._classifier
        links = (
            '</sys>;if="sys";title="System";ct=42;rev=1;,'
            f'</{name}>;if="{name}";title="{name[:1].upper()}{name[1:]} Sensors";ct=42;,'
        )
        return content(LINK_FORMAT, links.encode())

    def _time(self, request: Request, now: float) -> Reply:
        match request.header.code:
            case codes.GET:
                return content(OCTET_STREAM, struct.pack(">I", self._clock.epoch(now) & 0xFFFFFFFF))
            case codes.PUT:
                return self._set_time(request.payload, now)
        return Reply(codes.NOT_IMPLEMENTED)

    def _set_time(self, payload: bytes, now: float) -> Reply:
        if len(payload) != _TIME_OCTETS or payload[:2] not in (_ABSOLUTE_TIME, _TIME_DELTA):
            return Reply(codes.NOT_ACCEPTABLE)
        if payload[:2] == _TIME_DELTA:
            return BARE  # the firmware's bug: neither applied nor refused
        self._clock.set(int.from_bytes(payload[2:6], "big"), now)
        return Reply(codes.CHANGED)

    def _statistics(self, request: Request, now: float) -> Reply:
        if request.header.code != codes.GET:
            return Reply(codes.NOT_IMPLEMENTED)
        match request.query:
            case None:
                raise BoardCrash("GET /sys/stats without query reads a null pointer on the board")
            case b"mod=coap":
                return content(OCTET_STREAM, _COAP_STATISTICS)
            case b"mod=pwr":
                return Reply(codes.NOT_ACCEPTABLE)
        return Reply(codes.NOT_IMPLEMENTED)
