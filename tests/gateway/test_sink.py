"""The sink by a made-up clock: who gets which answer, when, and what is stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.addresses import Address
from gateway.envelope import unpack
from gateway.outbox import Outbox
from gateway.registry import Device, Registry
from gateway.sink import Sink, is_for_sink
from gateway.statistics import Event, Statistics
from gateway.storage import MemoryStorage
from meshwire.coap import ACK, CON, NON, Message, codes, decode, encode, options
from meshwire.identity import DeviceId, TenantId

MAC = DeviceId("001350050047dc9a")
OTHER = DeviceId("001350050047dd92")
NIC = Address("fd00::1", 4849)
NOW_S = 1_700_000_000.0


class Bench:
    """A sink over an outbox in memory; the clock is a number."""

    def __init__(self, max_octets: int = 1 << 20) -> None:
        self.now = 100.0
        self.registry = Registry(None)
        self.registry.add_device(MAC, TenantId("acme"))
        self.registry.add_device(OTHER, TenantId("acme"), enabled=False)
        self.statistics = Statistics()
        self.outbox = Outbox(MemoryStorage(), max_octets=max_octets, segment_octets=4096)
        self.registered: list[DeviceId] = []
        numbers = itertools.count(0x7000)
        self.sink = Sink(
            self.registry,
            self.outbox,
            self.statistics,
            next_message_id=lambda: next(numbers),
            on_registration=lambda device: self.registered.append(device.mac),
            retry_after_s=7,
        )

    def receive(self, message: Message, source: Address = NIC) -> Message | None:
        datagram = self.sink.receive(message, source, self.now, NOW_S)
        return None if datagram is None else decode(datagram.octets)

    def receive_all(self, *messages: Message, source: Address = NIC) -> list[Message]:
        """Those that were left to be looked at closer, and then were."""
        others: list[Message] = []

        def other(octets: bytes, address: Address) -> None:
            others.append(decode(octets))
            self.receive(others[-1], address)

        self.sink.receive_all(iter([(encode(message), source) for message in messages]), self.now, NOW_S, other)
        return others

    def commit(self, *, fails: bool = False) -> list[Message]:
        commit = self.outbox.begin_commit()
        self.sink.committing()
        if commit is not None and fails:
            self.outbox.fail_commit(commit)
            return [decode(datagram.octets) for datagram in self.sink.failed()]
        if commit is not None:
            commit.write(sync=False)
            self.outbox.finish_commit(commit)
        return [decode(datagram.octets) for datagram in self.sink.committed()]

    def stored(self) -> list[Any]:
        return [unpack(record.payload) for record in self.outbox.read(100)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


Make = Callable[..., Message]


def test_2_04_comes_after_the_commit_and_the_payload_is_untouched(bench: Bench, bubble_up: Make) -> None:
    request = bubble_up(observe=7, epoch=3, payload=bytes(range(256)))
    assert bench.receive(request) is None and bench.stored() == []
    (answer,) = bench.commit()
    assert answer == Message(ACK, codes.CHANGED, request.mid, request.token)
    (stored,) = bench.stored()
    notification = stored.notification
    assert (stored.tenant, notification.device) == (TenantId("acme"), MAC)
    assert (notification.observe, notification.epoch, notification.path) == (7, 3, "snsr/arduino/temp")
    assert (notification.payload, notification.content_format) == (bytes(range(256)), options.CBOR)
    assert notification.time_s == 1_700_000_000.25
    assert bench.registry.sighting(MAC).address == NIC  # type: ignore[union-attr]


def test_non_is_answered_non_with_a_message_id_of_our_own(bench: Bench, bubble_up: Make) -> None:
    assert bench.receive(bubble_up(mtype=NON, token=b"abc")) is None
    assert bench.commit() == [Message(NON, codes.CHANGED, 0x7000, b"abc")]


REFUSALS: list[tuple[str, Callable[[Make], Message], int, str]] = [
    ("unknown device", lambda make: make(DeviceId("00000000000000ff")), codes.FORBIDDEN, "unknown-device"),
    ("disabled device", lambda make: make(OTHER), codes.FORBIDDEN, "disabled-device"),
    ("GET", lambda make: replace(make(), code=codes.GET), codes.METHOD_NOT_ALLOWED, "method"),
    ("no queries", lambda make: make().without(options.URI_QUERY), codes.BAD_REQUEST, "malformed"),
    ("no path", lambda make: make(path=""), codes.CHANGED, ""),
    ("block-wise", lambda make: make().with_options([(options.BLOCK1, b"\x08")]), codes.BAD_OPTION, "option"),
    ("conditional", lambda make: make().with_options([(options.IF_MATCH, b"")]), codes.BAD_OPTION, "option"),
]


@pytest.mark.parametrize(
    ("request_of", "code", "reason"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_refusals(bench: Bench, bubble_up: Make, request_of: Callable[[Make], Message], code: int, reason: str) -> None:
    request = request_of(bubble_up)
    answer = bench.receive(request) or bench.commit()[0]
    assert (answer.mtype, answer.code, answer.mid, answer.token) == (ACK, code, request.mid, request.token)
    assert bench.statistics.by_reason(Event.REFUSED) == ({reason: 1} if reason else {})
    assert bench.outbox.status(0).depth == (0 if reason else 1)


def test_malformed_macs_and_numbers_are_4_00(bench: Bench) -> None:
    for path, query in [
        (["bubble-up"], []),
        (["bubble-up", "xyz", "a"], ["o=1", "t=1"]),
        (["bubble-up", MAC.value, "a"], ["o=16777216", "t=1"]),
        (["bubble-up", MAC.value, "a"], ["o=1", "t=nan"]),
        (["register"], []),
        (["register", "12"], []),
        (["register", MAC.value, "more"], []),
    ]:
        pairs = [(options.URI_PATH, part.encode()) for part in path]
        pairs += [(options.URI_QUERY, part.encode()) for part in query]
        bench.now += 1000
        answer = bench.receive(Message(CON, codes.POST, 1, b"", tuple(pairs)))
        assert answer is not None and answer.code == codes.BAD_REQUEST, path


def test_a_repeated_datagram_gets_the_same_answer_and_is_stored_once(bench: Bench, bubble_up: Make) -> None:
    request = bubble_up(mid=9)
    assert bench.receive(request) is None
    assert bench.receive(request) is None, "the first one is not committed yet: silence, its answer is on its way"
    (answer,) = bench.commit()
    assert bench.receive(request) == answer
    bench.now += 246
    assert bench.receive(request) == answer
    assert len(bench.stored()) == 1
    assert bench.statistics.total(Event.DUPLICATE, "message-id") == 3


def test_a_message_id_means_something_new_after_its_lifetime_and_from_elsewhere(bench: Bench, bubble_up: Make) -> None:
    bench.receive(bubble_up(observe=1, mid=9))
    bench.receive(bubble_up(observe=2, mid=9), Address("fd00::1", 5000))
    bench.now += 248
    bench.receive(bubble_up(observe=3, mid=9))
    bench.commit()
    assert [stored.notification.observe for stored in bench.stored()] == [1, 2, 3]


def test_a_repeated_notification_is_2_04_again_and_stored_once(bench: Bench, bubble_up: Make) -> None:
    bench.receive(bubble_up(mid=1))
    bench.commit()
    answer = bench.receive(bubble_up(mid=2))
    assert answer is not None and (answer.code, answer.mid) == (codes.CHANGED, 2)
    assert len(bench.stored()) == 1
    assert bench.statistics.total(Event.DUPLICATE, "key") == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_repetition_before_the_commit_shares_its_fate(bench: Bench, bubble_up: Make, fails: bool) -> None:
    bench.receive(bubble_up(mid=1))
    commit = bench.outbox.begin_commit()
    bench.sink.committing()
    assert commit is not None
    bench.receive(bubble_up(mid=2))
    bench.receive(bubble_up(mid=3))
    if fails:
        bench.outbox.fail_commit(commit)
        first = bench.sink.failed()
    else:
        commit.write(sync=False)
        bench.outbox.finish_commit(commit)
        first = bench.sink.committed()
    expected = codes.SERVICE_UNAVAILABLE if fails else codes.CHANGED
    assert [decode(datagram.octets).code for datagram in first] == [expected]
    assert [(answer.mid, answer.code) for answer in bench.commit()] == [(2, expected), (3, expected)]
    assert len(bench.stored()) == (0 if fails else 1)


def test_after_a_failed_commit_the_notification_is_taken_when_it_comes_again(bench: Bench, bubble_up: Make) -> None:
    bench.receive(bubble_up(mid=1))
    (answer,) = bench.commit(fails=True)
    assert (answer.code, answer.uint(options.MAX_AGE)) == (codes.SERVICE_UNAVAILABLE, 7)
    bench.receive(bubble_up(mid=2))
    assert bench.commit()[0].code == codes.CHANGED
    assert len(bench.stored()) == 1


def test_a_full_outbox_is_5_03_with_max_age_and_takes_again_when_there_is_room(bubble_up: Make) -> None:
    bench = Bench(max_octets=400)
    answers = [bench.receive(bubble_up(observe=n, mid=n)) for n in range(10)]
    refused = [answer for answer in answers if answer is not None]
    assert refused and {answer.code for answer in refused} == {codes.SERVICE_UNAVAILABLE}
    assert {answer.uint(options.MAX_AGE) for answer in refused} == {7}
    bench.commit()
    for record in bench.outbox.read(100):
        bench.outbox.acknowledge(record.sequence)
    assert bench.receive(bubble_up(observe=9, mid=100)) is None
    assert bench.commit()[0].code == codes.CHANGED
    assert bench.statistics.total(Event.REFUSED, "outbox-full") == len(refused)


def test_registration_tells_the_address(bench: Bench) -> None:
    pairs = [(options.URI_PATH, b"register"), (options.URI_PATH, MAC.value.encode()), (options.URI_QUERY, b"lt=20")]
    answer = bench.receive(Message(CON, codes.POST, 5, b"r", tuple(pairs)))
    assert answer == Message(ACK, codes.CHANGED, 5, b"r")
    assert bench.registered == [MAC]
    assert (bench.registry.sighting(MAC).address, bench.registry.interval_s(MAC)) == (NIC, 20.0)  # type: ignore[union-attr]
    pairs[1] = (options.URI_PATH, b"00000000000000ff")
    unknown = bench.receive(Message(CON, codes.POST, 6, b"r", tuple(pairs)))
    assert unknown is not None and unknown.code == codes.FORBIDDEN


def test_no_response_is_honoured(bench: Bench, bubble_up: Make) -> None:
    """RFC 7967: a confirmable request is still acknowledged."""
    wish = [(options.NO_RESPONSE, b"\x02")]
    bench.receive(bubble_up(observe=1, mtype=NON).with_options(wish))
    bench.receive(bubble_up(observe=2).with_options(wish))
    assert bench.commit() == [Message(ACK, codes.EMPTY, 2)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, bubble_up: Make) -> None:
    monkeypatch.setattr("gateway.sink.MAX_MESSAGES", 50)
    bench = Bench()
    for n in range(500):
        bench.receive(bubble_up(observe=n, mid=n))
        bench.commit()
    assert len(bench.sink._memory.exchanges) <= 51
    assert not bench.sink._memory.underway and len(bench.sink._memory.stored) == 1


def test_a_repetition_is_recognised_whatever_other_devices_send_meanwhile(bench: Bench, bubble_up: Make) -> None:
    """A minute's readings at 1,000/s, and more: formerly the table of all devices together had forgotten by then."""
    others = [DeviceId(f"{number:016x}") for number in range(1000)]
    bench.registry.add_devices([Device(other, TenantId("acme")) for other in others])
    bench.receive(bubble_up(observe=1, mid=1))
    bench.commit()
    bench.sink.recall([(f"{others[n % 1000]}/a/1/{n}".encode(), 0.0) for n in range(70_000)], bench.now)
    bench.now += 300
    answer = bench.receive(bubble_up(observe=1, mid=2))
    assert answer is not None and answer.code == codes.CHANGED
    assert bench.statistics.by_reason(Event.DUPLICATE) == {"key": 1}
    assert bench.outbox.status(0).depth == 1


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(options.URI_PATH, b"bubble-up")], True),
        ([(options.URI_PATH, b"register")], True),
        ([(options.URI_PATH, b"sessions")], False),
        ([(options.URI_PATH, b"a"), (options.URI_PATH, b"register")], False),
        ([(options.URI_PATH, b"bubble-up"), (options.PROXY_URI, b"coap://x/")], False),
        ([(options.URI_PATH, b"bubble-up"), (options.PROXY_SCHEME, b"coap")], False),
        ([], False),
    ],
)
def test_which_requests_are_for_the_sink(pairs: list[tuple[int, bytes]], expected: bool) -> None:
    assert is_for_sink(Message(CON, codes.POST, 1, b"", tuple(pairs))) is expected
    assert not is_for_sink(Message(CON, codes.CONTENT, 1, b"", tuple(pairs)))


def test_notifications_of_a_batch_keep_their_order_whatever_their_spelling(bench: Bench, bubble_up: Make) -> None:
    messages = [bubble_up(observe=number, mid=number) for number in range(6)]
    messages[2] = replace(messages[2], mtype=NON)
    assert bench.receive_all(*messages) == [messages[2]]
    assert len(bench.commit()) == 6
    assert [stored.notification.observe for stored in bench.stored()] == [0, 1, 2, 3, 4, 5]


def test_repetitions_within_a_batch_and_behind_it_are_recognised(bench: Bench, bubble_up: Make) -> None:
    first, second = bubble_up(observe=1, mid=1), bubble_up(observe=2, mid=2)
    other_mid = bubble_up(observe=1, mid=3)
    assert bench.receive_all(first, second, first, other_mid) == [first, other_mid]
    answers = bench.commit()
    assert sorted(answer.mid for answer in answers) == [1, 2, 3]
    assert {answer.code for answer in answers} == {codes.CHANGED}
    bench.receive_all(first, bubble_up(observe=2, mid=4))
    assert [stored.notification.observe for stored in bench.stored()] == [1, 2]
    assert bench.statistics.by_reason(Event.DUPLICATE) == {"message-id": 2, "key": 2}


def test_a_batch_that_can_not_be_written_may_come_again(bench: Bench, bubble_up: Make) -> None:
    messages = [bubble_up(observe=number, mid=number) for number in range(3)]
    assert bench.receive_all(*messages) == []
    assert [answer.code for answer in bench.commit(fails=True)] == [codes.SERVICE_UNAVAILABLE] * 3
    assert bench.statistics.by_reason(Event.REFUSED) == {"unwritable": 3}
    again = [bubble_up(observe=number, mid=10 + number) for number in range(3)]
    assert bench.receive_all(*again) == [] and len(bench.commit()) == 3


def test_a_batch_takes_what_there_is_room_for(bubble_up: Make) -> None:
    bench = Bench(max_octets=350)
    messages = [bubble_up(observe=number, mid=number, payload=bytes(60)) for number in range(4)]
    refused = bench.receive_all(*messages)
    assert refused == messages[-len(refused) :] and 0 < len(refused) < 4
    assert len(bench.commit()) == 4 - len(refused) == bench.outbox.status(0).depth
    assert bench.statistics.by_reason(Event.REFUSED) == {"outbox-full": len(refused)}


def test_whose_a_device_is_counts_as_of_now(bench: Bench, bubble_up: Make) -> None:
    bench.registry.add_tenant(TenantId("other"))
    assert bench.receive_all(bubble_up(observe=1, mid=1)) == []
    bench.registry.move_device(MAC, TenantId("other"))
    assert bench.receive_all(bubble_up(observe=2, mid=2)) == []
    bench.registry.set_device(MAC, enabled=False)
    third = bubble_up(observe=3, mid=3)
    assert bench.receive_all(third) == [third]
    bench.commit()
    assert [stored.tenant.value for stored in bench.stored()] == ["acme", "other"]
    assert bench.statistics.by_reason(Event.REFUSED) == {"disabled-device": 1}


def test_a_device_heard_elsewhere_after_it_registered_there_is_seen_there(bench: Bench, bubble_up: Make) -> None:
    elsewhere = Address("fd00::2", 4849)
    path = [(options.URI_PATH, b"register"), (options.URI_PATH, MAC.value.encode())]
    bench.receive_all(bubble_up(observe=1, mid=1))
    bench.receive(Message(CON, codes.POST, 2, b"", tuple(path)), elsewhere)
    assert bench.registry.sighting(MAC).address == elsewhere  # type: ignore[union-attr]
    bench.receive_all(bubble_up(observe=2, mid=3))
    assert bench.registry.sighting(MAC).address == NIC  # type: ignore[union-attr]
