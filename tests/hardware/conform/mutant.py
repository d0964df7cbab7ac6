"""Deliberately broken boards: a pipe that changes what a good board hears or says, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hardware.conform.case import Group
from hardware.conform.seen_frame import Fault, SeenFrame, read_frames
from meshwire.coap import codes, options
from meshwire.coap.message import ACK, CON, NON, RST, Message, MessageError, decode, encode
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind
from meshwire.hdlc.crc import crc16_x25
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import LinkParameters, encode_parameters
from meshwire.pipe import Pipe

Change = Callable[[SeenFrame], bytes]
"""Octets that take the place of a frame's."""
MessageChange = Callable[[Message], Message]


def same(frame: SeenFrame) -> bytes:
    return frame.octets


class MutantPipe:
    """A board's end of the line, with its hearing and its speech changed."""

    def __init__(self, inner: Pipe, hears: Change = same, says: Change = same, delay_s: float = 0.0) -> None:
        self.name = inner.name
        self.on_attention: Callable[[], None] | None = None
        self._inner = inner
        self._hears, self._says, self._delay_s = hears, says, delay_s

    async def read(self) -> bytes:
        while data := await self._inner.read():
            if changed := _changed(data, self._hears):
                return changed
        return b""

    def write(self, data: bytes) -> None:
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._inner.write, data)
        elif changed := _changed(data, self._says):
            self._inner.write(changed)

    async def drain(self) -> None:
        await self._inner.drain()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def pulse_attention(self) -> None:
        self._inner.pulse_attention()


def _changed(data: bytes, change: Change) -> bytes:
    """What was not changed keeps even its flags as they were."""
    frames = read_frames(data)
    pieces = [change(frame) for frame in frames]
    return data if pieces == [frame.octets for frame in frames] else b"".join(pieces)


def rebuilt(
    frame: SeenFrame, *, control: ControlField | None = None, info: bytes | None = None, source: Address | None = None
) -> bytes:
    own = Address(1)
    body = frame.info if info is None else info
    return encode_frame(Frame(own, source or own, control or frame.control, body, frame.segmented))


def with_crc(body: bytes) -> bytes:
    return body + crc16_x25(body).to_bytes(2, "little")


# ---- framing


def wrong_fcs(frame: SeenFrame) -> bytes:
    return frame.octets[:-2] + bytes((frame.octets[-2] ^ 1,)) + b"\x7e" if frame.info else frame.octets


def wrong_hcs(frame: SeenFrame) -> bytes:
    octets = bytearray(frame.octets)
    octets[6] ^= 1
    if frame.info:
        octets[-3:-1] = crc16_x25(bytes(octets[1:-3])).to_bytes(2, "little")
    return bytes(octets)


def noisy(frame: SeenFrame) -> bytes:
    return b"\x00" + frame.octets


def other_source(frame: SeenFrame) -> bytes:
    return rebuilt(frame, source=Address(0x10))


def mends(*faults: Fault) -> Change:
    """Takes frames with a wrong check sequence."""

    def change(frame: SeenFrame) -> bytes:
        return rebuilt(frame) if frame.faults and set(frame.faults) <= set(faults) else frame.octets

    return change


def hears_all_stations(frame: SeenFrame) -> bytes:
    return rebuilt(frame) if not frame.faults and frame.destination == b"\x21" else frame.octets


def first_frame_only() -> tuple[Change, Change]:
    """Drops frames until it has answered."""
    waiting = False

    def hears(frame: SeenFrame) -> bytes:
        nonlocal waiting
        dropped, waiting = waiting and not frame.faults, not frame.faults and frame.final
        return b"" if dropped else frame.octets

    def says(frame: SeenFrame) -> bytes:
        nonlocal waiting
        waiting = False
        return frame.octets

    return hears, says


# ---- link


def without_final(frame: SeenFrame) -> bytes:
    return rebuilt(frame, control=replace(frame.control, poll_final=False, octet=-1))


def ignores_ns() -> Change:
    expected = 0

    def change(frame: SeenFrame) -> bytes:
        nonlocal expected
        if frame.faults:
            return frame.octets
        if frame.kind is FrameKind.SNRM:
            expected = 0
        if frame.kind is not FrameKind.I:
            return frame.octets
        control = replace(frame.control, ns=expected, octet=-1)
        expected = (expected + 1) % 8
        return rebuilt(frame, control=control)

    return change


def keeps_no_answer() -> Change:
    """An I frame that was sent before becomes RR."""
    sent: set[tuple[int, bytes]] = set()

    def change(frame: SeenFrame) -> bytes:
        if frame.kind is FrameKind.UA:
            sent.clear()
        key = (frame.control.ns, frame.info)
        if frame.kind is not FrameKind.I or key not in sent:
            sent.add(key)
            return frame.octets
        return rebuilt(frame, control=ControlField(FrameKind.RR, 0, frame.control.nr, True), info=b"")

    return change


def silent_on(kind: FrameKind) -> Change:
    return lambda frame: b"" if frame.kind is kind else frame.octets


def offers_too_much(frame: SeenFrame) -> bytes:
    parameters = encode_parameters(LinkParameters(255, 255, 1, 1))
    return rebuilt(frame, info=parameters) if frame.kind is FrameKind.UA and frame.info else frame.octets


def answers_without_poll(frame: SeenFrame) -> bytes:
    if frame.faults or frame.kind is not FrameKind.RR or frame.final:
        return frame.octets
    return rebuilt(frame, control=replace(frame.control, poll_final=True, octet=-1))


def rejects_without_information(frame: SeenFrame) -> bytes:
    return rebuilt(frame, info=b"") if frame.kind is FrameKind.FRMR else frame.octets


# ---- CoAP


def messages(change: MessageChange) -> Change:
    """Changes messages that fit one frame."""

    def on_frame(frame: SeenFrame) -> bytes:
        if frame.faults or frame.kind is not FrameKind.I or frame.segmented or not frame.info:
            return frame.octets
        try:
            message = decode(frame.info)
        except MessageError:
            return frame.octets
        changed = change(message)
        return frame.octets if changed == message else rebuilt(frame, info=encode(changed))

    return on_frame


def strip(number: int) -> Change:
    return messages(lambda message: message.without(number))


def set_option(message: Message, number: int, value: bytes) -> Message:
    if message.option(number) is None:
        return message
    return message.without(number).with_options([(number, value)])


def short_token(message: Message) -> Message:
    return replace(message, token=message.token[:4]) if len(message.token) == 8 else message


def acknowledges_pings(message: Message) -> Message:
    return replace(message, mtype=ACK) if message.mtype == RST else message


def stale_observe(message: Message) -> Message:
    return set_option(message, options.OBSERVE, b"\x05") if codes.is_response(message.code) else message


def other_token(message: Message) -> Message:
    notification = message.mtype in (CON, NON) and message.option(options.OBSERVE) is not None
    return replace(message, token=b"\xbe\xef") if notification and codes.is_response(message.code) else message


def registers_with_valid(message: Message) -> Message:
    if message.mtype == ACK and message.option(options.OBSERVE) is not None:
        return replace(message, code=codes.VALID, payload=b"").without(options.CONTENT_FORMAT)
    return message


def ignores_time(message: Message) -> Message:
    return replace(message, payload=b"\x07\x08" + bytes(8)) if message.payload[:2] == b"\x06\x08" else message


def payload(old: bytes, new: bytes) -> Change:
    return messages(lambda message: replace(message, payload=message.payload.replace(old, new)))


def trailing(message: Message) -> Message:
    return replace(message, payload=message.payload + b"\x00") if message.payload[:1] == b"\xa2" else message


def format_of(old: int, new: int) -> Change:
    def change(message: Message) -> Message:
        if message.uint(options.CONTENT_FORMAT) != old:
            return message
        return set_option(message, options.CONTENT_FORMAT, options.encode_uint(new))

    return messages(change)


def tires(after: int) -> Change:
    """Hears no more I frames on a link that has carried so many."""
    heard = 0

    def change(frame: SeenFrame) -> bytes:
        nonlocal heard
        heard = 0 if frame.kind is FrameKind.SNRM else heard + (frame.kind is FrameKind.I)
        return b"" if heard > after and frame.kind is FrameKind.I else frame.octets

    return change


# ---- the collection


@dataclass(frozen=True)
class Variant:
    """A way to be broken: the case meant to find it, and the pipe that does it."""

    name: str
    case: str
    group: Group
    wrap: Callable[[Pipe], Pipe]

    def __str__(self) -> str:
        return self.name


def _variant(
    name: str, case: str, group: Group, *, hears: Change = same, says: Change = same, delay_s: float = 0.0
) -> Variant:
    return Variant(name, case, group, lambda pipe: MutantPipe(pipe, hears, says, delay_s))


_FIRST_HEARS, _FIRST_SAYS = first_frame_only()
VARIANTS: Final = (
    _variant("noise before frames", "HDLC-FRM-001", Group.FRAMING, says=noisy),
    _variant("wrong HCS", "HDLC-FRM-002", Group.FRAMING, says=wrong_hcs),
    _variant("wrong FCS", "HDLC-FRM-003", Group.FRAMING, says=wrong_fcs),
    _variant("other source address", "HDLC-FRM-004", Group.FRAMING, says=other_source),
    _variant("takes a wrong HCS", "HDLC-FRM-005", Group.FRAMING, hears=mends(Fault.HCS)),
    _variant("takes a wrong FCS", "HDLC-FRM-006", Group.FRAMING, hears=mends(Fault.FCS)),
    _variant("one frame a burst", "HDLC-FRM-009", Group.FRAMING, hears=_FIRST_HEARS, says=_FIRST_SAYS),
    _variant("hears all stations", "HDLC-FRM-015", Group.FRAMING, hears=hears_all_stations),
    _variant("offers too much", "HDLC-LNK-003", Group.LINK, says=offers_too_much),
    _variant("never says DM", "HDLC-LNK-006", Group.LINK, says=silent_on(FrameKind.DM)),
    _variant("ignores N(S)", "HDLC-LNK-011", Group.LINK, hears=ignores_ns()),
    _variant("keeps no answer", "HDLC-LNK-012", Group.LINK, says=keeps_no_answer()),
    _variant("answers without P", "HDLC-LNK-015", Group.LINK, hears=answers_without_poll),
    _variant("answers without F", "HDLC-LNK-016", Group.LINK, says=without_final),
    _variant("FRMR without information", "HDLC-LNK-019", Group.LINK, says=rejects_without_information),
    _variant("cuts long tokens", "COAP-MSG-004", Group.COAP, says=messages(short_token)),
    _variant("acknowledges pings", "COAP-MSG-006", Group.COAP, says=messages(acknowledges_pings)),
    _variant("passes over critical options", "COAP-OPT-002", Group.OPTIONS, hears=strip(65001)),
    _variant("ignores Accept", "COAP-OPT-003", Group.OPTIONS, hears=strip(options.ACCEPT)),
    _variant("ignores Block2", "COAP-BLK-001", Group.BLOCK, hears=strip(options.BLOCK2)),
    _variant("registers with 2.03", "COAP-OBS-001", Group.OBSERVE, says=messages(registers_with_valid)),
    _variant("other token in notifications", "COAP-OBS-002", Group.OBSERVE, says=messages(other_token)),
    _variant("Observe stands still", "COAP-OBS-004", Group.OBSERVE, says=messages(stale_observe)),
    _variant("ignores the time", "RES-006", Group.RESOURCES, hears=messages(ignores_time)),
    _variant("clock in another format", "RES-005", Group.RESOURCES, says=format_of(42, 0)),
    _variant("octet after the record", "PAY-001", Group.PAYLOAD, says=messages(trailing)),
    _variant("other type key", "PAY-004", Group.PAYLOAD, says=payload(b"\x64temp\x01", b"\x64tamp\x01")),
    _variant("unit K", "PAY-006", Group.PAYLOAD, says=payload(b",F", b",K")),
    _variant("slow", "TIM-001", Group.TIMING, delay_s=0.7),
    _variant("tires", "END-001", Group.ENDURANCE, hears=tires(45)),
)
