"""The load of the bridge benchmark counts what goes through a bridge, and says when one does not play along."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from bench import bridge_peers as peers
from bench.bridge_load import Job, hello
from bench.brokers import Contender, mosquitto, mosquitto_path

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(mosquitto_path() is None or shutil.which("cc") is None, reason="needs mosquitto and a compiler"),
]


@pytest.fixture(scope="module")
def broker() -> Iterator[Contender]:
    with mosquitto() as contender:
        yield contender


def test_what_is_acknowledged_is_delivered(broker: Contender) -> None:
    with peers.c_loop(broker) as bridge:
        outcome = bridge.load(Job(0.2, 0.05, nics=8, window=2))
    assert outcome.acknowledged > 100 and outcome.seconds >= 0.2
    assert abs(outcome.delivered - outcome.acknowledged) <= 16, "no more than what is under way"
    assert 0 < outcome.p50_ms <= outcome.p99_ms
    assert outcome.resident_kb > 100 and outcome.load_s > 0


def test_slices_follow_one_another(broker: Contender) -> None:
    with peers.c_loop(broker) as bridge:
        outcomes = list(bridge.slices(Job(0.1, 0.05, nics=8, slices=3)))
    assert len(outcomes) == 3 and all(outcome.acknowledged for outcome in outcomes)


def test_a_rate_is_kept(broker: Contender) -> None:
    with peers.c_loop(broker) as bridge:
        outcome = bridge.load(Job(0.4, 0.05, nics=4, rate=500.0))
    assert 0 < outcome.acknowledged <= 500 * outcome.seconds + 64


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
