"""`meshwire bench bridge`: notifications of many light NICs through a bridge to the broker's acknowledgement.

256 NICs with an address each, one confirmable notification of 64 octets of each on the way, and a subscriber that
counts what the broker has taken (`bridge_load.py`). The bridge has one core; load, broker and subscriber share the
other (`workers-2` alone uses all cores for everything). Ours answers a NIC when its notification is on disk (fsync);
the others answer after the broker's acknowledgement and store nothing. Ours speaks MQTT 5 and sends the content type;
user properties, which no other bridge sends and which cost the broker time, are in a case of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

from bench import bridge_peers as peers
from bench.bridge_load import PROGRAM, Job, Outcome
from bench.brokers import MISSING_PEER, Contender, mosquitto, mosquitto_path
from bench.brokers import ours as our_broker
from bench.compiled import Unobtainable, compiled
from bench.result import Comparison, Figure, Result

__all__ = ["measure"]

BENCH: Final = "bridge"
RUNS: Final = 5
SECONDS: Final = 1.0
QUICK_SECONDS: Final = 0.5
P99_BAR_MS: Final = 50.0
PEERS: Final[tuple[tuple[str, Callable[[Contender], AbstractContextManager[peers.Bridge]], float], ...]] = (
    ("naive-qos1", peers.naive, 9.0),
    ("node-qos1", peers.node, 2.2),
    ("c-loop-qos1", peers.c_loop, 0.9),
)
"""Case, peer, and the ratio to be reached."""


@dataclass(slots=True)
class _Entrant:
    """A bridge and what it has reached."""

    bridge: peers.Bridge
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def delivered(self) -> list[float]:
        return [outcome.delivered / outcome.seconds for outcome in self.outcomes]

    @property
    def acknowledged(self) -> list[float]:
        return [outcome.acknowledged / outcome.seconds for outcome in self.outcomes]

    @property
    def cost_us(self) -> list[float]:
        """Processor time of the bridge for a message, microseconds."""
        return [1e6 * outcome.bridge_s / max(1, outcome.delivered) for outcome in self.outcomes]

    @property
    def note(self) -> str:
        latency = median(outcome.p99_ms for outcome in self.outcomes)
        broker = median(1e6 * outcome.broker_s / max(1, outcome.delivered) for outcome in self.outcomes)
        load = median(1e6 * outcome.load_s / max(1, outcome.delivered) for outcome in self.outcomes)
        costs = f"a message: bridge {median(self.cost_us):.1f} µs, broker {broker:.1f} µs, load {load:.1f} µs"
        return f"{costs}; 2.04 after at most {latency:.1f} ms (p99)"


def measure(quick: bool) -> Iterator[Result]:
    """All cases, each bridge in turn in every run; five runs, quick: one short one."""
    runs, seconds = (1, QUICK_SECONDS) if quick else (RUNS, SECONDS)
    job = Job(seconds, seconds / 3)
    try:
        compiled(PROGRAM)
    except Unobtainable as error:
        print(f"bridge: left out, {error}", file=sys.stderr)
        return
    if mosquitto_path() is None:
        print(MISSING_PEER, file=sys.stderr)
    else:
        yield from _with_mosquitto(job, runs)
        yield _two_workers(job, runs)
    yield from _with_ours(job, runs)


def _with_mosquitto(job: Job, runs: int) -> Iterator[Result]:
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto())
        peers.to_last_core(broker)
        mine = [_Entrant(stack.enter_context(peers.ours(broker, qos))) for qos in (0, 1, 2)]
        properties = _Entrant(stack.enter_context(peers.ours(broker, 1, user_properties=True)))
        others: dict[str, _Entrant] = {}
        for case, make, _ in PEERS:
            try:
                others[case] = _Entrant(stack.enter_context(make(broker)))
            except Unobtainable as error:
                print(f"bridge {case}: left out, {error}", file=sys.stderr)
        _in_turn(job, runs, [*mine, properties, *others.values()])
        yield from _compared(mine[1], others)
        yield from _alone(mine)
        yield Figure(BENCH, "user-properties-qos1", properties.delivered, "messages/s", note=properties.note)
        yield _at_half_load(job, mine[1])


def _in_turn(job: Job, runs: int, entrants: list[_Entrant]) -> None:
    for turn in range(runs):
        for entrant in entrants:
            entrant.outcomes.append(entrant.bridge.load(replace(job, epoch=turn + 1)))
            entrant.bridge.settle()


def _compared(ours: _Entrant, others: dict[str, _Entrant]) -> Iterator[Result]:
    for case, _, bar in PEERS:
        if case in others:
            other = others[case]
            note = f"{ours.note}; theirs {median(other.cost_us):.1f} µs"
            yield Comparison(
                BENCH, case, ours.delivered, other.bridge.name, other.delivered, "messages/s", note=note, ratio_bar=bar
            )


def _alone(mine: list[_Entrant]) -> Iterator[Result]:
    for qos, entrant in enumerate(mine):
        yield Figure(BENCH, f"ours-qos{qos}", entrant.delivered, "messages/s", note=entrant.note)
    yield Figure(BENCH, "acknowledged-qos1", mine[1].acknowledged, "answers/s", note="2.04 after fsync")


def _at_half_load(job: Job, entrant: _Entrant) -> Result:
    """The time to the durable 2.04 when half of what is possible comes in."""
    rate = median(entrant.delivered) / 2
    outcome = entrant.bridge.load(replace(job, rate=rate, epoch=1000, seconds=2 * job.seconds))
    note = f"{rate:.0f} notifications/s; p50 {outcome.p50_ms:.2f} ms"
    return Figure(BENCH, "p99-half-load", [outcome.p99_ms], "ms", P99_BAR_MS, note, more_is_better=False)


def _two_workers(job: Job, runs: int) -> Result:
    """Both may use every core that there is, and share them with load and broker."""
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto())
        peers.to_last_core(broker)
        one, two = (_Entrant(stack.enter_context(peers.ours(broker, 1, workers=n, core=None))) for n in (1, 2))
        _in_turn(job, runs, [one, two])
        note = f"{two.note}; one worker {median(one.cost_us):.1f} µs; load and broker share the last core with them"
        return Comparison(BENCH, "workers-2", two.delivered, "one worker", one.delivered, "messages/s", note=note)


def _with_ours(job: Job, runs: int) -> Iterator[Result]:
    with our_broker('durability = "memory"') as broker:
        peers.to_last_core(broker)
        with peers.ours(broker, 1) as bridge:
            entrant = _Entrant(bridge)
            _in_turn(job, runs, [entrant])
            yield Figure(BENCH, "embedded-broker-qos1", entrant.delivered, "messages/s", note=entrant.note)
