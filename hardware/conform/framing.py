"""Cases of group framing: where frames begin and end, and which are taken (IEC 62056-46, 6.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from hardware.conform.bench import Bench, Turn
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge
from hardware.conform.seen_frame import Fault
from meshwire.coap import codes
from meshwire.coap.message import encode
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind
from meshwire.hdlc.crc import crc16_x25
from meshwire.hdlc.frame import Frame, encode_frame

__all__ = ["CASES"]

_RR: Final = ControlField(FrameKind.RR, poll_final=True)
_OWN: Final = b"\x03"
_PADDING_OPTION: Final = 65000
"""Elective (even), so that every server passes over it."""


def _faults_of(*faults: Fault) -> Callable[[Bench], Awaitable[Outcome]]:
    """Judge the frames of an ordinary exchange by one kind of fault."""

    async def run(bench: Bench) -> Outcome:
        await bench.release()
        turns = [await bench.connect(), await bench.command(FrameKind.RR)]
        await bench.ask(bench.message(codes.GET, ".well-known/core"))
        frames = [frame for turn in turns for frame in turn.seen]
        bad = [fault.value for frame in frames for fault in frame.faults if fault in faults]
        return judge(frames and not bad, "; ".join(sorted(set(bad))) or f"{len(frames)} frames")

    return run


async def _addresses(bench: Bench) -> Outcome:
    turn = await bench.command(FrameKind.RR)
    pairs = {(frame.destination, frame.source) for frame in turn.frames}
    return judge(pairs == {(_OWN, _OWN)}, f"destination and source {[(a.hex(), b.hex()) for a, b in pairs]}")


def _ignored(turn: Turn) -> Outcome:
    return judge(not turn.octets, str(turn))


def _ready(turn: Turn) -> Outcome:
    return judge(turn.has(FrameKind.RR), str(turn))


async def _wrong_hcs(bench: Bench) -> Outcome:
    octets = bytearray(bench.frame(FrameKind.RR))
    octets[-2] ^= 0x10
    return _ignored(await bench.raw(bytes(octets)))


async def _wrong_fcs(bench: Bench) -> Outcome:
    octets = bytearray(bench.frame(FrameKind.I, encode(bench.message(codes.GET, ".well-known/core"))))
    octets[-2] ^= 0x10
    turn = await bench.raw(bytes(octets))
    after = await bench.command(FrameKind.RR)
    number = after.last.control.nr if after.last else -1
    return judge(not turn.octets and number == 0, f"{turn}; then {after}")


def _preceded_by(octets: bytes) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        turn = await bench.raw(octets + bench.frame(FrameKind.RR))
        return _ignored(turn) if bench.milli else _ready(turn)

    return run


def _two_frames(shared_flag: bool) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        await bench.release()
        first = bench.frame(FrameKind.SNRM)
        second = encode_frame(Frame(Address(1), Address(1), _RR))
        turn = await bench.raw((first[:-1] if shared_flag else first) + second)
        if bench.milli:
            return _ignored(turn)
        return judge(turn.has(FrameKind.UA) and turn.has(FrameKind.RR), str(turn))

    return run


async def _wrong_type(bench: Bench) -> Outcome:
    header = bytes.fromhex("9007030311")
    return _ignored(await bench.raw(b"\x7e" + header + crc16_x25(header).to_bytes(2, "little") + b"\x7e"))


async def _small_gap(bench: Bench) -> Outcome:
    octets = bench.frame(FrameKind.RR)
    return _ready(await bench.raw(octets[:5], octets[5:], pause_s=0.02))


async def _cut_off(bench: Bench) -> Outcome:
    turn = await bench.raw(bench.frame(FrameKind.I, b"\x40\x01\x00\x01")[:9])
    after = await bench.command(FrameKind.RR)
    return judge(not turn.octets and after.has(FrameKind.RR), f"{turn}; then {after}")


async def _transparency(bench: Bench) -> Outcome:
    token = bytes.fromhex("7e7d7e7d5e7e")
    answer = await bench.get(".well-known/core", token=token)
    return judge(answer is not None and answer.token == token, str(answer or "no answer"))


def _addressed_to(address: Address) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        turn = await bench.raw(encode_frame(Frame(address, Address(1), _RR)))
        return _ready(turn) if bench.milli and address.size == 1 else _ignored(turn)

    return run


def _padded(bench: Bench, octets: int) -> bytes:
    """A GET of exactly so many octets."""
    bare = encode(bench.message(codes.GET, ".well-known/core", extra=[(_PADDING_OPTION, b"")]))
    return encode(
        bench.message(codes.GET, ".well-known/core", extra=[(_PADDING_OPTION, bytes(octets - len(bare) - 1))])
    )


async def _longest(bench: Bench) -> Outcome:
    limit = 239 if bench.milli else 128
    answer = await bench.ask(_padded(bench, limit))
    return judge(answer is not None and answer.code == codes.CONTENT, str(answer or "no answer"))


async def _too_long(bench: Bench) -> Outcome:
    turn = await bench.command(FrameKind.I, _padded(bench, 256))
    later = await bench.polled(0.3)
    return judge(not later and not turn.has(FrameKind.I), f"{turn}; {len(later)} messages later")


async def _noise_alone(bench: Bench) -> Outcome:
    return _ignored(await bench.raw(bytes.fromhex("00ff55aa0311de7f")))


async def _short_length(bench: Bench) -> Outcome:
    header = bytes.fromhex("a003030311")
    turn = await bench.raw(b"\x7e" + header + crc16_x25(header).to_bytes(2, "little") + b"\x7e")
    return _ready(turn) if bench.milli else _ignored(turn)


async def _alive_after_flags(bench: Bench) -> Outcome:
    turn = await bench.raw(b"\x7e" * 9)
    if turn.octets:
        return failed(str(turn))
    return _ready(await bench.command(FrameKind.RR))


_case: Final = CaseSeries("HDLC-FRM", Group.FRAMING)
_6_4_1: Final = "IEC 62056-46, 6.4.1"
CASES: Final = (
    _case(1, "flags and length", "Each frame has type 3, one flag at each end and the length between them.", _6_4_1,
          _faults_of(Fault.LENGTH, Fault.TYPE, Fault.NOISE)),
    _case(2, "HCS sent", "The HCS is CRC-16/X-25 over format, addresses and control, low octet first.",
          "IEC 62056-46, 6.4.4.2 and annex A", _faults_of(Fault.HCS)),
    _case(3, "FCS sent", "The FCS covers all before it, and is there only with information.",
          "IEC 62056-46, 6.4.5 and annex A", _faults_of(Fault.FCS)),
    _case(4, "addresses sent", "The answer goes to the source of the command and comes from its destination.",
          "IEC 62056-46, 6.4.2", _addresses),
    _case(5, "wrong HCS", "A frame with a wrong HCS is not answered.", "ISO/IEC 13239, 4.2.5", _wrong_hcs),
    _case(6, "wrong FCS", "A frame with a wrong FCS is neither answered nor executed; V(R) stays.",
          "ISO/IEC 13239, 4.2.5", _wrong_fcs),
    _case(7, "noise before a frame", "Octets outside of frames are passed over.", _6_4_1, _preceded_by(b"\x55"),
          "The whole buffer is dropped.", "A.7"),
    _case(8, "two opening flags", "Flags between frames are passed over.", "ISO/IEC 13239, 4.2.1",
          _preceded_by(b"\x7e"), "The whole buffer is dropped.", "A.7"),
    _case(9, "frames back to back", "Two frames in one burst are both taken.", "ISO/IEC 13239, 4.2.1",
          _two_frames(False), "Both are dropped.", "A.7"),
    _case(10, "one flag for two frames", "A closing flag may open the next frame.", "ISO/IEC 13239, 4.2.1",
          _two_frames(True), "Both are dropped.", "A.7"),
    _case(11, "other frame type", "A format field of another type than 3 is not answered.", _6_4_1, _wrong_type),
    _case(12, "small gap", "Silence of 20 ms inside a frame does not end it.", "IEC 62056-46, 6.4.4.3.3", _small_gap),
    _case(13, "frame cut off", "The rest of a frame that never comes does not hide the next one.",
          "IEC 62056-46, 6.4.4.3.3", _cut_off),
    _case(14, "no transparency", "7E and 7D inside information are taken and sent as they are.", _6_4_1, _transparency),
    _case(15, "other station", "A frame to another address is not answered.", "IEC 62056-46, 6.4.2",
          _addressed_to(Address(0x10)), "Address values are not compared: it is answered.", "A.3"),
    _case(16, "address of two octets", "A frame to an address of another size is not answered.",
          "IEC 62056-46, 6.4.2", _addressed_to(Address(1, 2))),
    _case(17, "information of 128 octets", "Information of the default maximum, 128 octets, is taken.",
          "IEC 62056-46, 6.4.4.4.3.2", _longest, "A CoAP message of 239 octets is taken.", "A.6"),
    _case(18, "information too long", "256 octets, more than the UA offers, are not executed.",
          "ISO/IEC 13239, 5.5.3", _too_long, "The frame is dropped.", "A.6"),
    _case(19, "noise alone", "Noise is not answered.", _6_4_1, _noise_alone),
    _case(20, "length field below 7", "A frame whose length field is wrong is not answered.", _6_4_1, _short_length,
          "A length below 7 is not checked without information.", "A.7"),
    _case(21, "flags alone", "Flags alone are not answered, do no harm.", "ISO/IEC 13239, 4.2.1", _alive_after_flags),
)  # fmt: skip
