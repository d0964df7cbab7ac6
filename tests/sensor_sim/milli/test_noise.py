"""Random octets into the board: nothing but a counted drop, an answer, or a listed crash; and memory stays bounded."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sensor_sim.milli.frame import UA_PARAMETERS, build_frame

SNRM = build_frame(0x93)
ONE_MEGABYTE = 1 << 20


def test_a_megabyte_of_noise_in_bursts(bench: Any) -> None:
    rng = random.Random(20_240_613)
    fed = 0
    while fed < ONE_MEGABYTE:
        burst = rng.randbytes(rng.choice((1, 7, 9, 40, 300, 2000)))
        if rng.random() < 0.3:
            burst = b"\x7e\xa0" + burst + b"\x7e"
        bench.board.receive_data(burst, bench.now)
        assert len(bench.board._buffer) <= 1024
        fed += len(burst)
        bench.wait(rng.choice((0.0, 0.1, 0.39, 0.41, 1.0)))
        bench.board.data_to_send(bench.now)
    bench.wait(1.0)
    counters = bench.board.counters
    assert counters.octets_in >= ONE_MEGABYTE
    assert sum(counters.dropped.values()) > 1000
    assert bench.resets() == []
    assert bench.raw(SNRM) == build_frame(0x63, UA_PARAMETERS), "it still listens"


@pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])
def test_random_coap_in_good_frames(make_bench: Any, profile: str) -> None:
    rng = random.Random(7)
    bench = make_bench(profile)
    bench.connect()
    listed = ("token of", "Observe option of", "null pointer", "null handler", "query of", "269 octets")
    for _ in range(5000):
        message = bytes((rng.choice((0x40, 0x50, 0x42, 0x70, rng.randrange(256))), rng.randrange(256))) + rng.randbytes(
            rng.randrange(253)
        )
        answer = bench.frame(rng.randrange(256) & 0xFE, message)
        assert len(answer) <= 266
        if bench.resets():
            bench.connect()
            assert all(
                reason.startswith(("GET", "option of")) or reason.startswith(listed) for reason in bench.resets()
            )
            bench.signals.clear()


def test_a_driver_that_never_drains_loses_the_oldest_signals(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    for _ in range(5000):
        bench.board.reset("on purpose", bench.now)
    assert len(bench.board._signals) <= 1024
