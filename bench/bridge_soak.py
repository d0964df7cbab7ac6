"""`meshwire bench bridge-soak`: the bridge at full load for ten minutes; whether its memory stays flat.

Every notification is a new one, so that the tables which recognise repetitions fill up: 65,536 message IDs and as many
keys, which takes seconds. From a fifth of the time on nothing may grow.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from bench import bridge_peers as peers
from bench.bridge_load import Job
from bench.brokers import MISSING_PEER, mosquitto, mosquitto_path
from bench.result import Figure, Result

__all__ = ["measure"]

BENCH: Final = "bridge-soak"
SECONDS: Final = 600.0
QUICK_SECONDS: Final = 25.0
SLICES: Final = 30
GROWTH_BAR: Final = 0.05
SETTLE_S: Final = 0.2


def measure(quick: bool) -> Iterator[Result]:
    """Slices of load one behind the other; ten minutes, quick: half a minute."""
    if mosquitto_path() is None:
        print(MISSING_PEER, file=sys.stderr)
        return
    seconds = QUICK_SECONDS if quick else SECONDS
    job = Job(0, 0, seconds=seconds / SLICES, warm_up_s=0.1)
    rates, resident = [], []
    with mosquitto() as broker:
        peers.to_last_core(broker)
        with peers.ours(broker, 1) as bridge:
            for turn in range(SLICES):
                outcome = bridge.load(replace(job, epoch=turn + 1))
                rates.append(outcome.delivered / outcome.seconds)
                resident.append(outcome.resident_kb[0])
                time.sleep(SETTLE_S)
    yield Figure(BENCH, "messages-qos1", rates, "messages/s", note=f"{SLICES} slices of {job.seconds:.0f} s")
    base = resident[SLICES // 5]
    growth = (max(resident[SLICES // 5 :]) - base) / base
    note = f"KiB resident after a fifth {base}, at the end {resident[-1]}, at most {max(resident)}"
    yield Figure(BENCH, "memory-growth", [growth], "fraction", GROWTH_BAR, note, more_is_better=False)
