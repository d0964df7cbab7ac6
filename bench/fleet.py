"""`meshwire bench fleet`: what light NICs cost, how many fit, and a whole fleet through gateway and broker.

The fleet, the gateway and the broker are a process each; the fleet has the last core with the broker and the
subscriber, the gateway has the first. `--nics`, `--seconds` and `--period` of the end-to-end case are set by
`MESHWIRE_BENCH_FLEET=NICS,SECONDS,PERIOD_S` (default 10000,300,10; quick: 1000,6,3).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.brokers import Contender, pinned
from bench.brokers import ours as our_broker
from bench.child import serving
from bench.result import Comparison, Figure, Result

__all__ = ["measure"]

BENCH: Final = "fleet"
RUNS: Final = 3
NICS: Final = 10_000
MANY_NICS: Final = 100_000
QUICK_MANY_NICS: Final = 5_000
FEW_NICS: Final = 1_000
STARTUP_BAR_S: Final = 10.0
MEMORY_BAR_KB: Final = 10.0
IDLE_BAR: Final = 0.1
P99_BAR_S: Final = 1.0
PEER: Final = "aiocoap context each"


def measure(quick: bool) -> Iterator[Result]:
    """All cases; quick: one run each, 5,000 NICs in place of 100,000, six seconds of traffic."""
    runs = 1 if quick else RUNS
    idle_s = 5 if quick else 60
    contexts = [_child({"what": "contexts", "seconds": 2 if quick else 60}) for _ in range(runs)]
    starts = [_with_gateway(NICS, {"what": "start", "idle_s": idle_s}) for _ in range(runs)]
    yield from _costs(starts, contexts)
    idle = [start["idle_cpu"] for start in starts]
    note = f"{NICS} NICs, one reading a minute each, for {idle_s} s; of one core; the fleet's process alone"
    yield Figure(BENCH, "idle-cpu", idle, "fraction", IDLE_BAR, note, more_is_better=False)
    framed = _with_gateway(FEW_NICS, {"what": "start", "idle_s": 0, "wire": "hdlc"})
    note = "both HDLC stations a NIC"
    yield Figure(BENCH, "memory-per-nic-hdlc", [framed["kb_per_nic"]], "KB/NIC", note=note, more_is_better=False)
    kb = [(start["gateway_kb"] - framed["gateway_kb"]) / (NICS - FEW_NICS) for start in starts]
    note = f"resident memory of the gateway with {NICS} devices provisioned and registered, beside one with {FEW_NICS}"
    yield Figure(BENCH, "gateway-memory-per-device", kb, "KB/device", note=note, more_is_better=False)
    many = QUICK_MANY_NICS if quick else MANY_NICS
    once = _with_gateway(many, {"what": "once"})
    note = f"registered {once['registered']}, reported {once['reported']}; {once['kb_per_nic']:.2f} KB a NIC"
    yield Figure(BENCH, f"once-{many}", [once["all_s"]], "s", note=note, more_is_better=False)
    yield from _end_to_end(*_traffic(quick))


def _traffic(quick: bool) -> tuple[int, float, float]:
    chosen = os.environ.get("MESHWIRE_BENCH_FLEET", "1000,6,3" if quick else "10000,300,10")
    nics, seconds, period_s = chosen.split(",")
    return int(nics), float(seconds), float(period_s)


def _costs(starts: list[dict[str, Any]], contexts: list[dict[str, Any]]) -> Iterator[Result]:
    fit = contexts[0]
    note = f"made, registered and acknowledged by a gateway; the peer is only made: {fit['count']}, then {fit['why']}"
    theirs = [item["seconds"] / item["count"] * NICS for item in contexts]
    yield Comparison(
        BENCH, f"startup-{NICS}", [s["all_s"] for s in starts], PEER, theirs, "s",
        more_is_better=False, bar=STARTUP_BAR_S, note=note,
    )  # fmt: skip
    yield Comparison(
        BENCH, "memory-per-nic", [s["kb_per_nic"] for s in starts], PEER, [item["kb"] for item in contexts], "KB/NIC",
        more_is_better=False, bar=MEMORY_BAR_KB, note=f"resident, after all have registered; {fit['kb_how']}",
    )  # fmt: skip
    note = f"one aiocoap context a NIC, until {fit['why']}; light NICs: see once-{MANY_NICS}"
    yield Figure(BENCH, "contexts-that-fit", [float(item["count"]) for item in contexts], "NICs", note=note)


def _end_to_end(nics: int, seconds: float, period_s: float) -> Iterator[Result]:
    with our_broker('durability = "memory"') as broker, _gateway(nics, broker) as (gateway, _):
        job = {"what": "traffic", "nics": nics, "gateway": gateway, "seconds": seconds, "period_s": period_s}
        job |= {"broker": broker.port, "username": broker.username, "password": broker.password}
        done = _child(job)
    lost = done["made"] - done["distinct"]
    note = f"{nics} NICs, a reading in {period_s:g} s each, {seconds:g} s: made {done['made']}, delivered "
    note += f"{done['delivered']} ({done['duplicates']} twice), p50 {done['p50_s'] * 1000:.1f} ms"
    yield Figure(BENCH, "end-to-end-lost", [lost], "readings", 0.0, note, more_is_better=False)
    yield Figure(BENCH, "end-to-end-p99", [done["p99_s"]], "s", P99_BAR_S, note, more_is_better=False)
    yield Figure(BENCH, "end-to-end-rate", [done["distinct"] / max(1e-9, done["span_s"])], "readings/s", note=note)


def _with_gateway(nics: int, job: dict[str, object]) -> dict[str, Any]:
    with _gateway(nics, None) as (port, process):
        outcome = _child(job | {"nics": nics, "gateway": port})
        return outcome | {"gateway_kb": _resident_kb(process)}


def _resident_kb(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _child(job: dict[str, object]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.fleet_load", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, preexec_fn=pinned(-1))
    if done.returncode:
        raise RuntimeError(f"the fleet's load failed: {job['what']}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def _gateway(nics: int, broker: Contender | None) -> Iterator[tuple[int, int]]:
    """CoAP port and process of a gateway that knows the NICs; without a broker it stores and does not publish."""
    with tempfile.TemporaryDirectory() as folder:
        password = Path(folder, "password")
        password.write_text((broker and broker.password) or "none")
        bridge: dict[str, object] = {"enabled": broker is not None, "window": 64, "password_file": str(password)}
        if broker is not None:
            bridge |= {"port": broker.port, "username": broker.username or "bench"}
        settings = {"listen": ["127.0.0.1"], "port": 0, "http": "", "bridge": bridge}
        command = [sys.executable, "-m", "bench.fleet_gateway", json.dumps(settings), folder, str(nics)]
        with serving("the gateway", command) as child:
            time.sleep(0.2)
            yield child.ports[0], child.pid
