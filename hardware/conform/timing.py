"""Cases of group timing. Limits are those of the time-outs that a primary and an observer would use."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import CaseSeries, Group, Outcome, failed, judge, skipped
from meshwire.coap import codes
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.profile import MILLI, STANDARD

__all__ = ["CASES"]

_ROUNDS: Final = 5
_ACK_TIMEOUT_S: Final = 2.0
_JITTER_SHARE: Final = 0.1
_JITTER_S: Final = 1.0


async def _turn_around(bench: Bench) -> Outcome:
    limit_s = (MILLI if bench.milli else STANDARD).answer_timeout_s
    delays = [(await bench.command(FrameKind.RR)) for _ in range(_ROUNDS)]
    if not all(turn.octets for turn in delays):
        return failed("a poll was not answered")
    worst = max(turn.delay_s for turn in delays)
    return judge(worst <= limit_s, f"at most {worst * 1000:.0f} ms, limit {limit_s * 1000:.0f} ms")


async def _contiguous(bench: Bench) -> Outcome:
    limit_s = STANDARD.octet_timeout_s
    turns = [await bench.connect() for _ in range(3)]
    worst = max(turn.longest_gap_s for turn in turns)
    return judge(worst <= limit_s, f"longest silence inside an answer {worst * 1000:.0f} ms")


async def _response(bench: Bench) -> Outcome:
    begin = bench.now()
    answer = await bench.ask(bench.sensor())
    took = bench.now() - begin
    return judge(answer is not None and took <= _ACK_TIMEOUT_S, f"{took * 1000:.0f} ms")


async def _jitter(bench: Bench) -> Outcome:
    times = [at_s for at_s, _ in (await bench.observation()).notifications]
    if len(times) < 3:
        return skipped("fewer than three notifications came while the bench waited")
    intervals = [b - a for a, b in pairwise(times)]
    spread, mean = max(intervals) - min(intervals), sum(intervals) / len(intervals)
    return judge(spread <= _JITTER_S + _JITTER_SHARE * mean, f"every {mean:.1f} s, spread {spread:.2f} s")


async def _steady(bench: Bench) -> Outcome:
    """An idle link of a few seconds still stands."""
    await bench.collect(5.0)
    turn = await bench.command(FrameKind.RR)
    answer = await bench.get(".well-known/core")
    return judge(turn.has(FrameKind.RR) and answer is not None and answer.code == codes.CONTENT, str(turn))


_case: Final = CaseSeries("TIM", Group.TIMING)
CASES: Final = (
    _case(1, "turn-around", "A poll is answered within 500 ms.", "IEC 62056-46, 6.4.4.10", _turn_around,
          "Within 1.2 s: the board waits for 400 ms of silence.", "A.7"),
    _case(2, "no gaps", "Inside an answer there is no silence of 200 ms or more.", "IEC 62056-46, 6.4.4.3.3",
          _contiguous),
    _case(3, "response", "A GET is answered within 2 s (ACK_TIMEOUT).", "RFC 7252, 4.8", _response),
    _case(4, "notification jitter", "Intervals between notifications differ by at most a second and a tenth.",
          "RFC 7641, 4.3.1", _jitter),
    _case(5, "idle link", "A link that is idle for 5 s still stands.", "IEC 62056-46, 6.4.4.3.3", _steady),
)  # fmt: skip
