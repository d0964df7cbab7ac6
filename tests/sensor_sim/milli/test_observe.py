"""Dialect B.5 and B.6: observation and the reboot message, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.coap.message import NON, Message, decode
from meshwire.coap.options import CONTENT_FORMAT, MAX_AGE, OBSERVE
from sensor_sim.milli.observers import ObserverTable

PROFILES = pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])


def register(bench: Any, path: str = "arduino/temp", query: str = "sens", **fields: Any) -> Message:
    return decode(bench.ask(codes.GET, path, query, observe=fields.pop("observe", b""), **fields))


@PROFILES
@pytest.mark.parametrize("observe", [b"", b"\x00"], ids=["empty option", "0"])
def test_register_is_2_03_with_observe_and_nothing_else(make_bench: Any, profile: str, observe: bytes) -> None:
    answer = register(make_bench(profile), observe=observe)
    assert (answer.code, answer.options, answer.payload) == (codes.VALID, ((OBSERVE, b"\x00\x00\x03"),), b"")


@PROFILES
def test_deregister_is_an_empty_2_05_and_may_be_repeated(make_bench: Any, profile: str) -> None:
    bench = make_bench(profile)
    register(bench)
    for _ in range(2):
        answer = register(bench, observe=b"\x01")
        assert (answer.code, answer.options, answer.payload) == (codes.CONTENT, (), b"")
    assert bench.board.observers() == 0
    bench.wait(200.0)
    assert bench.fetch() == b""


@pytest.mark.parametrize("observe", [b"\x02", b"\xff", b"\x00\x00\x00"], ids=["2", "255", "three octets"])
def test_other_observe_values_are_4_06(bench: Any, observe: bytes) -> None:
    answer = register(bench, observe=observe)
    assert (answer.code, answer.options) == (codes.NOT_ACCEPTABLE, ())
    assert bench.board.observers() == 0


def test_on_cfg_it_is_2_05_with_observe_and_body_and_no_timer(bench: Any) -> None:
    answer = register(bench, query="cfg")
    assert answer.code == codes.CONTENT
    assert answer.options == ((OBSERVE, b"\x00\x00\x03"), (CONTENT_FORMAT, b"\x3c"))
    assert answer.payload.endswith(b",F")
    assert bench.board.observers() == 1
    bench.wait(500.0)
    assert bench.fetch() == b""
    assert bench.board.push("temp", bench.now), "the registration is there all the same"


@pytest.mark.parametrize(("query", "code"), [("other", codes.NOT_IMPLEMENTED), (None, codes.METHOD_NOT_ALLOWED)])
def test_on_an_error_there_is_no_observe_option(bench: Any, query: str | None, code: int) -> None:
    answer = decode(bench.ask(codes.GET, "arduino/temp", query, observe=b""))
    assert (answer.code, answer.options) == (code, ())
    assert bench.board.observers() == 0


def test_the_key_is_the_path_alone(bench: Any) -> None:
    register(bench, token=b"\x01")
    register(bench, token=b"\x02")
    assert bench.board.observers() == 1
    bench.wait(60.0)
    assert decode(bench.fetch()).token == b"\x02"


def test_four_paths_may_be_observed(bench: Any) -> None:
    for number, name in enumerate(("temp", "echo", "ncmth1", "lnic")):
        answer = register(bench, f"arduino/{name}", token=bytes((number,)))
        assert answer.option(OBSERVE) == bytes((0, 0, 3 + number)), "one counter for the whole board"
    assert bench.board.observers() == 4


def test_a_fifth_path_finds_no_room() -> None:
    table = ObserverTable()
    assert [table.register(str(number), b"") for number in range(5)] == [True] * 4 + [False]


def test_deregistering_with_the_wrong_token_stops_the_timer_only(bench: Any) -> None:
    register(bench, token=b"\x01")
    answer = register(bench, token=b"\x02", observe=b"\x01")
    assert (answer.code, answer.payload) == (codes.CONTENT, b"")
    assert bench.board.observers() == 1
    bench.wait(500.0)
    assert bench.fetch() == b""
    assert bench.board.push("temp", bench.now)
    assert decode(bench.fetch()).token == b"\x01"


def test_the_observe_number_wraps_to_2() -> None:
    table = ObserverTable()
    table._next_number = (1 << 24) - 1
    assert [table.take_number() for _ in range(3)] == [(1 << 24) - 1, 2, 3]


@PROFILES
def test_a_notification(make_bench: Any, profile: str) -> None:
    bench = make_bench(profile)
    register(bench, token=b"\xc0\xde")
    bench.signals.clear()
    bench.wait(59.0)
    assert bench.pulses() == [], "the first one comes a full period after the registration"
    bench.wait(1.5)
    assert len(bench.pulses()) == 1
    notification = decode(bench.fetch())
    assert (notification.mtype, notification.code, notification.token) == (NON, codes.CONTENT, b"\xc0\xde")
    content_format = b"\x3c" if profile == "milli-1.4.8" else b"\x02"
    assert notification.options == (
        (OBSERVE, b"\x00\x00\x04"),
        (CONTENT_FORMAT, content_format),
        (MAX_AGE, b"\x00\x00\x00\x5a"),
    )
    epoch = int(notification.payload.split(b",")[0][-10:])
    assert notification.mid == epoch & 0xFFFF, "the low 16 bits of the epoch at first use"
    bench.wait(60.0)
    assert decode(bench.fetch()).mid == notification.mid + 1


def test_max_age_never_on_a_plain_get(bench: Any) -> None:
    assert decode(bench.ask(codes.GET, "arduino/temp", "sens")).option(MAX_AGE) is None


def test_the_value_is_sampled_at_the_event_not_when_fetched(bench: Any) -> None:
    register(bench)
    bench.wait(60.0)
    event = bench.board.clock.epoch(bench.now)
    bench.wait(30.0)
    epoch = int(decode(bench.fetch()).payload.split(b",")[0][-10:])
    assert event - 2 <= epoch <= event


def test_setting_the_clock_past_the_due_time_triggers_a_notification(bench: Any) -> None:
    register(bench)
    bench.signals.clear()
    bench.connect()
    bench.information(bench.coap(codes.PUT, "sys/time", payload=bytes.fromhex("0608 6553ff00 00000000")))
    assert bench.pulses() == [0.002]
    answer = bench.frame(0x31)
    assert not answer[5] & 1, "it waits in the slot at once"


def test_setting_the_clock_back_postpones_the_notification(bench: Any) -> None:
    register(bench)
    bench.ask(codes.PUT, "sys/time", payload=bytes.fromhex("0608 6553f000 00000000"))
    bench.wait(100.0)
    assert bench.fetch() == b""
    bench.wait(300.0)
    assert bench.fetch() != b""


def test_push(bench: Any) -> None:
    assert not bench.board.push("echo", bench.now), "error when the path is not registered"
    register(bench, "arduino/echo")
    bench.signals.clear()
    assert bench.board.push("echo", bench.now)
    bench._drain()
    assert bench.pulses() == [0.002]
    assert not bench.board.push("echo", bench.now), "the slot is full and the oldest wins"
    assert decode(bench.fetch()).payload.endswith(b"Hello World: 1")


def test_the_slot_full_counter_does_not_move(bench: Any) -> None:
    register(bench, "arduino/echo")
    bench.wait(250.0)
    assert bench.board.counters.notifications_skipped == 3
    first = decode(bench.fetch())
    bench.wait(60.0)
    second = decode(bench.fetch())
    assert (first.uint(OBSERVE), second.uint(OBSERVE)) == (4, 5)
    assert second.payload.endswith(b": 2"), "a skipped notification takes no reading"


def test_a_notification_during_a_session_is_lost_with_disc(bench: Any) -> None:
    register(bench)
    bench.connect()
    bench.wait(61.0)
    bench.release()
    assert bench.fetch() == b""


def test_the_timers_wait_while_octets_come_in(bench: Any) -> None:
    register(bench)
    bench.signals.clear()
    bench.wait(58.9)
    for _ in range(10):
        bench.board.receive_data(b"\x00", bench.now)
        bench.wait(0.3)
    assert bench.pulses() == []
    bench.wait(0.2)
    assert bench.pulses() == [0.002]


def test_1_4_5_leaves_the_wake_line_low_after_a_deregistration(make_bench: Any) -> None:
    bench = make_bench("milli-1.4.5", period_s=10.0)
    register(bench, "arduino/echo")
    bench.wait(11.0)
    bench.fetch()
    bench.signals.clear()
    register(bench, "arduino/temp", observe=b"\x01")
    assert bench.pulses() == [None], "it went LOW and stays so"
    bench.signals.clear()
    bench.wait(8.0)
    assert bench.pulses() == [], "no edge for the next notification"
    assert bench.fetch() != b""
    bench.wait(8.0)
    assert bench.pulses() == [0.001]


def test_reboot(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    bench.wait(0.0)
    assert bench.pulses() == [0.001]
    assert bench.fetch().hex(" ") == "50 03 ff ff b3 73 79 73 04 73 6e 73 72 46 65 76 3d 72 62 74"
    assert bench.fetch() == b""


def test_the_boot_pulse_of_1_4_5_is_not_seen(make_bench: Any) -> None:
    bench = make_bench("milli-1.4.5", quiet=False)
    bench.wait(0.0)
    assert bench.pulses() == []
    assert bench.fetch() != b""
