"""Cases of group link: SNRM, DISC, sequence numbers, P and F, what is refused (IEC 62056-46, 6.4.4; ISO/IEC 13239)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hardware.conform.bench import Bench, Turn
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge, skipped
from meshwire.coap import codes
from meshwire.coap.message import encode
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.crc import crc16_x25
from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.parameters import LinkParameters, decode_parameters, encode_parameters

__all__ = ["CASES"]

_SMALL: Final = LinkParameters(128, 128, 1, 1)


def _number(turn: Turn) -> int:
    """N(R) of the answer, -1 for none."""
    return turn.last.control.nr if turn.last and turn.has(FrameKind.RR, FrameKind.I) else -1


def _request(bench: Bench) -> bytes:
    return encode(bench.message(codes.GET, ".well-known/core"))


async def _snrm(bench: Bench) -> Outcome:
    await bench.release()
    turn = await bench.connect()
    return judge(turn.has(FrameKind.UA), str(turn))


async def _parameters(bench: Bench) -> Outcome:
    info = (await bench.connect()).frames[0].info
    try:
        return judge(True, str(decode_parameters(info)))
    except ParameterError as error:
        return failed(str(error))


async def _negotiation(bench: Bench) -> Outcome:
    await bench.release()
    turn = await bench.command(FrameKind.SNRM, encode_parameters(_SMALL))
    try:
        stated = decode_parameters(turn.frames[0].info if turn.frames else b"")
    except ParameterError as error:
        return skipped(str(error))
    if bench.milli:
        return judge(stated in (LinkParameters(255, 255, 1, 1), _SMALL), str(stated))
    limits = (stated.max_info_transmit, stated.max_info_receive, stated.window_transmit, stated.window_receive)
    return judge(limits[0] <= 128 and limits[1] <= 128 and limits[2] == limits[3] == 1, str(stated))


async def _disc(bench: Bench) -> Outcome:
    turn = await bench.release()
    return judge(turn.has(FrameKind.UA), str(turn))


def _disconnected(kind: FrameKind) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        await bench.release()
        turn = await bench.command(kind, _request(bench) if kind is FrameKind.I else b"")
        return judge(turn.has(FrameKind.DM), str(turn))

    return run


async def _ready(bench: Bench) -> Outcome:
    turn = await bench.command(FrameKind.RR)
    return judge(turn.has(FrameKind.RR) and _number(turn) == 0, str(turn))


async def _advances(bench: Bench) -> Outcome:
    first = await bench.send(_request(bench))
    if not first.has(FrameKind.I, FrameKind.RR):
        return failed(str(first))
    return judge(_number(first) == 1, f"N(R)={_number(first)} after N(S)=0")


async def _repeated(bench: Bench) -> Outcome:
    request = _request(bench)
    await bench.send(request)
    await bench.polled()
    bench.inbox.clear()
    bench.send_number = 0
    turn = await bench.send(request)
    more = await bench.polled()
    if bench.milli:
        return judge(len(more) == 1 and _number(turn) == 1, f"{turn}, {len(more)} messages")
    return judge(not more and _number(turn) == 1, f"{turn}, {len(more)} messages")


async def _gap(bench: Bench) -> Outcome:
    bench.send_number = 3
    turn = await bench.send(_request(bench))
    more = await bench.polled()
    if bench.milli:
        return judge(len(more) == 1 and _number(turn) == 0, f"{turn}, {len(more)} messages")
    return judge(not more and _number(turn) == 0, f"{turn}, {len(more)} messages")


async def _first_information(bench: Bench) -> Turn:
    """Poll until the answer comes; the turn that brought it."""
    turn = await bench.send(_request(bench))
    for _ in range(40):
        if turn.has(FrameKind.I):
            break
        await asyncio.sleep(0.05)
        turn = await bench.poll()
    return turn


async def _kept(bench: Bench) -> Outcome:
    first = await _first_information(bench)
    if not first.has(FrameKind.I):
        return failed(f"{first}: no answer to repeat")
    bench.receive_number = 0
    again = await bench.poll()
    if bench.milli:
        return judge(not again.has(FrameKind.I), str(again))
    same = [frame.info for frame in first.frames] == [frame.info for frame in again.frames]
    return judge(same, f"{first}; asked again: {again}")


async def _acknowledged(bench: Bench) -> Outcome:
    first = await _first_information(bench)
    again = await bench.poll()
    before = {frame.info for frame in first.frames if frame.kind is FrameKind.I}
    repeated = [frame for frame in again.frames if frame.kind is FrameKind.I and frame.info in before]
    return judge(before and not repeated, f"{first}; acknowledged: {again}")


async def _pending(bench: Bench) -> Outcome:
    if not bench.first_words:
        return skipped("the board had nothing to say when it was first polled")
    repeated = len({encode(message) for message in bench.first_words}) < len(bench.first_words)
    seen = f"{len(bench.first_words)} messages at first contact" + (", one of them again" if repeated else "")
    return judge(repeated == bench.milli, seen)


async def _without_poll(bench: Bench) -> Outcome:
    turn = await bench.command(FrameKind.RR, poll=False)
    return judge(turn.has(FrameKind.RR) if bench.milli else not turn.octets, str(turn))


async def _final(bench: Bench) -> Outcome:
    await bench.release()
    turns = [await bench.connect(), await bench.command(FrameKind.RR), await bench.send(_request(bench))]
    finals = [[frame.final for frame in turn.frames] for turn in turns]
    good = all(marks and marks[-1] and not any(marks[:-1]) for marks in finals)
    return judge(good, "F bits " + ", ".join(str([int(mark) for mark in marks]) for marks in finals))


async def _restart(bench: Bench) -> Outcome:
    await bench.send(_request(bench))
    await bench.polled()
    await bench.connect()
    turn = await bench.command(FrameKind.RR)
    first = await _first_information(bench)
    sent = [frame.control.ns for frame in first.frames if frame.kind is FrameKind.I]
    return judge(_number(turn) == 0 and sent[:1] == [0], f"{turn}; then {first}")


def _rejected(turn: Turn) -> Outcome:
    return judge(turn.has(FrameKind.FRMR), str(turn))


async def _unknown(bench: Bench) -> Outcome:
    turn = await bench.raw(_bad_control())
    return judge(not turn.octets, str(turn)) if bench.milli else _rejected(turn)


def _bad_control() -> bytes:
    """Control field 3F, which the unbalanced class does not have, with P."""
    header = bytes.fromhex("a00703033f")
    return b"\x7e" + header + crc16_x25(header).to_bytes(2, "little") + b"\x7e"


async def _reject_info(bench: Bench) -> Outcome:
    turn = await bench.raw(_bad_control())
    if bench.milli:
        turn = await bench.command(FrameKind.RNR)
        return judge(turn.has(FrameKind.FRMR) and not turn.frames[0].info, str(turn))
    info = turn.frames[0].info if turn.frames else b""
    return judge(len(info) == 3 and info[0] == 0x3F and info[2] & 1, f"information {info.hex(' ') or 'none'}")


async def _reject_condition(bench: Bench) -> Outcome:
    await bench.raw(_bad_control())
    turn = await bench.command(FrameKind.RR)
    if bench.milli:
        return judge(turn.has(FrameKind.RR), str(turn))
    again = await bench.connect()
    return judge(turn.has(FrameKind.FRMR) and again.has(FrameKind.UA), f"RR: {turn}; SNRM: {again}")


async def _bad_number(bench: Bench) -> Outcome:
    bench.receive_number = 5
    turn = await bench.command(FrameKind.RR)
    return judge(turn.has(FrameKind.RR), str(turn)) if bench.milli else _rejected(turn)


async def _not_ready(bench: Bench) -> Outcome:
    turn = await bench.command(FrameKind.RNR)
    return judge(turn.has(FrameKind.FRMR if bench.milli else FrameKind.RR), str(turn))


async def _held(bench: Bench) -> Outcome:
    if bench.milli:
        return skipped("RNR is answered FRMR")
    request = bench.frame(FrameKind.I, _request(bench), poll=False)
    bench.send_number = 1
    await bench.raw(request)
    turns = [await bench.command(FrameKind.RNR) for _ in range(3)]
    later = await bench.polled()
    held = not any(turn.has(FrameKind.I) for turn in turns)
    return judge(held and len(later) == 1, f"RNR: {turns[-1]}; then {len(later)} messages")


async def _empty_information(bench: Bench) -> Outcome:
    turn = await bench.send(b"")
    if bench.milli:
        after = await bench.command(FrameKind.RR)
        return judge(not turn.octets and _number(after) == 1, f"{turn}; then {after}")
    return judge(_number(turn) == 1, str(turn))


async def _segments(bench: Bench) -> Outcome:
    message = bench.message(codes.GET, ".well-known/core")
    sdu = encode(message)
    turn = await bench.command(FrameKind.I, sdu[:9], segmented=True)
    bench.send_number = 1
    if bench.milli:
        return judge(turn.has(FrameKind.I), str(turn))
    await bench.send(sdu[9:])
    later = await bench.polled()
    good = any(answer.token == message.token and answer.code == codes.CONTENT for answer in later)
    return judge(good, f"{turn}; {[str(answer) for answer in later]}")


async def _unasked(bench: Bench) -> Outcome:
    turn = await bench.collect(3.0)
    return judge(not turn.octets, str(turn))


async def _ack_of_u(bench: Bench) -> Outcome:
    await bench.release()
    turn = await bench.raw(bench.frame(FrameKind.SNRM, poll=False))
    return judge(turn.has(FrameKind.UA) or not turn.octets, str(turn))


_case: Final = CaseSeries("HDLC-LNK", Group.LINK)
_DIS: Final = "IEC 62056-46, 6.4.4.4.1"
_NUMBERS: Final = "ISO/IEC 13239, 5.5.2"
_REJECTION: Final = "ISO/IEC 13239, 5.5.3.3"
_NO_FRMR: Final = "HDLC-LNK-018"
CASES: Final = (
    _case(1, "SNRM", "SNRM is answered UA.", "IEC 62056-46, 6.4.4.4.3", _snrm),
    _case(2, "parameters", "The information of UA is a readable parameter group, or none.",
          "IEC 62056-46, 6.4.4.4.3.2", _parameters),
    _case(3, "negotiation", "UA states no more than SNRM proposed.", "IEC 62056-46, 6.4.4.4.3.2", _negotiation,
          "UA always states 255 octets and window 1.", "A.5"),
    _case(4, "DISC", "DISC ends the link with UA.", "IEC 62056-46, 6.4.4.4.4", _disc),
    _case(5, "DISC without link", "Disconnected, DISC is answered DM.", _DIS, _disconnected(FrameKind.DISC)),
    _case(6, "RR without link", "Disconnected, RR is answered DM.", _DIS, _disconnected(FrameKind.RR)),
    _case(7, "I without link", "Disconnected, an I frame is answered DM.", _DIS, _disconnected(FrameKind.I)),
    _case(8, "RR", "With nothing to say, RR is answered RR with N(R) = V(R) = 0.", _NUMBERS, _ready),
    _case(9, "I frame", "An I frame in sequence is acknowledged: N(R) is N(S) + 1.", _NUMBERS, _advances),
    _case(10, "repeated I frame", "An I frame that repeats an N(S) is not executed again.", _NUMBERS, _repeated,
          "It is executed and answered again.", "A.8 rule 2"),
    _case(11, "gap in N(S)", "An I frame with another N(S) than V(R) is not executed; N(R) stays.", _NUMBERS, _gap,
          "It is executed; V(R) stays.", "A.8 rule 2"),
    _case(12, "answer lost", "An I frame that N(R) does not acknowledge is sent again.", _NUMBERS, _kept,
          "An answer is not kept.", "A.8 rule 4"),
    _case(13, "answer acknowledged", "An acknowledged I frame is not sent again.", _NUMBERS, _acknowledged),
    _case(14, "message acknowledged", "A message of the board's own is not sent again once acknowledged.", _NUMBERS,
          _pending, "It is sent on every RR until DISC.", "A.8 rule 5"),
    _case(15, "no P", "RR without P is not answered.", "ISO/IEC 13239, 5.3.1", _without_poll,
          "It is answered.", "A.4"),
    _case(16, "F", "The last frame of an answer has F, no other.", "ISO/IEC 13239, 5.3.1", _final),
    _case(17, "SNRM again", "SNRM sets V(S) and V(R) to 0.", "ISO/IEC 13239, 5.5.3.1", _restart),
    _case(18, "unknown control field", "An undefined command with P is answered FRMR.", _REJECTION, _unknown,
          "It is dropped.", "A.8"),
    _case(19, "FRMR information", "FRMR tells the control field, V(S), V(R) and the reason W.", _REJECTION,
          _reject_info, "FRMR has no information.", "A.8 rule 9", needs=(_NO_FRMR,)),
    _case(20, "frame reject condition", "After FRMR polls are answered FRMR until SNRM.", _REJECTION,
          _reject_condition, "The link stays as it was.", "A.8", needs=(_NO_FRMR,)),
    _case(21, "invalid N(R)", "An N(R) that was never sent is answered FRMR.", _REJECTION, _bad_number,
          "It is ignored.", "A.8 rule 1"),
    _case(22, "RNR", "RNR with P is answered RR when there is nothing to say.", "ISO/IEC 13239, 5.5.2.3", _not_ready,
          "It is answered FRMR.", "A.8"),
    _case(23, "RNR holds information", "While the primary says RNR, no I frame is sent; afterwards it is.",
          "ISO/IEC 13239, 5.5.2.3", _held, needs=("HDLC-LNK-022", "HDLC-LNK-012")),
    _case(24, "I without information", "An I frame without information is acknowledged.", _NUMBERS,
          _empty_information, "V(R) advances without an answer.", "A.8"),
    _case(25, "segments", "A message in two segments is put together.", "IEC 62056-46, 6.4.1", _segments,
          "The segmentation bit is ignored.", "A.3"),
    _case(26, "never unasked", "A secondary sends nothing that was not polled for.", "ISO/IEC 13239, 5.2.1", _unasked),
    _case(27, "SNRM without P", "SNRM without P is answered UA, or not at all.", "ISO/IEC 13239, 5.3.1", _ack_of_u),
)  # fmt: skip
