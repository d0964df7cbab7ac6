"""The few exchanges a probe has with a board that answered SNRM: what are you, what have you got, is anything waiting.

A primary of its own, smaller than `meshwire.hdlc.primary`, because a probe repeats nothing and must not destroy what
waits in the board: DISC empties a Milli board's slot (dialect A.8), so where RR brings a message from one the link is
left standing, and the next SNRM, the NIC's, finds the message still there.
"""

from __future__ import annotations

from typing import Final

from hardware.probe_line import Heard, ProbeLine
from meshwire.coap import codes, options
from meshwire.coap.message import CON, Message, MessageError, decode, encode
from meshwire.hdlc.control import MODULUS, ControlField, FrameKind, information, supervisory, unnumbered
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import LinkParameters, encode_parameters
from meshwire.hdlc.station import DEFAULT_ADDRESS

__all__ = ["ProbeSession", "disc_frame", "snrm_frame"]

_MOST_TURNS: Final = 8
"""Turns that an answer may take: a board that thinks says RR until it is ready, and long answers come in segments."""
_NUMBERED: Final = (FrameKind.I, FrameKind.RR, FrameKind.RNR)


def _frame(control: ControlField, info: bytes = b"") -> Frame:
    return Frame(DEFAULT_ADDRESS, DEFAULT_ADDRESS, control, info)


def snrm_frame(*, with_parameters: bool = False) -> Frame:
    """SNRM as a Milli NIC sends it, or with the parameter group that the standard describes."""
    offer = encode_parameters(LinkParameters(255, 255, 7, 7)) if with_parameters else b""
    return _frame(unnumbered(FrameKind.SNRM), offer)


def disc_frame() -> Frame:
    """DISC."""
    return _frame(unnumbered(FrameKind.DISC))


class ProbeSession:
    """Requests to a board in normal response mode. Made after UA.

    Args:
        line: the line on which UA came.
    """

    def __init__(self, line: ProbeLine) -> None:
        self._line = line
        self._ns = 0
        self._nr = 0
        self._segments = b""
        self._mid = 0x7072
        self.unasked: list[Message] = []
        """What the board said without being asked."""

    async def get(self, *path: str) -> Message | None:
        """GET a path; None when no answer that can be read came."""
        self._mid += 1
        token = self._mid.to_bytes(2, "big")
        uri = tuple((options.URI_PATH, segment.encode()) for segment in path)
        request = encode(Message(CON, codes.GET, self._mid, token, uri))
        heard = await self._line.ask(_frame(information(self._ns, self._nr, True), request))
        self._ns = (self._ns + 1) % MODULUS
        for _ in range(_MOST_TURNS):
            answers = [message for message in self._take(heard) if message.token == token]
            if answers:
                return answers[0]
            if not _goes_on(heard):
                return None
            heard = await self._poll()
        return None

    async def fetch_waiting(self) -> None:
        """Ask by RR whether a message waits; it ends up in `unasked`."""
        self._take(await self._poll())

    async def release(self) -> bool:
        """DISC; True when UA came."""
        heard = await self._line.ask(disc_frame())
        return any(frame.control.kind in (FrameKind.UA, FrameKind.DM) for frame in heard.frames)

    async def _poll(self) -> Heard:
        return await self._line.ask(_frame(supervisory(FrameKind.RR, self._nr, True)))

    def _take(self, heard: Heard) -> list[Message]:
        """The messages in an answer; those that are requests or notifications are kept as unasked too."""
        messages = [message for sdu in self._sdus(heard) if (message := _read(sdu)) is not None]
        mine = self._mid.to_bytes(2, "big")
        self.unasked += [message for message in messages if message.token != mine and message.code != codes.EMPTY]
        return messages

    def _sdus(self, heard: Heard) -> list[bytes]:
        sdus = []
        for frame in heard.frames:
            if frame.control.kind is not FrameKind.I:
                continue
            self._nr = (frame.control.ns + 1) % MODULUS
            self._segments += frame.info
            if not frame.segmented:
                sdus.append(self._segments)
                self._segments = b""
        return sdus


def _goes_on(heard: Heard) -> bool:
    """Whether the board still holds the link: then the answer may come with the next poll."""
    return any(frame.control.kind in _NUMBERED for frame in heard.frames)


def _read(sdu: bytes) -> Message | None:
    try:
        return decode(sdu)
    except MessageError:
        return None
