"""Boards behind memory pipes in an event loop whose clock jumps, and the suite run on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from jumping_loop import JumpingLoop

from hardware.conform.bench import Bench, BenchSettings
from hardware.conform.case import Case, Profile, Result
from hardware.conform.suite import run_cases
from meshwire.pipe import Pipe, memory_pair
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

EPOCH = 1_700_000_000.0


Mutant = Callable[[Pipe], Pipe]


async def _conform(
    board_profile: str, cases: Sequence[Case], profile: Profile, wrap: Mutant, settings: dict[str, Any]
) -> tuple[Result, ...]:
    near, far = memory_pair()
    loop = asyncio.get_running_loop()

    async def open_pipe() -> Pipe:
        return wrap(near)

    def wall_clock() -> float:
        return EPOCH + loop.time()

    board = SensorBoard(board_profile, [SensorSpec("temp", None, 5.0)], open_pipe, wall_clock=wall_clock)
    task = asyncio.create_task(board.run())
    await asyncio.sleep(0)
    given = {"exchanges": 60, "notification_wait_s": 12.0} | settings
    bench = Bench(far, BenchSettings(profile=profile, **given), wall_clock=wall_clock)
    try:
        return await run_cases(bench, cases)
    finally:
        await bench.aclose()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def conform() -> Callable[..., dict[str, Result]]:
    """Run cases against a simulated board in made-up time; results by id."""

    def run(
        board_profile: str,
        cases: Sequence[Case],
        *,
        profile: Profile = Profile.STANDARD,
        wrap: Mutant = lambda pipe: pipe,
        **settings: Any,
    ) -> dict[str, Result]:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            results = runner.run(_conform(board_profile, cases, profile, wrap, settings))
        return {result.case.id: result for result in results}

    return run


@pytest.fixture
def jumping_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes loops whose clock jumps."""
    return JumpingLoop
