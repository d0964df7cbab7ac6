"""`meshwire bench bridge-soak`: the bridge at full load for ten minutes; whether its memory stays flat.

Every notification is a new one, so that the tables which recognise repetitions fill up: 65,536 message IDs, and
64 keys a NIC. From a fifth of the time on, and when twice as many notifications have come, nothing may grow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from bench import bridge_peers as peers
from bench.bridge_load import PROGRAM, Job
from bench.brokers import MISSING_PEER, mosquitto, mosquitto_path
from bench.compiled import Unobtainable, compiled
from bench.result import Figure, Result

__all__ = ["measure"]

BENCH: Final = "bridge-soak"
SECONDS: Final = 600.0
QUICK_SECONDS: Final = 25.0
SLICES: Final = 30
GROWTH_BAR: Final = 0.05
FULL: Final = 2 * 65_536
"""Notifications after which every table has its size."""


def measure(quick: bool) -> Iterator[Result]:
    """Slices of load one behind the other; ten minutes, quick: half a minute."""
    if mosquitto_path() is None:
        print(MISSING_PEER, file=sys.stderr)
        return
    try:
        compiled(PROGRAM)
    except Unobtainable as error:
        print(f"{BENCH}: left out, {error}", file=sys.stderr)
        return
    seconds = QUICK_SECONDS if quick else SECONDS
    job = Job(seconds / SLICES, 1.0, slices=SLICES)
    rates, resident, total, full_at = [], [], 0, SLICES // 5
    with mosquitto() as broker:
        peers.to_last_core(broker)
        with peers.ours(broker, 1) as bridge:
            for turn, outcome in enumerate(bridge.slices(job)):
                rates.append(outcome.delivered / outcome.seconds)
                resident.append(outcome.resident_kb)
                total += outcome.acknowledged
                if total < FULL:
                    full_at = max(full_at, turn + 1)
    yield Figure(BENCH, "messages-qos1", rates, "messages/s", note=f"{SLICES} slices of {job.seconds:.0f} s")
    if full_at >= SLICES - 1:
        print(f"{BENCH} memory-growth: left out, {total} notifications do not fill the tables", file=sys.stderr)
        return
    base = resident[full_at]
    growth = (max(resident[full_at:]) - base) / base
    note = f"KiB resident after slice {full_at + 1} {base}, at the end {resident[-1]}, at most {max(resident)}"
    yield Figure(BENCH, "memory-growth", [growth], "fraction", GROWTH_BAR, note, more_is_better=False)
