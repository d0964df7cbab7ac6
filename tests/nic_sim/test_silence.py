"""When silence becomes an alarm and a reset, as a table; and the alarm at work on a whole NIC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.notification import decode_reading, device_type
from nic_sim.silence import SilenceWatch, Step

Run = Callable[..., Any]


class TestWatch:
    def test_nothing_is_watched_without_settings(self) -> None:
        watch = SilenceWatch(None, None, 0.0)
        assert watch.next_deadline() is None
        assert watch.due(1e9) == []

    def test_an_alarm_is_told_once_and_ends_with_the_next_word(self) -> None:
        watch = SilenceWatch(10.0, None, 100.0)
        assert watch.next_deadline() == 110.0
        assert watch.due(109.9) == []
        assert watch.due(110.0) == [Step.ALARM]
        assert watch.next_deadline() is None
        assert watch.due(500.0) == []
        assert watch.heard(501.0)
        assert not watch.heard(502.0)
        assert watch.next_deadline() == 512.0
        assert watch.due(512.0) == [Step.ALARM]
        assert watch.alarms == 2

    def test_a_reset_comes_again_and_again(self) -> None:
        watch = SilenceWatch(10.0, 30.0, 0.0)
        assert watch.due(10.0) == [Step.ALARM]
        assert watch.next_deadline() == 30.0
        assert watch.due(30.0) == [Step.RESET]
        assert watch.due(59.0) == []
        assert watch.due(60.0) == [Step.RESET]
        watch.heard(61.0)
        assert watch.next_deadline() == 71.0
        assert watch.resets == 2

    def test_a_reset_without_a_window_raises_the_alarm_too(self) -> None:
        watch = SilenceWatch(None, 30.0, 0.0)
        assert watch.due(31.0) == [Step.ALARM, Step.RESET]

    def test_a_reset_before_the_window_is_over_raises_the_alarm_too(self) -> None:
        assert SilenceWatch(60.0, 30.0, 0.0).due(30.0) == [Step.ALARM, Step.RESET]


async def _hold_back(site: Any) -> None:
    """The board's octets no longer reach the NIC; the port stays."""
    site.line.answers_left = 0
    await asyncio.sleep(0)


class TestAtWork:
    @pytest.mark.parametrize("profile", ["standard", "milli-1.4.8"])
    def test_a_silent_board_is_told_and_reset_and_its_return_too(
        self, profile: str, run: Run, site: Run, wait_until: Run, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with site(profile, tmp_path, silent_after_s=60, reset_after_s=120) as held:
                await held.readings(2)
                await _hold_back(held)
                alarm = held.nic.alarm
                await wait_until(lambda: alarm.report()["alarm"], 100)
                assert alarm.report()["silent_for_s"] >= 60
                await wait_until(lambda: alarm.report()["board_resets"] == 2, 300)
                losses = held.nic.line.status.counters.pipe_losses
                assert losses >= 1, "the port was not opened again"
                report = json.loads((await held.ask(codes.GET, "/sys/link")).payload)
                assert report["silence"]["alarm"] and report["silence"]["alarms"] == 1
                assert "meshwire_nic_link_silent{" in held.nic.metrics()
                held.line.answers_left = None
                await wait_until(lambda: not alarm.report()["alarm"], 100)
                await wait_until(lambda: len([n for n in held.gateway.notifications if n.path == "sys/link"]) == 2, 60)
                told = [n for n in held.gateway.notifications if n.path == "sys/link"]
                assert {device_type(n) for n in told} == {"link"}
                readings = [decode_reading("link", n.payload) for n in told]
                assert [r.text.split(",")[1] for r in readings if r] == ["silent", "speaks"]
                assert len({(n.epoch, n.observe) for n in told}) == 2

        run(scenario())

    def test_without_a_window_nothing_is_watched(self, run: Run, site: Run, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with site("standard", tmp_path) as held:
                await held.readings(1)
                assert held.nic.alarm.report() == {}
                assert "silent" not in held.nic.metrics()

        run(scenario())
