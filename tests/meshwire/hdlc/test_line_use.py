"""How much of a line's time carries payload, in made-up time: no turn-around but what the frames need."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import STANDARD
from meshwire.hdlc.secondary import SecondaryStation


@pytest.mark.parametrize("upwards", [True, False], ids=["board to NIC", "NIC to board"])
@pytest.mark.parametrize(
    ("window", "baud", "share"),
    [(7, 9600, 0.92), (7, 38400, 0.92), (7, 115200, 0.92), (7, 921600, 0.92), (1, 115200, 0.85)],
)
def test_payload_share(window: int, baud: int, share: float, upwards: bool, line: ModuleType) -> None:
    profile = replace(STANDARD, window=window, baud=baud)
    primary, secondary = PrimaryStation(profile), SecondaryStation(profile)
    both = line.TwoStations(primary, secondary, baud=baud)
    source, sink = (secondary, primary) if upwards else (primary, secondary)
    primary.connect(0.0)
    duration_s = 1500 * 200 * 10 / baud
    while both.now < duration_s:
        while source.queued < 20:
            source.send(bytes(200), both.now)
        both.step()
    octets = 200 * len(both.received[sink])
    assert octets / (both.now * baud / 10) >= share
    assert primary.counters.timeouts == 0


def test_both_ways_at_once_share_the_turns(line: ModuleType) -> None:
    profile = replace(STANDARD, baud=115200)
    primary, secondary = PrimaryStation(profile), SecondaryStation(profile)
    both = line.TwoStations(primary, secondary, baud=115200)
    primary.connect(0.0)
    while both.now < 10.0:
        for station in (primary, secondary):
            while station.queued < 20:
                station.send(bytes(200), both.now)
        both.step()
    down, up = (200 * len(both.received[station]) for station in (secondary, primary))
    assert (down + up) / (both.now * 11520) >= 0.94
    assert abs(down - up) < 0.02 * up


def test_an_idle_line_is_asked_once_a_second(line: ModuleType) -> None:
    both = line.TwoStations(PrimaryStation(STANDARD), SecondaryStation(STANDARD), baud=38400)
    both.primary.connect(0.0)
    both.run(until_s=10.0)
    frames = both.primary.counters.frames_out
    both.run(until_s=40.0)
    assert 28 <= both.primary.counters.frames_out - frames <= 31


def test_an_answer_a_few_milliseconds_later_is_fetched_within_as_many(line: ModuleType) -> None:
    """A board that works on a request is asked again soon, not after the poll period."""
    both = line.TwoStations(PrimaryStation(STANDARD), SecondaryStation(STANDARD), baud=115200)
    both.primary.connect(0.0)
    both.run(until_s=5.0)
    both.primary.send(b"request", both.now)
    both.settle(both.primary)
    both.run(until_s=5.03)
    assert both.received[both.secondary] == [b"request"]
    both.secondary.send(b"answer", both.now)
    both.run(until_s=5.1)
    assert both.received[both.primary] == [b"answer"]
