"""`meshwire bench broker`: our broker beside Debian's Mosquitto, case by case in turn, with one load client for both.

The broker has one core and the load client another; payloads have 100 octets. `bench.mqtt_load` says how the load is
made and `bench.brokers` how both are set up. Without Mosquitto our own figures remain.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.brokers import MISSING_PEER, Contender, mosquitto, mosquitto_path, ours
from bench.mqtt_load.job import Outcome
from bench.result import Comparison, Figure, Result
from broker.certificates import TrialAuthority
from meshwire.identity import TenantId

__all__ = ["CASES", "Case", "measure"]

BENCH: Final = "broker"
RUNS: Final = 5
SECONDS: Final = 1.0
QUICK_SECONDS: Final = 0.3
IN_MEMORY: Final = 'durability = "memory"'
PERSISTENT_MOSQUITTO: Final = "persistence true\npersistence_location {folder}/\nautosave_interval 1"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison of throughput.

    Args:
        name: in the JSON lines; scripts know it.
        job: what the load client does.
        bar: ours ÷ theirs to be reached.
        note: what one has to know to read it.
    """

    name: str
    job: dict[str, object]
    bar: float | None = None
    note: str = ""


CASES: Final = (
    Case("qos0-1to1", {"qos": 0, "window": 1_000}, 1.5),
    Case("qos1-1to1", {"qos": 1, "window": 100}, 1.5),
    Case("qos2-1to1", {"qos": 2, "window": 100}, 1.5),
    Case("fanout-1to50", {"qos": 0, "window": 100, "subscribers": 50}, 1.5, "QoS 0; messages delivered"),
    Case("fanout-1to50-qos1", {"qos": 1, "window": 50, "subscribers": 50}, None, "messages delivered"),
    Case("fanin-50to1", {"qos": 1, "window": 10, "publishers": 50}, 1.0, "QoS 1"),
    Case("fanin-50to1-qos0", {"qos": 0, "window": 20, "publishers": 50}),
    Case("publishers-500", {"qos": 1, "window": 1, "publishers": 500}, 0.9, "QoS 1, one message in flight each"),
    Case("foreign-filters-2000", {"qos": 0, "window": 1_000, "foreign_filters": 2_000}, 1.5, "QoS 0, 1 to 1"),
)
"""Windows are messages one publisher has on the way: neither broker is given more than it can take."""

DURABLE: Final = Case("qos1-1to1-durable", {"qos": 1, "window": 100, "keep_session": True}, 1.0)
PING_BAR_MS: Final = 0.2
IDLE_CLIENTS: Final = 1_000
IDLE_BAR_KB: Final = 8.0


def measure(quick: bool) -> Iterator[Result]:
    """All cases, five runs of each; quick: one short run of each case that has a bar."""
    plan = _Plan(1, QUICK_SECONDS, QUICK_SECONDS / 2) if quick else _Plan(RUNS, SECONDS, SECONDS / 3)
    if mosquitto_path() is None:
        print(MISSING_PEER, file=sys.stderr)
    with ExitStack() as stack:
        brokers = _enter(stack, partial(ours, IN_MEMORY), mosquitto)
        for case in CASES:
            if case.bar is not None or not quick:
                yield plan.throughput(case, brokers)
        for qos in (1,) if quick else (0, 1, 2):
            yield plan.ping(qos, brokers)
    yield from _durable(plan, quick)
    yield _handshakes(plan)
    yield _idle(1 if quick else 3)


def _enter(stack: ExitStack, *makers: Callable[[], AbstractContextManager[Contender]]) -> list[Contender]:
    """Ours, and the peer where it is installed."""
    present = makers if mosquitto_path() is not None else makers[:1]
    return [stack.enter_context(maker()) for maker in present]


@dataclass(frozen=True, slots=True)
class _Plan:
    runs: int
    seconds: float
    warm_up_s: float

    def throughput(self, case: Case, brokers: Sequence[Contender], unit: str = "messages/s") -> Result:
        """Messages (or what the unit says) a second, both brokers in turn."""
        outcomes = self._in_turn(case.job, brokers)
        rates = [[outcome.messages / outcome.seconds for outcome in each] for each in outcomes]
        loads = ", ".join(f"{max(outcome.client_load for outcome in each):.0%}" for each in outcomes)
        note = "; ".join(filter(None, (case.note, f"load client at most {loads} busy")))
        if len(brokers) == 1:
            return Figure(BENCH, case.name, rates[0], unit, note=note)
        return Comparison(BENCH, case.name, rates[0], brokers[1].name, rates[1], unit, ratio_bar=case.bar, note=note)

    def ping(self, qos: int, brokers: Sequence[Contender]) -> Result:
        """Time of one message from client to client."""
        outcomes = self._in_turn({"qos": qos, "ping": True, "seconds": self.seconds / 2}, brokers)
        times = [[outcome.p50_ms for outcome in each] for each in outcomes]
        worst = ", ".join(f"{sorted(outcome.p99_ms for outcome in each)[len(each) // 2]:.3f}" for each in outcomes)
        name, note = f"ping-qos{qos}", f"p50; p99 {worst} ms"
        if len(brokers) == 1:
            return Figure(BENCH, name, times[0], "ms", PING_BAR_MS, note, more_is_better=False)
        return Comparison(BENCH, name, times[0], brokers[1].name, times[1], "ms", False, PING_BAR_MS, note)

    def _in_turn(self, job: dict[str, object], brokers: Sequence[Contender]) -> list[list[Outcome]]:
        job = {"seconds": self.seconds, "warm_up_s": self.warm_up_s} | job
        outcomes: list[list[Outcome]] = [[] for _ in brokers]
        for _ in range(self.runs):
            for broker, results in zip(brokers, outcomes, strict=True):
                results.append(broker.load(job))
        return outcomes


def _durable(plan: _Plan, quick: bool) -> Iterator[Result]:
    """A session on disk: ours commits before it acknowledges, Mosquitto saves a snapshot each second."""
    for durability, bar in (("os", DURABLE.bar), ("fsync", None)):
        if bar is None and quick:
            return
        note = f'durability = "{durability}"; Mosquitto: persistence true, autosave_interval 1'
        name = DURABLE.name if bar else f"{DURABLE.name}-{durability}"
        with ExitStack() as stack:
            makers = partial(ours, f'durability = "{durability}"'), partial(mosquitto, PERSISTENT_MOSQUITTO)
            yield plan.throughput(Case(name, DURABLE.job, bar, note), _enter(stack, *makers))


def _handshakes(plan: _Plan) -> Result:
    """Logins with a client certificate, from TCP to CONNACK; both require and verify it and take the name from it."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        authority = TrialAuthority.in_folder(folder)
        authority.server(("127.0.0.1",))
        authority.client("bench", TenantId("acme"), file="client")
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)  # Mosquitto changes to a user of its own
        tls = (
            f'kind = "mqtts"\ncertificate_file = "{folder}/server.crt"\nkey_file = "{folder}/server.key"\n'
            f'client_ca_file = "{folder}/ca.crt"\nauthentication = ["certificate"]'
        )
        theirs = (
            f"cafile {folder}/ca.crt\ncertfile {folder}/server.crt\nkeyfile {folder}/server.key\n"
            "require_certificate true\nuse_identity_as_username true"
        )
        brokers = _enter(stack, partial(ours, IN_MEMORY, tls), partial(mosquitto, theirs))
        note = "TLS 1.3, ECDSA P-256, 20 at a time"
        unit = "handshakes/s"
        return plan.throughput(Case("mtls-handshakes", {"certificates": name}, 1.0, note), brokers, unit)


def _idle(runs: int) -> Result:
    """Resident memory that one connected client costs, from 1,000 of them; each run with fresh brokers."""
    sizes: list[list[float]] = []
    makers = partial(ours, IN_MEMORY), mosquitto
    for maker in makers[: 1 if mosquitto_path() is None else 2]:
        sizes.append([_kb_a_client(maker) for _ in range(runs)])
    note = f"{IDLE_CLIENTS} connected clients without subscriptions; kernel memory not counted"
    if len(sizes) == 1:
        return Figure(BENCH, "idle-1000", sizes[0], "KB/client", IDLE_BAR_KB, note, more_is_better=False)
    return Comparison(BENCH, "idle-1000", sizes[0], "mosquitto", sizes[1], "KB/client", False, IDLE_BAR_KB, note)


def _kb_a_client(maker: Callable[[], AbstractContextManager[Contender]]) -> float:
    with maker() as broker:
        with broker.crowd({"idle": 20}):
            pass  # the first clients pay for what is made on first use
        before = broker.resident_kb
        with broker.crowd({"idle": IDLE_CLIENTS}):
            return (broker.resident_kb - before) / IDLE_CLIENTS
