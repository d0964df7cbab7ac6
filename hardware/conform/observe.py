"""Cases of group observe (RFC 7641). One long observation serves several of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge, skipped
from meshwire.coap import codes, options
from meshwire.coap.message import CON, NON, RST, Message, encode
from meshwire.coap.observe import is_fresh

__all__ = ["CASES"]

_REGISTER: Final = ((options.OBSERVE, b""),)
_DEREGISTER: Final = ((options.OBSERVE, b"\x01"),)
_NONE_CAME: Final = "no notification came while the bench waited"


async def _registration(bench: Bench) -> Outcome:
    answer = (await bench.observation()).answer
    if answer is None:
        return failed("no answer")
    has_number = answer.option(options.OBSERVE) is not None
    if bench.milli:
        return judge(answer.code == codes.VALID and has_number and not answer.payload, str(answer))
    return judge(answer.code == codes.CONTENT and has_number and answer.payload, str(answer))


async def _notifications(bench: Bench) -> list[Message]:
    return [message for _, message in (await bench.observation()).notifications]


async def _token(bench: Bench) -> Outcome:
    observed = await bench.observation()
    if not observed.notifications or observed.answer is None:
        return skipped(_NONE_CAME)
    tokens = {message.token.hex() for _, message in observed.notifications}
    return judge(tokens == {observed.answer.token.hex()}, f"tokens {sorted(tokens)}")


async def _shape(bench: Bench) -> Outcome:
    found = await _notifications(bench)
    if not found:
        return skipped(_NONE_CAME)
    good = all(m.mtype in (CON, NON) and m.code == codes.CONTENT and m.option(options.OBSERVE) for m in found)
    return judge(good, str(found[0]))


async def _fresh(bench: Bench) -> Outcome:
    observed = await bench.observation()
    if not observed.notifications or observed.answer is None:
        return skipped(_NONE_CAME)
    numbers = [observed.answer.uint(options.OBSERVE) or 0]
    numbers += [message.uint(options.OBSERVE) or 0 for _, message in observed.notifications]
    return judge(all(is_fresh(a, 0, b, 0) for a, b in pairwise(numbers)), f"Observe numbers {numbers}")


async def _same_format(bench: Bench) -> Outcome:
    found = await _notifications(bench)
    if not found:
        return skipped(_NONE_CAME)
    plain = await bench.ask(bench.sensor())
    wanted = None if plain is None else plain.uint(options.CONTENT_FORMAT)
    formats = {message.uint(options.CONTENT_FORMAT) for message in found}
    return judge(formats == {wanted}, f"Content-Format {formats}, of a GET {wanted}")


async def _own_mids(bench: Bench) -> Outcome:
    found = await _notifications(bench)
    if len(found) < 2:
        return skipped(_NONE_CAME)
    mids = [message.mid for message in found]
    return judge(len(set(mids)) == len(mids), f"message IDs {mids}")


async def _deregistration(bench: Bench) -> Outcome:
    request = bench.sensor(extra=_REGISTER)
    await bench.ask(request)
    answer = await bench.ask(bench.sensor(token=request.token, extra=_DEREGISTER))
    if answer is None:
        return failed("no answer")
    plain = answer.code == codes.CONTENT and answer.option(options.OBSERVE) is None
    return judge(plain and bool(answer.payload) is not bench.milli, str(answer))


async def _period_s(bench: Bench) -> float | None:
    """Two periods and a little, as far as the observation showed one."""
    times = [at_s for at_s, _ in (await bench.observation()).notifications]
    if len(times) < 2:
        return None
    return max(b - a for a, b in pairwise(times)) * 2 + 1.0


async def _deregistered(bench: Bench) -> Outcome:
    period_s = await _period_s(bench)
    if period_s is None:
        return skipped(_NONE_CAME)
    request = bench.sensor(extra=_REGISTER)
    await bench.ask(request)
    await bench.ask(bench.sensor(token=request.token, extra=_DEREGISTER))
    bench.inbox.clear()
    heard = await bench.listen(period_s, 1)
    return judge(not heard, f"{len(heard)} notifications within {period_s:.0f} s")


async def _reset(bench: Bench) -> Outcome:
    period_s = await _period_s(bench)
    if period_s is None:
        return skipped(_NONE_CAME)
    request = bench.sensor(extra=_REGISTER)
    await bench.ask(request)
    bench.inbox.clear()
    heard = await bench.listen(period_s, 1)
    if not heard:
        return skipped(_NONE_CAME)
    await bench.send(encode(Message(RST, codes.EMPTY, heard[0][1].mid)))
    bench.inbox.clear()
    later = [message for _, message in await bench.listen(period_s, 1) if message.mtype != RST]
    await bench.ask(bench.sensor(token=request.token, extra=_DEREGISTER))
    return judge(bool(later) is bench.milli, f"{len(later)} notifications within {period_s:.0f} s after the Reset")


async def _not_observable(bench: Bench) -> Outcome:
    answer = await bench.get(".well-known/core", extra=_REGISTER)
    good = answer is not None and answer.code == codes.CONTENT and answer.option(options.OBSERVE) is None
    return judge(good, str(answer or "no answer"))


async def _error(bench: Bench) -> Outcome:
    answer = await bench.get("no/such/path", extra=_REGISTER)
    good = answer is not None and answer.code >> 5 in (4, 5) and answer.option(options.OBSERVE) is None
    return judge(good, str(answer or "no answer"))


_case: Final = CaseSeries("COAP-OBS", Group.OBSERVE, "RFC 7641")
CASES: Final = (
    _case(1, "registration", "Observe 0 is answered 2.05 with Observe and the representation.", "3.1", _registration,
          "2.03 with Observe, without payload.", "B.5"),
    _case(2, "token of notifications", "Each notification has the token of the registration.", "3.2", _token),
    _case(3, "shape of notifications", "A notification is a CON or NON 2.05 with Observe.", "4.2", _shape),
    _case(4, "order", "Each Observe number is newer than the one before.", "4.4", _fresh),
    _case(5, "format", "Notifications have the Content-Format of the answer to a GET.", "4.2", _same_format),
    _case(6, "message IDs", "Each notification has a message ID of its own.", "4.2", _own_mids),
    _case(7, "deregistration", "Observe 1 is answered like a GET: 2.05 with representation, without Observe.", "3.6",
          _deregistration, "2.05 without payload.", "B.5"),
    _case(8, "after deregistration", "No notification comes after Observe 1.", "3.6", _deregistered),
    _case(9, "Reset", "A Reset to a notification ends the observation.", "3.6", _reset, "It has no effect.", "B.1"),
    _case(10, "not observable", "Observe on a resource that cannot be observed is passed over.", "4.1",
          _not_observable),
    _case(11, "error", "An error answer has no Observe.", "4.1", _error),
)  # fmt: skip
