"""The fleet benchmark counts what it says, with few NICs."""

from __future__ import annotations

import pytest

from bench.fleet import _child, _end_to_end


@pytest.mark.slow
def test_readings_of_a_small_fleet_reach_the_subscriber() -> None:
    lost, p99, rate = _end_to_end(20, 3, 1)
    assert lost.record()["value"] == 0.0
    assert lost.note.startswith("20 NICs") and "made 0" not in lost.note
    assert p99.record()["unit"] == "s" and rate.record()["unit"] == "readings/s"


def test_the_peer_says_how_many_contexts_it_has_made() -> None:
    outcome = _child({"what": "contexts", "seconds": 0.2})
    assert outcome["count"] > 0 and outcome["why"] == "0.2 s were over"
