"""The load of the bridge benchmark counts what goes through a bridge, and says when one does not play along."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench import bridge_peers as peers
from bench.bridge_load import Job, Outcome, hello
from bench.brokers import Contender, mosquitto, mosquitto_path

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(mosquitto_path() is None or shutil.which("cc") is None, reason="needs mosquitto and a compiler"),
]


@pytest.fixture(scope="module")
def broker() -> Iterator[Contender]:
    with mosquitto() as contender:
        yield contender


def until_enough(bridge: peers.Bridge, job: Job) -> list[Outcome]:
    """Slices until 200 notifications have gone through, however slow this machine is now."""
    outcomes: list[Outcome] = []
    for outcome in bridge.slices(replace(job, slices=1000)):
        outcomes.append(outcome)
        if sum(each.acknowledged for each in outcomes) >= 200:
            return outcomes
    raise AssertionError(outcomes)


def test_what_is_acknowledged_is_delivered(broker: Contender) -> None:
    with peers.c_loop(broker) as bridge:
        outcomes = until_enough(bridge, Job(0.1, 0.05, nics=8, window=2))
    acknowledged, delivered = (sum(getattr(each, name) for each in outcomes) for name in ("acknowledged", "delivered"))
    assert abs(delivered - acknowledged) <= 16, "no more than what is under way"
    for outcome in outcomes:
        assert outcome.seconds >= 0.1 and outcome.p50_ms <= outcome.p99_ms and outcome.resident_kb > 100


def test_a_rate_is_kept(broker: Contender) -> None:
    with peers.c_loop(broker) as bridge:
        outcomes = until_enough(bridge, Job(0.1, 0.05, nics=4, rate=500.0))
    under_way = 4 * 64
    assert sum(outcome.acknowledged for outcome in outcomes) <= 500 * sum(each.seconds for each in outcomes) + under_way


def test_a_bridge_that_refuses_ends_the_load(broker: Contender) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bridge:
        bridge.bind(("127.0.0.1", 0))

        def refuse() -> None:
            octets, source = bridge.recvfrom(2048)
            bridge.sendto(b"\x62\x83" + octets[2:6], source)

        threading.Thread(target=refuse, daemon=True).start()
        where = (broker.port, broker.process.pid)
        with pytest.raises(RuntimeError, match="the load failed"):
            list(
                Job(5, 0, nics=1).run(bridge.getsockname()[1], hello("test", None, None), where, (broker.process.pid,))
            )
