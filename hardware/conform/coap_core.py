"""Cases of group coap: message types, tokens, message IDs, codes (RFC 7252)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge
from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, RST, Message, encode
from meshwire.hdlc.control import FrameKind

__all__ = ["CASES"]

_CORE: Final = ".well-known/core"
_SETTLE_S: Final = 0.6


def answered(answer: Message | None, *wanted: int) -> Outcome:
    """Pass when the answer has one of these codes."""
    return judge(answer is not None and answer.code in wanted, str(answer or "no answer"))


async def silence(bench: Bench, sdu: bytes) -> tuple[str, list[Message], bool]:
    """Send something that deserves no message; what the link said, what came, whether the link said RR."""
    turn = await bench.send(sdu)
    messages = await bench.polled(_SETTLE_S)
    return f"{turn}; messages {[str(message) for message in messages]}", list(messages), turn.has(FrameKind.RR)


async def _con(bench: Bench) -> Outcome:
    request = bench.message(codes.GET, _CORE)
    answer = await bench.ask(request)
    if answer is None:
        return failed("no answer")
    piggybacked = answer.mtype == ACK and answer.mid == request.mid
    return judge(answer.code == codes.CONTENT and (piggybacked or answer.mtype == CON), str(answer))


def _token(octets: bytes) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        answer = await bench.ask(bench.sensor(token=octets))
        good = answer is not None and answer.token == octets and answer.code == codes.CONTENT
        return judge(good, str(answer or "no answer"))

    return run


async def _non(bench: Bench) -> Outcome:
    answer = await bench.get(_CORE, mtype=NON)
    return judge(answer is not None and answer.mtype in (NON, CON), str(answer or "no answer"))


async def _ping(bench: Bench) -> Outcome:
    answer = await bench.ask(encode(Message(CON, codes.EMPTY, 0x7A01)))
    return judge(answer is not None and answer.mtype == RST and answer.mid == 0x7A01, str(answer or "no answer"))


def _unanswered(mtype: int) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        message = Message(mtype, codes.EMPTY, 0x7A02)
        seen, messages, _ = await silence(bench, encode(message))
        return judge(messages == [message] if bench.milli else not messages, seen)

    return run


async def _stray_ack(bench: Bench) -> Outcome:
    seen, messages, ready = await silence(bench, encode(Message(ACK, codes.EMPTY, 0x7A03)))
    return judge(not messages and (bench.milli or ready), seen)


async def _version(bench: Bench) -> Outcome:
    sdu = bytearray(encode(bench.message(codes.GET, _CORE)))
    sdu[0] = sdu[0] & 0x3F | 0x80
    seen, messages, ready = await silence(bench, bytes(sdu))
    return judge(not messages and ready is not bench.milli, seen)


async def _case_sensitive(bench: Bench) -> Outcome:
    return answered(await bench.get(_CORE.upper()), codes.NOT_FOUND)


async def _not_found(bench: Bench) -> Outcome:
    return answered(await bench.get("no/such/path"), codes.NOT_FOUND)


def _method(code: int, path: str | None) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        message = bench.message(code, _CORE) if path else bench.sensor(code)
        wanted = codes.NOT_IMPLEMENTED if bench.milli and path else codes.METHOD_NOT_ALLOWED
        return answered(await bench.ask(message), wanted)

    return run


async def _duplicate(bench: Bench) -> Outcome:
    request = bench.sensor()
    first = await bench.ask(request)
    await asyncio.sleep(1.5)
    second = await bench.ask(request)
    if first is None or first.mtype != ACK:
        return failed(str(first or "no answer"))
    same = second is not None and encode(second) == encode(first)
    return judge(same is not bench.milli, "the same answer" if same else f"{first}; then {second or 'nothing'}")


async def _response_as_request(bench: Bench) -> Outcome:
    message = bench.message(codes.CONTENT, "")
    answer = await bench.ask(message)
    if bench.milli:
        return answered(answer, codes.FORBIDDEN)
    return judge(answer is None or answer.mtype == RST, str(answer or "no answer"))


def _malformed(tail: bytes, dialect: int) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        answer = await bench.ask(encode(bench.message(codes.GET, _CORE)) + tail, wait_s=1.5)
        if bench.milli:
            return answered(answer, dialect)
        return judge(answer is None or answer.mtype == RST, str(answer or "no answer"))

    return run


async def _long_token(bench: Bench) -> Outcome:
    sdu = bytes.fromhex("49017a090102030405060708090a")
    answer = await bench.ask(sdu, wait_s=1.5)
    alive = await bench.get(_CORE)
    return judge((answer is None or answer.mtype == RST) and alive is not None, str(answer or "no answer"))


async def _after_malformed(bench: Bench) -> Outcome:
    for sdu in (b"\x40", b"\x40\x01", b"\xff\xff\xff\xff"):
        await bench.send(sdu)
    await bench.fresh()
    return answered(await bench.get(_CORE), codes.CONTENT)


_case: Final = CaseSeries("COAP-MSG", Group.COAP, "RFC 7252")
CASES: Final = (
    _case(1, "confirmable request", "A CON is answered by an ACK with its message ID, or by a separate CON.", "5.2",
          _con),
    _case(2, "no token", "A token of no octets comes back as it is.", "5.3.1", _token(b"")),
    _case(3, "short token", "A token of one octet comes back as it is.", "5.3.1", _token(b"\x00")),
    _case(4, "longest token", "A token of eight octets comes back.", "5.3.1", _token(bytes(range(248, 256)))),
    _case(5, "non-confirmable request", "A NON is answered by a message of its own, not by an ACK.", "5.2.3", _non),
    _case(6, "ping", "An empty CON is answered by a Reset with its message ID.", "4.3", _ping),
    _case(7, "empty NON", "An empty NON is not answered.", "4.3", _unanswered(NON), "It comes back.", "B.1"),
    _case(8, "stray Reset", "A Reset that fits nothing is not answered.", "4.2", _unanswered(RST), "It comes back.",
          "B.1"),
    _case(9, "stray ACK", "An ACK that fits nothing is not answered; the link says RR.", "4.2", _stray_ack,
          "The link answers an empty I frame (1.4.8) or nothing (1.4.5).", "A.8 rule 7"),
    _case(10, "other version", "A message of another version is ignored; the link says RR.", "3", _version,
          "The link says nothing either.", "A.8 rule 8"),
    _case(11, "case of paths", "Paths that differ in case are different paths.", "6.2.3", _case_sensitive),
    _case(12, "unknown path", "An unknown path is answered 4.04.", "5.9.2.5", _not_found),
    _case(13, "method not allowed", "POST to a sensor is answered 4.05.", "5.8", _method(codes.POST, None)),
    _case(14, "method not allowed, discovery", "POST to /.well-known/core is answered 4.05.", "5.8",
          _method(codes.POST, _CORE), "5.01", "B.3"),
    _case(15, "unknown method", "FETCH where it is unknown is answered 4.05.", "5.8", _method(codes.FETCH, None)),
    _case(16, "duplicate", "A CON that comes again with its message ID is answered alike, not executed again.", "4.5",
          _duplicate, "It is executed again.", "B.1"),
    _case(17, "response nobody asked for", "A CON with a response code is rejected.", "4.2", _response_as_request,
          "It counts as an unknown method: 4.03 on the root.", "B.1"),
    _case(18, "marker without payload", "A payload marker at the end is a format error: Reset, or silence.", "3",
          _malformed(b"\xff", codes.CONTENT), "The payload is empty.", "B.2"),
    _case(19, "option cut off", "An option longer than the message is a format error: Reset, or silence.", "3.1",
          _malformed(b"\x4a\x01", codes.UNSUPPORTED_CONTENT_FORMAT), "4.15", "B.2"),
    _case(20, "token too long", "A token length of 9 is a format error, and the board lives on.", "3", _long_token,
          "Never send it: it overruns memory.", "G", destructive=True),
    _case(21, "after malformed messages", "What cannot be read does no harm.", "3", _after_malformed),
)  # fmt: skip
