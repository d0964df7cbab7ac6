"""Runs cases on a bench, one after the other, each on a link that was just made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import Case, Outcome, Profile, Result, Verdict, skipped
from hardware.conform.errors import BoardSilent
from meshwire.hdlc.control import FrameKind

__all__ = ["first_contact", "run_cases"]

_ATTEMPTS: Final = 8
_FIRST_WORDS_S: Final = 1.0


async def first_contact(bench: Bench) -> None:
    """Make the first link and note what the board says when it is first polled.

    Raises BoardSilent.
    """
    for _ in range(_ATTEMPTS):
        if (await bench.connect()).has(FrameKind.UA):
            break
    else:
        raise BoardSilent(
            "the board does not answer SNRM",
            evidence=f"{_ATTEMPTS} attempts, silence or octets that are no UA",
            fix="check power, TX/RX, rate and ground; `meshwire probe PORT` tries what can be tried",
        )
    await bench.polled(_FIRST_WORDS_S)
    if bench.inbox:
        bench.first_words = list(bench.inbox)[:1]
        if bench.keeps_delivered_message:
            bench.first_words *= 2
    bench.inbox.clear()


async def run_cases(
    bench: Bench, cases: Sequence[Case], *, on_result: Callable[[Result], None] = lambda result: None
) -> tuple[Result, ...]:
    """Run ``cases`` after ``first_contact``; ``on_result`` hears of each as it is done. Raises ConformError."""
    await first_contact(bench)
    results: list[Result] = []
    failed: set[str] = set()
    for case in cases:
        result = await _run(bench, case, failed)
        if result.outcome.verdict is Verdict.FAIL:
            failed.add(case.id)
        results.append(result)
        on_result(result)
    await bench.release()
    return tuple(results)


async def _run(bench: Bench, case: Case, failed: set[str]) -> Result:
    begin = bench.now()
    bench.begin_case()
    missing = [name for name in case.needs if name in failed]
    if missing:
        outcome = skipped(f"needs {', '.join(missing)}")
    elif case.destructive and bench.settings.profile is Profile.MILLI:
        outcome = skipped("the dialect says never to send it")
    else:
        await bench.fresh()
        outcome = await _judged(bench, case)
    return Result(case, outcome, bench.evidence(), bench.now() - begin)


async def _judged(bench: Bench, case: Case) -> Outcome:
    try:
        return await case.run(bench)
    except (IndexError, ValueError) as error:
        # A case reads what it expects; a board that sends something else has failed it.
        return Outcome(Verdict.FAIL, f"cannot be read: {error}")
