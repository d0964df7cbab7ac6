"""The load client counts what it should, notices what is wrong, and a job against our broker gives a figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from bench.broker import CASES, _Plan
from bench.brokers import ours
from bench.mqtt_load.job import Job, LoadError
from bench.mqtt_load.packets import publish_packet
from bench.mqtt_load.publisher import Publisher
from bench.mqtt_load.subscriber import Subscriber
from bench.mqtt_load.wire import Wire
from bench.result import Comparison, Figure


class Recorder:
    """A wire that remembers."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data


def wire() -> Wire:
    return cast(Wire, Recorder())


def sent(end: Publisher | Subscriber) -> bytes:
    return cast(Any, end.wire).sent


JOB = Job(port=0, qos=1, window=3)


class TestPublisher:
    def test_the_window_is_filled_and_then_kept_full(self) -> None:
        publisher = Publisher(wire(), 0, JOB)
        publisher.advance()
        publisher.advance()
        assert sent(publisher) == b"".join(publish_packet(0, index, 1) for index in range(3))
        publisher.on_data(b"\x40\x02\x00\x01\x40\x02\x00\x02")
        publisher.advance()
        assert publisher.sent == 3  # acknowledged, not delivered yet
        publisher.delivered = 1
        publisher.advance()
        assert publisher.sent == 4

    def test_the_ring_closes(self) -> None:
        publisher = Publisher(wire(), 0, replace(JOB, qos=0, window=5_000))
        publisher.advance()
        publisher.delivered = 5_000
        publisher.advance()
        size = len(publish_packet(0, 0, 0))
        assert len(sent(publisher)) == 10_000 * size
        assert sent(publisher)[5_120 * size :][:size] == publish_packet(0, 0, 0)

    def test_receipts_are_released_whatever_comes_between(self) -> None:
        publisher = Publisher(wire(), 0, replace(JOB, qos=2))
        publisher.on_data(bytes.fromhex("50020001 70020009 50020002"))
        assert sent(publisher) == bytes.fromhex("62020001 62020002")
        assert publisher.acknowledged == 1


class TestSubscriber:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_segments_may_end_anywhere(self, qos: int) -> None:
        octets = b"".join(publish_packet(0, index, qos) for index in range(5))
        if qos == 2:
            octets += bytes.fromhex("62020001")
        for cut in range(len(octets)):
            subscriber = Subscriber(wire(), replace(JOB, qos=qos))
            for part in (octets[:cut], octets[cut:]):
                if part:
                    subscriber.on_data(part)
            assert subscriber.received == 5
            first = {0: b"", 1: b"\x40\x02", 2: b"\x50\x02"}[qos]
            expected = b"".join(first + number.to_bytes(2, "big") for number in range(1, 6)) if qos else b""
            assert sent(subscriber) == expected + (bytes.fromhex("70020001") if qos == 2 else b"")

    @pytest.mark.parametrize("orders", [(0, 2), (0, 0), (1, 0)])
    def test_loss_repetition_and_disorder_are_noticed(self, orders: tuple[int, int]) -> None:
        subscriber = Subscriber(wire(), JOB)
        with pytest.raises(LoadError):
            subscriber.on_data(b"".join(publish_packet(0, index, 1) for index in orders))

    def test_messages_of_many_publishers_are_told_apart(self) -> None:
        subscriber = Subscriber(wire(), replace(JOB, publishers=3))
        subscriber.on_data(publish_packet(2, 0, 1) + publish_packet(0, 0, 1) + publish_packet(2, 1, 1))
        assert subscriber.by_publisher == {2: 2, 0: 1}


def test_a_comparison_may_be_judged_by_its_ratio() -> None:
    result = Comparison("broker", "x", [3.0], "mosquitto", [2.0], "messages/s", ratio_bar=1.5)
    assert result.record() | {"ratio_bar": 1.5, "met": True} == result.record()
    assert replace(result, ratio_bar=1.6).record()["met"] is False
    assert Comparison("broker", "x", [3.0], "m", [2.0], "KB", False, 4.0).record()["met"] is True
    assert Figure("broker", "x", [5.0], "ms", 4.0, more_is_better=False).record()["met"] is False


def test_cases_have_the_names_that_scripts_know() -> None:
    assert {"qos0-1to1", "qos1-1to1", "qos2-1to1", "fanout-1to50", "fanin-50to1", "publishers-500"} <= {
        case.name for case in CASES
    }


def test_our_broker_carries_a_load() -> None:
    plan = _Plan(1, 0.1, 0.05)
    with ours('durability = "memory"') as broker:
        for case in CASES:
            if case.job.get("publishers", 1) in (1, 50):
                values: list[float] = []
                while not values or values[-1] <= 100:  # a machine that stalls for a tenth of a second measures nothing
                    assert len(values) < 10, (case.name, values)
                    result = plan.throughput(case, [broker])
                    assert isinstance(result, Figure)
                    values.append(result.value)
        assert plan.ping(1, [broker]).record()["value"]
