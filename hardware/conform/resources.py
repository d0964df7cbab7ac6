"""Cases of group resources: discovery, time and the reboot message (RFC 6690; dialect B.3 and B.6)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import Case, Group, Outcome, Verdict, failed, judge, skipped
from hardware.conform.coap_core import answered
from meshwire.coap import codes, options

__all__ = ["CASES"]

_CORE: Final = ".well-known/core"
_TIME: Final = "sys/time"
_ATTRIBUTE: Final = r';[A-Za-z0-9!#$&+.^_`|~*-]+(?:=(?:"[^"]*"|[^",;]+))?'
_LINK: Final = rf"<([^>]*)>((?:{_ATTRIBUTE})*)"
_LINKS: Final = re.compile(rf"{_LINK}(?:,{_LINK})*")
_CLOCK_TOLERANCE_S: Final = 3


async def _links(bench: Bench) -> str:
    answer = await bench.get(_CORE)
    return "" if answer is None else answer.payload.decode(errors="replace")


async def _discovery(bench: Bench) -> Outcome:
    answer = await bench.get(_CORE)
    good = answer is not None and answer.code == codes.CONTENT
    return judge(good and answer and answer.uint(options.CONTENT_FORMAT) == options.LINK_FORMAT, str(answer or "none"))


async def _syntax(bench: Bench) -> Outcome:
    text = await _links(bench)
    return judge((_LINKS.fullmatch(text) is None) is bench.milli, text)


async def _observable(bench: Bench) -> Outcome:
    text = await _links(bench)
    observable = [path for path, attributes in re.findall(_LINK, text) if ";obs" in attributes]
    return judge(bool(observable) is not bench.milli, f"observable: {', '.join(observable) or 'none'}")


async def _listed(bench: Bench) -> Outcome:
    paths = [path for path, _ in re.findall(_LINK, await _links(bench))]
    if not paths:
        return skipped("no links")
    missing = []
    for path in paths:
        answer = await bench.get(path.lstrip("/"))
        if answer is None or answer.code in (codes.EMPTY, codes.NOT_FOUND):
            missing.append(path)
    return judge(bool(missing) is bench.milli, f"{len(paths)} links; not served: {', '.join(missing) or 'none'}")


async def _epoch(bench: Bench) -> int | None:
    answer = await bench.get(_TIME)
    if answer is None or answer.code != codes.CONTENT or len(answer.payload) != 4:
        return None
    return int.from_bytes(answer.payload, "big")


async def _time(bench: Bench) -> Outcome:
    answer = await bench.get(_TIME)
    good = answer is not None and answer.code == codes.CONTENT and len(answer.payload) == 4
    right_format = answer is not None and answer.uint(options.CONTENT_FORMAT) == options.OCTET_STREAM
    return judge(good and right_format, str(answer or "no answer"))


async def _put_time(bench: Bench, kind: int, seconds: int) -> Outcome:
    payload = bytes((kind, 8)) + seconds.to_bytes(4, "big", signed=kind == 7) + bytes(4)
    return answered(await bench.ask(bench.message(codes.PUT, _TIME, payload=payload)), codes.CHANGED)


async def _set_time(bench: Bench) -> Outcome:
    """An hour ahead, so that a clock which is right already shows whether it obeys; then right again."""
    wanted = int(bench.wall_clock()) + 3600
    outcome = await _put_time(bench, 6, wanted)
    epoch = await _epoch(bench)
    await _put_time(bench, 6, int(bench.wall_clock()))
    if epoch is None or outcome.verdict is not Verdict.PASS:
        return failed(outcome.seen)
    return judge(0 <= epoch - wanted <= _CLOCK_TOLERANCE_S, f"set to {wanted}, then {epoch}")


async def _delta(bench: Bench) -> Outcome:
    before = await _epoch(bench)
    payload = b"\x07\x08" + (0).to_bytes(4, "big") + bytes(4)
    answer = await bench.ask(bench.message(codes.PUT, _TIME, payload=payload))
    after = await _epoch(bench)
    if answer is None or before is None or after is None:
        return failed("no answer")
    if bench.milli:
        return judge(answer.code == codes.EMPTY, str(answer))
    return judge(codes.is_response(answer.code) and 0 <= after - before <= _CLOCK_TOLERANCE_S, str(answer))


async def _bad_time(bench: Bench) -> Outcome:
    answer = await bench.ask(bench.message(codes.PUT, _TIME, payload=b"\x09\x08\x00"))
    return judge(answer is not None and answer.code >> 5 == 4, str(answer or "no answer"))


async def _ticks(bench: Bench) -> Outcome:
    before, began = await _epoch(bench), bench.now()
    await bench.collect(2.0)
    after, took = await _epoch(bench), bench.now() - began
    if before is None or after is None:
        return failed("no time")
    return judge(abs(after - before - took) <= 1.5, f"{after - before} s on the board in {took:.1f} s")


async def _reboot(bench: Bench) -> Outcome:
    if not bench.first_words:
        return skipped("the board said nothing when it was first polled: it had started before")
    words = bench.first_words[0]
    good = words.code == codes.PUT and words.path() == ("sys", "snsr") and words.query() == ("ev=rbt",)
    return judge(good, str(words))


def _case(
    number: int,
    title: str,
    rule: str,
    clause: str,
    run: Callable[[Bench], Awaitable[Outcome]],
    dialect: str = "",
    dialect_clause: str = "",
) -> Case:
    return Case(f"RES-{number:03}", Group.RESOURCES, title, rule, clause, run, dialect, dialect_clause)


CASES: Final = (
    _case(1, "discovery", "/.well-known/core is answered 2.05 with format 40.", "RFC 6690, 4", _discovery),
    _case(2, "link format", "The links keep to the grammar.", "RFC 6690, 2", _syntax,
          "A semicolon and a comma are left over.", "B.3"),
    _case(3, "observable links", "At least one link has obs.", "RFC 7641, 6", _observable, "None has.", "B.3"),
    _case(4, "listed means served", "A GET of each listed path finds a resource.", "RFC 6690, 4", _listed,
          "/sys is 4.04, the classifier a bare ACK.", "B.3"),
    _case(5, "time", "GET /sys/time is answered by four octets of Unix seconds, format 42.", "dialect B.3", _time),
    _case(6, "set the time", "PUT 06 08 sets the clock.", "dialect B.3", _set_time),
    _case(7, "time difference", "PUT 07 08 is applied or refused, by a response.", "dialect B.3", _delta,
          "A bare ACK.", "B.3"),
    _case(8, "bad time", "Another time structure is refused by 4.xx.", "dialect B.3", _bad_time),
    _case(9, "clock runs", "The clock goes forward, a second a second.", "dialect B.3", _ticks),
    _case(10, "reboot message", "When first polled the board says PUT /sys/snsr?ev=rbt.", "dialect B.6", _reboot),
)  # fmt: skip
