"""The run itself: silent boards, lost ports, choices, and the command's exit codes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hardware.conform.bench import Bench
from hardware.conform.case import Case, Group, Outcome, Result, Verdict, judge
from hardware.conform.catalogue import CASES, choose
from hardware.conform.cli import conform_app
from hardware.conform.errors import CATALOGUE, BoardSilent, NoSuchCase, PortLost
from hardware.conform.suite import first_contact
from meshwire.pipe import memory_pair


def test_a_silent_board_is_told_apart_from_a_failing_one(jumping_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def run() -> None:
        bench = Bench(memory_pair()[1])
        try:
            await first_contact(bench)
        finally:
            await bench.aclose()

    with asyncio.Runner(loop_factory=jumping_loop) as runner, pytest.raises(BoardSilent) as raised:
        runner.run(run())
    assert raised.value.code in CATALOGUE


def test_a_lost_port_ends_the_run(jumping_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def run() -> None:
        near, far = memory_pair()
        bench = Bench(far)
        await near.aclose()
        await asyncio.sleep(0)
        try:
            await first_contact(bench)
        finally:
            await bench.aclose()

    with asyncio.Runner(loop_factory=jumping_loop) as runner, pytest.raises(PortLost):
        runner.run(run())


def test_a_case_that_builds_on_a_failed_one_is_not_judged(conform: Callable[..., dict[str, Result]]) -> None:
    async def fail(bench: Bench) -> Outcome:
        return judge(False, "no")

    async def unreadable(bench: Bench) -> Outcome:
        return judge((await bench.release()).frames[7], "")

    first = Case("X-001", Group.LINK, "x", "X.", "x", fail)
    second = Case("X-002", Group.LINK, "x", "X.", "x", unreadable, needs=("X-001",))
    third = Case("X-003", Group.LINK, "x", "X.", "x", unreadable)
    results = conform("standard", [first, second, third])
    assert [result.outcome.verdict for result in results.values()] == [
        Verdict.FAIL,
        Verdict.NOT_APPLICABLE,
        Verdict.FAIL,
    ]
    assert results["X-003"].evidence


def test_groups_and_cases_are_chosen_by_name() -> None:
    assert {case.group for case in choose(["block"])} == {Group.BLOCK}
    assert [case.id for case in choose(ids=["RES-001"])] == ["RES-001"]
    assert not any(case.destructive for case in choose())
    with pytest.raises(NoSuchCase):
        choose(["blocks"])
    with pytest.raises(NoSuchCase):
        choose(ids=["RES-999"])


def test_the_list_needs_no_port() -> None:
    shown = CliRunner().invoke(conform_app, ["--list"])
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == len(CASES)


def test_the_command_ends_with_7_when_a_case_fails(tmp_path: Path) -> None:
    shown = CliRunner().invoke(
        conform_app,
        [
            *("sim://milli-1.4.8", "--case", "RES-002", "--case", "HDLC-FRM-001"),
            *("--html", str(tmp_path / "report.html"), "-w", str(tmp_path / "run.pcapng")),
        ],
    )
    assert shown.exit_code == 7, shown.output
    assert "1 pass, 1 fail" in shown.stdout
    assert "RES-002" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "run.pcapng").read_bytes().startswith(bytes.fromhex("0a0d0d0a"))
