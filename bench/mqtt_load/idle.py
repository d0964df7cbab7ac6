"""Clients that only stay connected."""

from __future__ import annotations

import json
import sys
import time

from bench.mqtt_load.job import Job, Outcome
from bench.mqtt_load.wire import Wire

__all__ = ["stay"]


def stay(job: Job) -> Outcome:
    """Connects `idle` clients, says so on stdout, and leaves when stdin ends."""
    begin = time.perf_counter()
    wires = [Wire(job, f"idle-{number}") for number in range(job.idle)]
    elapsed = time.perf_counter() - begin
    print(json.dumps({"connected": len(wires)}), flush=True)
    sys.stdin.read()
    return Outcome(len(wires), elapsed, 0.0)
