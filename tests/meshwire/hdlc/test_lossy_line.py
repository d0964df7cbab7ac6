"""Both stations against each other in made-up time, on lines that damage, lose, insert and delay octets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from meshwire.hdlc.events import LinkDown, LinkUp
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import MILLI, STANDARD, LinkProfile
from meshwire.hdlc.secondary import SecondaryStation


def sdu(direction: bytes, number: int) -> bytes:
    """An SDU that says which it is, 5 to 65 octets."""
    return direction + number.to_bytes(4, "big") + bytes((number * 7 & 0xFF,)) * (number % 61)


def pair(line: ModuleType, profile: LinkProfile, **options: Any) -> Any:
    return line.TwoStations(PrimaryStation(profile), SecondaryStation(profile), baud=profile.baud, **options)


def exchange(both: Any, count: int, *, steps: int = 400_000) -> None:
    """Send ``count`` SDUs each way, never more than 20 queued, until all arrived."""
    stations = {both.primary: (b"down", both.secondary), both.secondary: (b"up", both.primary)}
    sent = dict.fromkeys(stations, 0)
    both.primary.connect(both.now)
    for _ in range(steps):
        for station, (name, _) in stations.items():
            while sent[station] < count and station.queued < 20:
                station.send(sdu(name, sent[station]), both.now)
                sent[station] += 1
        if all(len(both.received[peer]) >= count for _, peer in stations.values()):
            return
        assert both.step()
    raise AssertionError(f"not done after {steps} steps")


def expect_all(both: Any, count: int) -> None:
    assert both.received[both.secondary] == [sdu(b"down", n) for n in range(count)]
    assert both.received[both.primary] == [sdu(b"up", n) for n in range(count)]


@pytest.mark.parametrize("window", [1, 7])
def test_ten_thousand_each_way_at_one_octet_in_a_thousand(window: int, line: ModuleType) -> None:
    profile = replace(STANDARD, window=window, baud=115200)
    faults = line.Faults(flip=0.0005, lose=0.0004, insert=0.0001, seed=20)
    both = pair(line, profile, delay_s=0.001, faults=faults)
    exchange(both, 10_000)
    expect_all(both, 10_000)
    assert [type(event) for events in both.told.values() for event in events] == [LinkUp, LinkUp]
    hits = sum(span.hits for span in both.spans.values())
    octets = both.primary.counters.octets_out + both.secondary.counters.octets_out
    assert 0.0009 < hits / octets < 0.0011, "the line was as bad as the test says"
    assert both.primary.counters.timeouts > 100


@pytest.mark.parametrize(
    ("window", "chunk", "delay_s", "faults"),
    [
        (7, 1, 0.0, {"flip": 0.001}),
        (7, 5, 0.01, {"lose": 0.001}),
        (2, None, 0.05, {"insert": 0.001}),
        (4, 16, 0.002, {"flip": 0.002, "lose": 0.002, "insert": 0.002}),
        (7, None, 0.3, {"flip": 0.0005}),
        (7, None, 0.6, {}),
        (1, None, 0.6, {"lose": 0.0005}),
    ],
)
def test_other_lines(
    window: int, chunk: int | None, delay_s: float, faults: dict[str, float], line: ModuleType
) -> None:
    """Also lines slower than the answer time-out: then everything is asked twice, and still nothing is lost."""
    profile = replace(STANDARD, window=window, baud=38400, max_attempts=12)
    both = pair(line, profile, delay_s=delay_s, chunk=chunk, faults=line.Faults(**faults, seed=5))
    exchange(both, 400)
    expect_all(both, 400)


def test_segments_on_a_bad_line(line: ModuleType) -> None:
    profile = replace(STANDARD, window=7, baud=115200, max_info_octets=32, max_sdu_octets=2000)
    both = pair(line, profile, faults=line.Faults(flip=0.001, seed=9))
    sent = [bytes((n,)) * (1 + n * 37 % 2000) for n in range(100)]
    both.primary.connect(both.now)
    for each in sent:
        both.primary.send(each, both.now)
        both.secondary.send(each[::-1], both.now)
    both.run(until_s=200.0)
    assert both.received[both.secondary] == sent
    assert both.received[both.primary] == sent


def test_busy_owners_lose_nothing(line: ModuleType) -> None:
    both = pair(line, STANDARD, faults=line.Faults(flip=0.0005, seed=3))
    both.primary.connect(0.0)
    for n in range(200):
        both.primary.send(sdu(b"down", n), both.now)
        both.secondary.send(sdu(b"up", n), both.now)
    for turn in range(60):
        both.secondary.set_busy(turn % 3 == 0, both.now)
        both.primary.set_busy(turn % 4 == 0, both.now)
        both.run(until_s=both.now + 0.2)
    both.secondary.set_busy(False, both.now)
    both.primary.set_busy(False, both.now)
    both.run(until_s=both.now + 20)
    expect_all(both, 200)


def test_a_stall_does_not_leave_the_line_busy_with_repetitions(line: ModuleType) -> None:
    """The peer sleeps through several questions, then answers them all: one turn must come of it."""
    both = pair(line, replace(STANDARD, baud=115200))
    held: list[tuple[bytes, float]] = []
    exchange(both, 50)
    receive = both.secondary.receive_data
    both.secondary.receive_data = lambda data, now: held.append((data, now))
    both.primary.send(sdu(b"down", 50), both.now)
    both.run(until_s=both.now + 1.8)
    assert len(held) >= 3
    both.secondary.receive_data = receive
    for data, _ in held:
        receive(data, both.now)
        both.settle(both.secondary)
    before = both.primary.counters.retransmissions + both.secondary.counters.retransmissions
    for n in range(51, 400):
        both.primary.send(sdu(b"down", n), both.now)
        both.secondary.send(sdu(b"up", n - 1), both.now)
    both.run(until_s=both.now + 20)
    assert both.received[both.secondary] == [sdu(b"down", n) for n in range(400)]
    assert both.received[both.primary] == [sdu(b"up", n) for n in range(399)]
    assert both.primary.counters.retransmissions + both.secondary.counters.retransmissions - before < 10


@pytest.mark.parametrize("seed", range(6))
def test_a_link_that_breaks_names_every_sdu_it_does_not_deliver(seed: int, line: ModuleType) -> None:
    """A line so bad that links break: what LinkDown does not name was delivered, what it calls unsent was not."""
    profile = replace(STANDARD, window=4, baud=115200, max_attempts=2, retry_pause_s=0.05)
    both = pair(line, profile, faults=line.Faults(flip=0.004, lose=0.002, seed=seed))
    both.primary.connect(0.0)
    handles: dict[object, dict[int, bytes]] = {both.primary: {}, both.secondary: {}}
    for n in range(300):
        handles[both.primary][both.primary.send(sdu(b"down", n), both.now)] = sdu(b"down", n)
        handles[both.secondary][both.secondary.send(sdu(b"up", n), both.now)] = sdu(b"up", n)
        both.run(until_s=both.now + 0.05)
    both.run(until_s=both.now + 60)
    assert any(isinstance(event, LinkDown) for event in both.told[both.primary])
    for station, peer in ((both.primary, both.secondary), (both.secondary, both.primary)):
        downs = [event for event in both.told[station] if isinstance(event, LinkDown)]
        unsent = {handle for event in downs for handle in event.unsent}
        uncertain = {handle for event in downs for handle in event.uncertain}
        got = both.received[peer]
        assert len(set(got)) == len(got), "nothing twice"
        assert got == sorted(got, key=lambda each: each[-5:] and got.index(each)), "in order"
        for handle, octets in handles[station].items():
            if handle in unsent:
                assert octets not in got
            elif handle not in uncertain:
                assert octets in got


@pytest.mark.parametrize("seed", range(4))
def test_sessions_per_exchange_with_a_standard_board(seed: int, line: ModuleType) -> None:
    """Each request is delivered at most once; what was not delivered, or perhaps, is named."""
    profile = replace(MILLI, baud=115200, poll_period_s=0)
    both = line.TwoStations(
        PrimaryStation(profile),
        SecondaryStation(STANDARD),
        baud=115200,
        faults=line.Faults(flip=0.002, lose=0.001, seed=seed),
    )
    named: dict[int, str] = {}
    sent: dict[int, bytes] = {}
    for n in range(250):
        sent[both.primary.send(sdu(b"down", n), both.now)] = sdu(b"down", n)
        both.run(until_s=both.now + 30)
    for event in both.told[both.primary]:
        if isinstance(event, LinkDown):
            named |= dict.fromkeys(event.unsent, "unsent") | dict.fromkeys(event.uncertain, "uncertain")
    got = both.received[both.secondary]
    assert len(set(got)) == len(got) and len(got) > 150
    assert set(named.values()) >= {"uncertain"}
    for handle, octets in sent.items():
        match named.get(handle):
            case "unsent":
                assert octets not in got
            case None:
                assert octets in got


def test_rubbish_on_the_line_is_counted_and_harmless(line: ModuleType) -> None:
    import random

    source = random.Random(1)
    for make in _STATIONS:
        station = make()
        for turn in range(300):
            station.receive_data(source.randbytes(source.choice((1, 60, 700))), turn * 0.01)
            station.handle_timer(turn * 0.01)
            while station.next_event() is not None:
                pass
        assert station.counters.octets_in > 50_000
        assert sum(station.counters.discarded.values()) > 100


_STATIONS: list[Callable[[], PrimaryStation | SecondaryStation]] = [PrimaryStation, SecondaryStation]
