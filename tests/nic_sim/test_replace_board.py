"""Another board on a NIC that runs: subscribers notice only fresher data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.notification import Notification
from nic_sim.board_profile import ProfileName
from nic_sim.control import NicControl
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

Run = Callable[..., Any]


def second_board(site: Any, profile: str, value: str) -> tuple[Any, asyncio.Task[None]]:
    """A board on a line of its own: the line and the board's task."""
    line = type(site.line)()
    board = SensorBoard(profile, [SensorSpec.parse(f"temp={value}@5")], line.opener(1), wall_clock=site.nic.unix_time)
    return line, asyncio.create_task(board.run())


def of_value(notifications: list[Notification], value: str) -> list[Notification]:
    return [item for item in notifications if f",{value},".encode() in item.payload]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("standard", "milli-1.4.8"),
        ("milli-1.4.8", "standard"),
        ("milli-1.4.8", "milli-1.4.5"),
        ("standard", "standard"),
    ],
)
def test_readings_go_on_with_the_new_board(
    first: str, second: str, run: Run, site: Run, wait_until: Run, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with site(first, tmp_path, sensors=("temp=10@5",)) as held:
            await held.readings(3)
            line, task = second_board(held, second, "20")
            await held.nic.replace_board("other", line.opener(0), ProfileName(second))
            told = held.gateway.notifications
            await wait_until(lambda: len(of_value(told, "68.00")) >= 3, 60)
            old, new = of_value(told, "50.00"), of_value(told, "68.00")
            assert told == [*old, *new], "the old board was heard after the new one"
            keys = [(item.epoch, item.observe) for item in told]
            assert len(set(keys)) == len(keys)
            assert [item.epoch for item in told] == sorted(item.epoch for item in told)
            assert min(item.epoch for item in new) > max(item.epoch for item in old)
            gaps = [b - a for a, b in zip(held.gateway.arrivals_s, held.gateway.arrivals_s[1:], strict=False)]
            assert max(gaps) < 12, "readings stood still"
            answer = await held.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert b",68.00," in answer.payload
            assert held.nic.link_report()["port"] == "other"
            assert held.nic.link_stats().pipe_losses == 0, "the figures of the old port are shown"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(scenario())


def test_requests_on_the_way_end_and_those_after_are_answered(
    run: Run, site: Run, wait_until: Run, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path) as held:
            await held.readings(1)
            asked = [asyncio.create_task(held.ask(codes.GET, "/snsr/arduino/echo?sens")) for _ in range(3)]
            await wait_until(lambda: held.nic.client._sending is not None, 10)
            line, task = second_board(held, "standard", "20")
            await held.nic.replace_board("other", line.opener(0), ProfileName.STANDARD)
            answers = await asyncio.gather(*asked)
            assert {answer.code >> 5 for answer in answers} <= {2, 4, 5}
            answer = await held.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert b",68.00," in answer.payload
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(scenario())


def test_a_port_that_is_not_there_yet_is_waited_for(run: Run, site: Run, wait_until: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as held:
            await held.readings(1)
            line, task = second_board(held, "standard", "20")
            line.unplugged = True
            await held.nic.replace_board("other", line.opener(0))
            await asyncio.sleep(7)
            assert held.nic.link_report()["last_error"]
            line.unplugged = False
            await wait_until(lambda: of_value(held.gateway.notifications, "68.00"), 30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(scenario())


def test_observes_that_the_new_kind_cannot_keep_refuse_the_change(run: Run, site: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        paths = tuple(f"snsr/arduino/s{number}" for number in range(5))
        async with site("standard", tmp_path, observe=paths) as held:
            line = held.nic.line.link
            with pytest.raises(ValueError, match="at most 4"):
                await held.nic.replace_board("other", held.line.opener(0), ProfileName.MILLI)
            assert held.nic.line.link is line

    run(scenario())


def test_the_control_socket_says_what_is_there_and_changes_it(run: Run, site: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path, serial="first") as held:
            control = NicControl(held.nic, lambda port: held.line.opener(0))
            mac = held.nic.settings.mac

            def board(description: Mapping[str, Any]) -> Any:
                return description["boards"][0]

            assert board(control.describe())["port"] == "first"
            request = {"do": "replace", "mac": mac, "port": "second", "profile": "milli"}
            assert board(await control.carry_out(request))["profile"] == "milli"
            for wrong in ({"mac": "0" * 16}, {"do": "explode"}, {"profile": "none"}):
                with pytest.raises(ValueError):
                    await control.carry_out(request | wrong)
            assert board(control.describe())["port"] == "second"

    run(scenario())
