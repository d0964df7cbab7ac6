"""A light NIC and its board, driven by hand: no socket, no loop, a made-up clock."""

from __future__ import annotations

import pytest

from meshwire.capture.batch import Numbered, decode_batch
from meshwire.capture.record import Side
from meshwire.coap import ACK, CON, Message, codes, decode, encode, options
from meshwire.identity import DeviceId
from meshwire.notification import decode_reading, device_type, parse_uplink
from nic_sim.fleet.board import LightBoard
from nic_sim.fleet.nic import Fate, LightNic, NicPlan, Reading, first_gateway
from nic_sim.fleet.watched import MOST_WATCHED, WatchedNics
from nic_sim.fleet.wheel import TimerWheel
from nic_sim.fleet.wire import HdlcWire, WireKind, make_wire
from nic_sim.instruments import Instruments

MAC = DeviceId("00135005f0000001")
UNIX_S = 1_700_000_000.0
LEASE_S = 15


class FakeHost:
    """Keeps what a NIC says."""

    def __init__(self, **plan: float) -> None:
        self.plan = NicPlan(**plan)  # type: ignore[arg-type]
        self.watched = WatchedNics()
        self.sent: list[Message] = []
        self.octets: list[bytes] = []
        self.gateways: list[int] = []
        self.fates: list[Fate] = []
        self.made_count = 0

    def send_up(self, nic: LightNic, octets: bytes, gateway: int) -> None:
        self.sent.append(decode(octets))
        self.octets.append(octets)
        self.gateways.append(gateway)

    def schedule(self, nic: LightNic, at: float) -> None: ...

    def random(self) -> float:
        return 0.5

    def unix_time(self, now: float) -> float:
        return UNIX_S + now

    def instruments(self, nic: LightNic) -> Instruments:
        return Instruments("1", UNIX_S)

    def made(self, nic: LightNic, reading: Reading, now: float) -> None:
        self.made_count += 1

    def settled(self, nic: LightNic, reading: Reading, fate: Fate, now: float) -> None:
        self.fates.append(fate)

    def registered(self, nic: LightNic, now: float) -> None: ...

    def acknowledge(self, nic: LightNic, now: float, code: int = codes.CHANGED, *pairs: tuple[int, bytes]) -> None:
        request = self.sent[-1]
        nic.receive(encode(Message(ACK, code, request.mid, request.token, pairs)), "gw", now)


def make_nic(host: FakeHost, kind: WireKind = WireKind.NONE) -> LightNic:
    return LightNic(1, MAC, make_wire(kind, LightBoard(1, 1)), host, 7)


@pytest.fixture(params=list(WireKind))
def kind(request: pytest.FixtureRequest) -> WireKind:
    return WireKind(request.param)


class TestLightNic:
    def test_it_registers_and_then_reports(self, kind: WireKind) -> None:
        host = FakeHost(period_s=60)
        nic = make_nic(host, kind)
        nic.start(0.0, 10.0)
        assert host.sent[0].path() == ("register", MAC.value)
        host.acknowledge(nic, 0.1)
        assert nic.wake_at == 10.0
        nic.due(10.0)
        post = host.sent[1]
        notification = parse_uplink(post.path(), post.query(), post.uint(options.CONTENT_FORMAT), post.payload)
        assert (notification.device, notification.path, notification.epoch) == (MAC, "snsr/arduino/temp", 7)
        assert device_type(notification) == "temp"
        reading = decode_reading("temp", notification.payload)
        assert reading is not None and reading.values["epoch_s"] == UNIX_S + 10
        host.acknowledge(nic, 10.1)
        nic.due(70.0)
        assert "o=3" in host.sent[2].query(), "each report has the next Observe number"
        assert host.fates == [Fate.TAKEN]

    def test_it_repeats_the_same_octets_and_never_loses_its_place(self) -> None:
        host = FakeHost(period_s=0)
        nic = make_nic(host)
        nic.start(0.0, 0.0)
        now = 0.0
        for _ in range(4):
            now = nic.wake_at
            nic.due(now)
        assert len(set(host.octets)) == 1 and len(host.octets) == 5
        nic.due(nic.wake_at)
        nic.due(nic.wake_at)
        assert len(host.octets) == 6 and host.octets[5] != host.octets[0], "a new request after the pause"

    def test_a_full_queue_drops_its_oldest_and_says_so(self) -> None:
        host = FakeHost(period_s=0, queue_limit=2)
        nic = make_nic(host)
        nic.start(0.0, 0.0)
        for turn in range(4):
            nic.report(float(turn))
        assert host.fates == [Fate.QUEUE_FULL, Fate.QUEUE_FULL]
        assert [reading.observe for reading in nic.waiting] == [4, 5]

    def test_a_busy_gateway_is_asked_again_when_it_said(self) -> None:
        host = FakeHost(period_s=0)
        nic = make_nic(host)
        nic.start(0.0, 0.0)
        host.acknowledge(nic, 0.0)
        nic.report(1.0)
        nic.due(1.0)
        host.acknowledge(nic, 1.0, codes.SERVICE_UNAVAILABLE, (options.MAX_AGE, b"\x0a"))
        assert len(nic.waiting) == 1 and not host.fates
        assert 11.0 <= nic.wake_at <= 13.5

    def test_a_silent_gateway_is_left_for_the_next_one(self) -> None:
        host = FakeHost(period_s=0, gateways=2)
        nic = make_nic(host)
        nic.start(0.0, 0.0)
        for _ in range(7):
            nic.due(nic.wake_at)
        assert host.gateways[0] != host.gateways[-1]

    def test_requests_are_answered_by_nic_and_board_once(self, kind: WireKind) -> None:
        host = FakeHost(period_s=0)
        nic = make_nic(host, kind)
        nic.start(0.0, 0.0)

        def ask(code: int, path: str, query: str = "", mid: int = 1) -> Message:
            pairs = [(options.URI_PATH, part.encode()) for part in path.split("/")]
            pairs += [(options.URI_QUERY, query.encode())] if query else []
            octets = encode(Message(CON, code, mid, b"t", tuple(pairs)))
            first = nic.receive(octets, "client", 1.0)
            assert first is not None and nic.receive(octets, "client", 2.0) == first, (
                "a repetition gets the same octets"
            )
            return decode(first)

        assert b"percent" in ask(codes.GET, "sys/battery").payload
        assert ask(codes.GET, "snsr/arduino/temp", "sens", 2).payload.endswith(b",F")
        assert ask(codes.PUT, "snsr/arduino/temp", "cfg=C", 3).code == codes.CHANGED
        assert ask(codes.GET, "snsr/arduino/temp", "sens", 4).payload.endswith(b",C")
        assert ask(codes.GET, "nonesuch", mid=5).code == codes.NOT_FOUND
        assert ask(codes.GET, "snsr/nonesuch", mid=6).code == codes.NOT_FOUND

    def test_after_a_power_failure_it_goes_on_with_what_it_had(self, kind: WireKind) -> None:
        host = FakeHost(period_s=0)
        nic = make_nic(host, kind)
        nic.start(0.0, 0.0)
        nic.report(0.5)
        nic.stop(1.0)
        nic.restart(5.0, 5.0)
        nic.report(6.0)
        assert [reading.epoch for reading in nic.waiting] == [7, 8]

    def test_a_board_that_rebooted_without_a_word_is_observed_again_with_a_new_epoch(self, kind: WireKind) -> None:
        host = FakeHost(period_s=0)
        nic = make_nic(host, kind)
        nic.start(0.0, 0.0)
        nic.report(1.0)
        nic.wire.restart(2.0)
        nic.report(3.0)
        assert [(reading.epoch, reading.observe) for reading in nic.waiting] == [(7, 2), (8, 2)]

    def test_the_wire_carries_real_frames(self) -> None:
        wire = make_wire(WireKind.HDLC, LightBoard(1, 1))
        assert isinstance(wire, HdlcWire)
        assert wire.ask(encode(Message(CON, codes.GET, 1, b"x")), 0.0, UNIX_S) is not None
        assert wire.octets > 60

    def test_frames_are_told_while_it_is_watched_and_nothing_is_kept_else(self, kind: WireKind) -> None:
        host = FakeHost(period_s=0)
        nic = make_nic(host, kind)
        nic.start(0.0, 0.0)
        own_wire = nic.wire
        assert [each.record.note for each in read_frames(nic, 1.0)] == ["watching begins"]
        nic.report(2.0)
        records = read_frames(nic, 2.5, after=1)
        assert [each.number for each in records] == list(range(2, 2 + len(records)))
        sent = [decode(each.record.sdu) for each in records if each.record.sdu]
        assert [message.code for message in sent] == [codes.CONTENT] and {
            each.record.sender for each in records
        } == set(Side)
        assert all(each.record.at_ns == (UNIX_S + 2) * 1e9 and each.record.reason is None for each in records)
        nic.report(2.5 + LEASE_S)
        assert nic.wire is own_wire and not host.watched.count, "the lease has ended"
        nic.report(50.0)
        assert [reading.observe for reading in nic.waiting] == [2, 3, 4], "nothing is lost at a change of wires"
        (begins,) = read_frames(nic, 51.0, after=7)
        assert begins.number == 8, "numbers go on where the reader is"
        assert ask_nic(nic, codes.DELETE, "sys/link/frames", 52.0).code == codes.DELETED
        assert nic.wire is own_wire

    def test_so_many_of_a_fleet_are_watched_and_no_more(self) -> None:
        host = FakeHost(period_s=0)
        nics = [LightNic(n, MAC, make_wire(WireKind.NONE, LightBoard(1, n)), host, 7) for n in range(MOST_WATCHED + 1)]
        for nic in nics[:-1]:
            read_frames(nic, 1.0)
        assert ask_nic(nics[-1], codes.GET, "sys/link/frames", 2.0).code == codes.SERVICE_UNAVAILABLE
        assert [each.record.note for each in read_frames(nics[-1], 2.0 + LEASE_S)] == ["watching begins"]
        assert host.watched.count == 1


def ask_nic(nic: LightNic, code: int, path: str, now: float, *queries: str) -> Message:
    """The answer of a NIC's own resource."""
    pairs = [(options.URI_PATH, part.encode()) for part in path.split("/")]
    pairs += [(options.URI_QUERY, each.encode()) for each in queries]
    answer = nic.receive(encode(Message(CON, code, int(now * 10), b"t", tuple(pairs))), "client", now)
    assert answer is not None
    return decode(answer)


def read_frames(nic: LightNic, now: float, after: int = 0) -> list[Numbered]:
    """Records of a NIC's line after a number."""
    answer = ask_nic(nic, codes.GET, "sys/link/frames", now, f"after={after}", f"lease={LEASE_S}")
    assert answer.code == codes.CONTENT, answer
    return decode_batch(answer.payload)


def test_the_partition_by_mac_is_even() -> None:
    shares = [first_gateway(DeviceId(f"{0x135005F0000000 + n:016x}"), 3) for n in range(3000)]
    assert all(900 < shares.count(gateway) < 1100 for gateway in range(3))


def test_the_wheel_gives_what_is_due_in_order_and_not_too_much_at_once() -> None:
    wheel: TimerWheel[str] = TimerWheel(0.5)
    for name, at in (("c", 2.0), ("a", 0.4), ("b", 0.5), ("d", 9.0)):
        wheel.set(name, at)
    assert wheel.next_at() == 0.5
    assert wheel.due(0.4, 9) == []
    assert wheel.due(2.0, 1) == ["a"] and wheel.due(2.0, 9) == ["b", "c"]
    assert len(wheel) == 1
