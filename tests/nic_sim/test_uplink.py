"""The conversation with the gateway, by answers, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.identity import DeviceId
from meshwire.notification import Notification
from nic_sim.uplink import ChannelError, GatewayAnswer, Uplink, Verdict, judge
from nic_sim.uplink_queue import UplinkQueue

MAC = DeviceId("001350050047dd92")
OK = GatewayAnswer(codes.CHANGED)


@dataclass
class Channel:
    """A gateway that answers by a function of the path; None is silence."""

    answer: Callable[[str], GatewayAnswer | None] = lambda kind: OK
    posts: list[tuple[float, str, str]] = field(default_factory=list)
    in_flight: int = 0

    async def post(
        self, path: tuple[str, ...], query: tuple[str, ...], content_format: int | None, payload: bytes
    ) -> GatewayAnswer:
        assert self.in_flight == 0, "one POST in flight"
        self.in_flight += 1
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(0.05)
        self.in_flight -= 1
        answer = self.answer(path[0])
        self.posts.append((now, path[0], query[0]))
        if answer is None:
            raise ChannelError("nobody there")
        return answer

    def times(self, kind: str) -> list[float]:
        return [at for at, what, _ in self.posts if what == kind]

    def sent(self) -> list[str]:
        return [query for _, what, query in self.posts if what == "bubble-up"]


def reading(number: int) -> Notification:
    return Notification(MAC, "snsr/a/b", number, 1, 60, b"x", 1.0)


async def talk(channel: Channel, count: int, seconds: float, limit: int = 1000) -> Uplink:
    """An uplink that has `count` readings to send and `seconds` for it."""
    queue = UplinkQueue(None, limit, MAC)
    uplink = Uplink(MAC, queue, channel, register_s=60.0, links=lambda: b"</snsr>")
    for number in range(count):
        uplink.deliver(reading(number))
    running = asyncio.create_task(uplink.run())
    await asyncio.sleep(seconds)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    uplink.counters["left"] = len(queue)
    return uplink


VERDICTS = [
    (codes.CHANGED, Verdict.TAKEN),
    (codes.CREATED, Verdict.TAKEN),
    (codes.CONTENT, Verdict.TAKEN),
    (codes.FORBIDDEN, Verdict.REFUSED),
    (codes.NOT_FOUND, Verdict.REFUSED),
    (codes.UNAUTHORIZED, Verdict.REFUSED),
    (codes.BAD_REQUEST, Verdict.DROP),
    (codes.BAD_OPTION, Verdict.DROP),
    (codes.REQUEST_ENTITY_TOO_LARGE, Verdict.DROP),
    (codes.TOO_MANY_REQUESTS, Verdict.LATER),
    (codes.SERVICE_UNAVAILABLE, Verdict.LATER),
    (codes.INTERNAL_SERVER_ERROR, Verdict.LATER),
    (codes.GATEWAY_TIMEOUT, Verdict.LATER),
]


@pytest.mark.parametrize(("code", "verdict"), VERDICTS)
def test_meaning_of_answers(code: int, verdict: Verdict) -> None:
    assert judge(code) is verdict


def test_registers_first_then_sends_in_order(run: Any) -> None:
    channel = Channel()
    uplink = run(talk(channel, 5, 10))
    assert [what for _, what, _ in channel.posts] == ["register"] + ["bubble-up"] * 5
    assert channel.posts[0][2] == "lt=60"
    assert channel.sent() == [f"o={number}" for number in range(5)]
    assert uplink.counters["taken"] == 5 and uplink.counters["left"] == 0


def test_registers_every_minute(run: Any) -> None:
    channel = Channel()
    run(talk(channel, 0, 250))
    times = channel.times("register")
    assert [round(later - sooner) for sooner, later in itertools.pairwise(times)] == [60] * 4


def test_backs_off_to_five_seconds_and_registers_before_it_goes_on(run: Any) -> None:
    channel = Channel(answer=lambda kind: None)

    async def scenario() -> Uplink:
        asyncio.get_running_loop().call_later(100, lambda: setattr(channel, "answer", lambda kind: OK))
        return await talk(channel, 3, 110)

    uplink = run(scenario())
    waits = [round(later[0] - sooner[0] - 0.05, 1) for sooner, later in itertools.pairwise(channel.posts)]
    assert waits[:6] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert channel.sent() == ["o=0", "o=1", "o=2"]
    assert uplink.counters["left"] == 0
    assert channel.posts[-4][1] == "register"


def test_gateway_that_was_away_is_told_the_address_before_it_gets_data(run: Any) -> None:
    def answer(kind: str) -> GatewayAnswer | None:
        return None if kind == "bubble-up" and len(channel.sent()) == 1 else OK

    channel = Channel(answer=answer)
    run(talk(channel, 3, 50))
    kinds = [what for _, what, _ in channel.posts]
    assert kinds == ["register", "bubble-up", "bubble-up", "register", "bubble-up", "bubble-up"]
    assert channel.sent() == ["o=0", "o=1", "o=1", "o=2"]


@pytest.mark.parametrize(("max_age_s", "waited_s"), [(7, 7), (0, 1), (None, 60), (100_000, 300)])
def test_full_gateway_is_given_the_time_it_asks_for(max_age_s: int | None, waited_s: int, run: Any) -> None:
    full = GatewayAnswer(codes.SERVICE_UNAVAILABLE, max_age_s, "outbox is full")
    channel = Channel(answer=lambda kind: full if kind == "bubble-up" and len(channel.sent()) == 0 else OK)
    uplink = run(talk(channel, 2, 400))
    times = channel.times("bubble-up")
    assert round(times[1] - times[0]) == waited_s
    assert channel.sent() == ["o=0", "o=0", "o=1"], "kept"
    assert uplink.last_failure == "5.03 outbox is full"


@pytest.mark.parametrize("code", [codes.FORBIDDEN, codes.NOT_FOUND])
def test_unknown_device_keeps_its_data_and_asks_slowly(code: int, run: Any) -> None:
    channel = Channel(answer=lambda kind: GatewayAnswer(code, None, "gateway: device is not provisioned"))

    async def scenario() -> Uplink:
        asyncio.get_running_loop().call_later(200, lambda: setattr(channel, "answer", lambda kind: OK))
        return await talk(channel, 3, 240)

    uplink = run(scenario())
    assert 6 <= uplink.counters["refused"] <= 8
    assert uplink.counters["taken"] == 3 and uplink.counters["left"] == 0


def test_what_the_gateway_can_never_take_is_dropped_and_counted(run: Any) -> None:
    bad = GatewayAnswer(codes.BAD_REQUEST, None, "no")
    channel = Channel(answer=lambda kind: bad if kind == "bubble-up" and len(channel.sent()) == 1 else OK)
    uplink = run(talk(channel, 3, 10))
    assert channel.sent() == ["o=0", "o=1", "o=2"]
    assert (uplink.counters["taken"], uplink.counters["dropped-4.00"]) == (2, 1)


def test_gateway_without_registration_still_gets_the_data(run: Any) -> None:
    channel = Channel(answer=lambda kind: OK if kind == "bubble-up" else GatewayAnswer(codes.METHOD_NOT_ALLOWED))
    uplink = run(talk(channel, 3, 10))
    assert uplink.counters["taken"] == 3 and uplink.counters["registration-rejected"] == 1


def test_overflow_is_counted(run: Any) -> None:
    channel = Channel(answer=lambda kind: None)
    uplink = run(talk(channel, 10, 1, limit=4))
    assert uplink.counters["dropped-overflow"] == 6 and uplink.counters["left"] == 4
