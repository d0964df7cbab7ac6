"""Cases of group block: block-wise transfer, where the board offers it (RFC 7959)."""

from __future__ import annotations

from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge, skipped
from hardware.conform.coap_core import answered
from meshwire.coap import codes, options
from meshwire.coap.message import Message
from meshwire.coap.options import encode_uint

__all__ = ["CASES"]

_CORE: Final = ".well-known/core"
_OCTETS: Final = 16
_MORE: Final = 8
_MAX_BLOCKS: Final = 128


async def _block(bench: Bench, number: int, exponent: int = 0) -> Message | None:
    return await bench.get(_CORE, extra=[(options.BLOCK2, encode_uint(number << 4 | exponent))])


async def _first(bench: Bench) -> Outcome:
    answer = await _block(bench, 0)
    value = None if answer is None else answer.uint(options.BLOCK2)
    if answer is None or answer.code != codes.CONTENT:
        return failed(str(answer or "no answer"))
    seen = f"Block2 {'absent' if value is None else format(value, 'x')}, {len(answer.payload)} octets"
    if bench.milli:
        return judge(value is None, seen)
    whole = len(answer.payload) <= _OCTETS
    return judge(whole if value is None else len(answer.payload) == _OCTETS and value == _MORE, seen)


async def _all(bench: Bench) -> Outcome:
    if bench.milli:
        return skipped("the dialect has no block-wise transfer")
    plain = await bench.get(_CORE)
    if plain is None or plain.option(options.BLOCK2) is not None:
        return skipped("discovery does not fit one message")
    body = b""
    for number in range(_MAX_BLOCKS):
        answer = await _block(bench, number)
        value = None if answer is None else answer.uint(options.BLOCK2)
        if answer is None or value is None:
            return failed(f"block {number}: {answer or 'no answer'}")
        body += answer.payload
        if not value & _MORE:
            break
    return judge(body == plain.payload, f"{len(body)} octets in blocks, {len(plain.payload)} in one message")


async def _reserved(bench: Bench) -> Outcome:
    answer = await _block(bench, 0, 7)
    if bench.milli:
        return answered(answer, codes.CONTENT)
    return judge(
        answer is None or answer.code in (codes.BAD_REQUEST, codes.BAD_OPTION, codes.EMPTY), str(answer or "no answer")
    )


async def _block1(bench: Bench) -> Outcome:
    time = int(bench.wall_clock())
    payload = b"\x06\x08" + time.to_bytes(4, "big") + bytes(4)
    answer = await bench.ask(bench.message(codes.PUT, "sys/time", extra=[(options.BLOCK1, b"")], payload=payload))
    refused = answer is not None and answer.code in (codes.BAD_OPTION, codes.REQUEST_ENTITY_TOO_LARGE)
    return judge(refused or (answer is not None and answer.option(options.BLOCK1) is not None), str(answer or "none"))


_case: Final = CaseSeries("COAP-BLK", Group.BLOCK, "RFC 7959")
CASES: Final = (
    _case(1, "small first block", "Block2 with 16 octets is answered by 16 octets, more to come.", "2.4", _first,
          "Block2 is ignored.", "B.2"),
    _case(2, "all blocks", "The blocks put together are the whole representation.", "2.4", _all,
          needs=("COAP-BLK-001",)),
    _case(3, "reserved size", "SZX 7 is refused with 4.00 or a Reset.", "2.2", _reserved, "Block2 is ignored.", "B.2"),
    _case(4, "Block1", "Block1 is echoed, or refused with 4.02 or 4.13.", "2.3", _block1),
)  # fmt: skip
