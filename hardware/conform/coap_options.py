"""Cases of group options: which options are understood, passed over and refused (RFC 7252, 5.4 and 5.10)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import CaseSeries, Group, Outcome, judge, skipped
from hardware.conform.coap_core import answered
from meshwire.coap import codes, options

__all__ = ["CASES"]

_CORE: Final = ".well-known/core"
_XML: Final = 41


def _with(number: int, value: bytes, standard: int, dialect: int) -> Callable[[Bench], Awaitable[Outcome]]:
    async def run(bench: Bench) -> Outcome:
        answer = await bench.get(_CORE, extra=[(number, value)])
        return answered(answer, dialect if bench.milli else standard)

    return run


async def _accept(bench: Bench) -> Outcome:
    answer = await bench.ask(bench.sensor(extra=[(options.ACCEPT, bytes((_XML,)))]))
    return answered(answer, codes.CONTENT if bench.milli else codes.NOT_ACCEPTABLE)


async def _accepted(bench: Bench) -> Outcome:
    plain = await bench.ask(bench.sensor())
    if plain is None or (wanted := plain.option(options.CONTENT_FORMAT)) is None:
        return skipped("the sensor's answer has no Content-Format")
    answer = await bench.ask(bench.sensor(extra=[(options.ACCEPT, wanted)]))
    return answered(answer, codes.CONTENT)


async def _etag(bench: Bench) -> Outcome:
    for _ in range(3):
        plain = await bench.ask(bench.sensor())
        if plain is None or (etag := plain.option(options.ETAG)) is None:
            return skipped("the sensor's answer has no ETag")
        answer = await bench.ask(bench.sensor(extra=[(options.ETAG, etag)]))
        if answer is not None and answer.code == codes.VALID:
            return judge(answer.option(options.ETAG) == etag and not answer.payload, str(answer))
        if answer is None or answer.option(options.ETAG) == etag:
            return answered(answer, codes.VALID)
    return skipped("the value changed between any two requests")


async def _long_query(bench: Bench) -> Outcome:
    answer = await bench.get(bench.settings.sensor, "q" * 140)
    alive = await bench.get(_CORE)
    return judge(answer is not None and answer.code >> 5 == 4 and alive is not None, str(answer or "no answer"))


async def _long_observe(bench: Bench) -> Outcome:
    answer = await bench.get(_CORE, extra=[(options.OBSERVE, b"\x00\x01")])
    alive = await bench.get(_CORE)
    return judge(answer is not None and alive is not None, str(answer or "no answer"))


_case: Final = CaseSeries("COAP-OPT", Group.OPTIONS, "RFC 7252")
CASES: Final = (
    _case(1, "unknown elective option", "An unknown elective option is passed over.", "5.4.1",
          _with(65000, b"\x01", codes.CONTENT, codes.CONTENT)),
    _case(2, "unknown critical option", "An unknown critical option in a CON is answered 4.02.", "5.4.1",
          _with(65001, b"\x01", codes.BAD_OPTION, codes.BAD_OPTION)),
    _case(3, "Accept not possible", "A format that the board does not have is answered 4.06.", "5.10.4", _accept,
          "Accept is ignored.", "B.2"),
    _case(4, "Accept possible", "Accept with the resource's own format is answered 2.05.", "5.10.4", _accepted),
    _case(5, "Proxy-Uri", "A board that is no proxy answers Proxy-Uri with 5.05.", "5.10.2",
          _with(options.PROXY_URI, b"coap://h/x", codes.PROXYING_NOT_SUPPORTED, codes.CONTENT),
          "Proxy-Uri is ignored.", "B.2"),
    _case(6, "Uri-Host and Uri-Port", "Uri-Host is understood.", "5.10.1",
          _with(options.URI_HOST, b"localhost", codes.CONTENT, codes.CONTENT)),
    _case(7, "ETag", "A request with the right ETag is answered 2.03 without payload.", "5.10.6.2", _etag),
    _case(8, "long query", "A query of 140 octets is refused, and the board lives on.", "5.10.1", _long_query,
          "Never send it: it overruns memory.", "G", destructive=True),
    _case(9, "Observe of two octets", "It is answered, and the board lives on.", "5.4.3", _long_observe,
          "Never send it: an unaligned access.", "G", destructive=True),
)  # fmt: skip
