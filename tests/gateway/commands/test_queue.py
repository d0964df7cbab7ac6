"""Who gets which command when: order, expiry, replacing, cancelling, moving, devices that go and come. Pure."""

from __future__ import annotations

import math
from typing import Any

import pytest
from command_parts import MAC, T0, command, request
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.commands.errors import NoSuchCommand, NotWaiting, QueueFull
from gateway.commands.queue import CommandQueue, Limits
from gateway.commands.records import FINAL_STATES, Change, Command, Mode, State, bare
from meshwire.coap import codes
from meshwire.identity import DeviceId

SECOND_MAC = DeviceId("001350050047dc9b")


def filled(*commands: Command, **options: Any) -> CommandQueue:
    queue = CommandQueue()
    for each in commands:
        queue.add(each, T0, is_present=True, **options)
    return queue


def kinds(changes: list[Change]) -> list[tuple[str, State]]:
    return [(change.command.key.id, change.event.kind) for change in changes if change.event is not None]


def ids(queue: CommandQueue, mac: DeviceId = MAC) -> list[str]:
    return [each.key.id for each in queue.waiting(mac)]


def begin(queue: CommandQueue, one: Command, now_s: float = T0) -> Change | None:
    return queue.begin(one.key, now_s)


# --- intake


def test_a_stored_command_is_accepted_and_queued() -> None:
    queue = CommandQueue()
    changes = queue.add(command("a"), T0, is_present=False)
    assert kinds(changes) == [("a", State.ACCEPTED), ("a", State.QUEUED)]
    assert [change.event.number for change in changes if change.event] == [1, 2]
    assert queue.add(command("b"), T0, is_present=False)[1].event.position == 1  # type: ignore[union-attr]


def test_a_direct_command_for_an_absent_device_fails_at_once() -> None:
    queue = CommandQueue()
    changes = queue.add(command("a", mode=Mode.DIRECT), T0, is_present=False)
    assert kinds(changes) == [("a", State.FAILED)]
    assert changes[0].event is not None and changes[0].event.hop == "gateway"
    assert len(queue) == 0 and queue.due(T0) == []


def test_a_direct_command_for_a_device_that_rests_fails_at_once() -> None:
    queue = filled(command("a"))
    queue.away(MAC, T0, T0 + 30, hop="nic", reason="link is down")
    assert kinds(queue.add(command("b", mode=Mode.DIRECT), T0, is_present=True)) == [("b", State.FAILED)]
    assert kinds(queue.add(command("c", mode=Mode.DIRECT), T0 + 31, is_present=True))[0] == ("c", State.ACCEPTED)


def test_direct_commands_do_not_wait_for_a_device_that_turns_out_to_be_away() -> None:
    queue = filled(command("a"), command("b", mode=Mode.DIRECT), command("c"))
    assert kinds(queue.away(MAC, T0, math.inf, hop="mesh", reason="silent")) == [("b", State.FAILED)]
    assert ids(queue) == ["a", "c"]


def test_there_is_room_for_so_many() -> None:
    queue = CommandQueue(Limits(max_waiting=3, max_waiting_per_device=2))
    queue.add(command("a"), T0, is_present=True)
    queue.add(command("b"), T0, is_present=True)
    with pytest.raises(QueueFull, match="2 for"):
        queue.add(command("c"), T0, is_present=True)
    queue.add(command("d", mac=SECOND_MAC), T0, is_present=True)
    with pytest.raises(QueueFull, match="3 for all"):
        queue.add(command("e", mac=SECOND_MAC), T0, is_present=True)
    # One that takes the place of another needs no room.
    assert len(queue.add(command("f"), T0, is_present=True, replace_older=True)) == 4
    assert ids(queue) == ["f"]


def test_replacing_counts_method_and_path_but_not_the_query() -> None:
    same = request(query="cfg=F")
    others = [request(code=codes.POST), request("snsr/other"), bare(codes.PUT, (), b"")]
    queue = filled(command("a"), *(command(f"o{n}", request=each) for n, each in enumerate(others)))
    changes = queue.add(command("new", request=same), T0, is_present=True, replace_older=True)
    assert kinds(changes) == [("new", State.ACCEPTED), ("new", State.QUEUED), ("a", State.CANCELLED)]
    assert changes[2].event is not None and changes[2].event.reason == "replaced by new"
    assert ids(queue) == ["o0", "o1", "o2", "new"]


def test_a_command_under_way_is_not_replaced() -> None:
    first = command("a")
    queue = filled(first)
    assert begin(queue, first) is not None
    queue.add(command("b"), T0, is_present=True, replace_older=True)
    assert queue.under_way(MAC) is not None and ids(queue) == ["b"]


def test_undoing_brings_back_what_was_replaced() -> None:
    queue = filled(command("a"), command("b", request=request("snsr/other")))
    before = queue.waiting(MAC)
    queue.undo(queue.add(command("c"), T0, is_present=True, replace_older=True))
    assert queue.waiting(MAC) == before


# --- order


def test_one_at_a_time_and_in_order() -> None:
    first, second = command("a"), command("b")
    queue = filled(first, second)
    assert queue.due(T0) == [MAC] and queue.head(MAC, T0) == queue.get(first.key)
    assert begin(queue, first) is not None
    assert queue.due(T0) == []
    assert begin(queue, second) is None
    queue.answered(first.key, T0, bare(codes.CHANGED, (), b""))
    assert queue.due(T0) == [MAC] and begin(queue, second) is not None


def test_moving() -> None:
    queue = filled(*(command(each) for each in "abcd"))
    by_id = {each.key.id: each for each in queue.waiting(MAC)}
    for id, position, order in [("d", 0, "dabc"), ("d", 9, "abcd"), ("a", 2, "bcad"), ("c", 1, "bcad")]:
        assert queue.move(by_id[id].key, position)
        assert "".join(ids(queue)) == order


def test_moving_to_the_same_narrow_place_again_and_again() -> None:
    queue = filled(*(command(each) for each in "abc"))
    keys = {each.key.id: each.key for each in queue.waiting(MAC)}
    for turn in range(200):
        queue.move(keys["ab"[turn % 2]], 1)
        assert sorted(ids(queue)) == ["a", "b", "c"] and ids(queue)[1] == "ab"[turn % 2]


def test_what_was_sent_can_be_neither_cancelled_nor_moved() -> None:
    first = command("a")
    queue = filled(first)
    begin(queue, first)
    for change in (lambda: queue.cancel(first.key, T0, "no"), lambda: queue.move(first.key, 0)):
        with pytest.raises(NotWaiting, match="sent"):
            change()
    queue.lost(first.key, T0, hop="mesh", reason="silent")
    with pytest.raises(NoSuchCommand):
        queue.cancel(first.key, T0, "no")


# --- time


def test_an_expired_command_never_begins_and_blocks_nobody() -> None:
    first, second = command("a", ttl_s=10), command("b", ttl_s=100)
    queue = filled(first, second)
    assert queue.head(MAC, T0 + 10) == queue.get(second.key)
    assert begin(queue, first, T0 + 10) is None
    assert kinds(queue.expire(T0 + 10)) == [("a", State.EXPIRED)]
    assert ids(queue) == ["b"] and begin(queue, second, T0 + 10) is not None


def test_what_is_under_way_does_not_expire_by_itself() -> None:
    first = command("a", ttl_s=10)
    queue = filled(first)
    begin(queue, first, T0 + 9)
    assert queue.expire(T0 + 20) == []
    assert kinds(queue.put_back(first.key, T0 + 21, hop="nic", reason="5.03")) == [
        ("a", State.QUEUED),
        ("a", State.EXPIRED),
    ]


def test_the_next_deadline() -> None:
    queue = CommandQueue()
    assert queue.next_deadline() is None
    queue.add(command("a", ttl_s=50), T0, is_present=True)
    queue.away(MAC, T0, T0 + 20, hop="nic", reason="busy")
    assert queue.next_deadline() == T0 + 20
    queue.away(MAC, T0, math.inf, hop="nic", reason="gone")
    assert queue.next_deadline() == T0 + 50


# --- devices that go and come


def test_a_device_that_is_away_is_tried_when_it_is_time_or_when_it_returns() -> None:
    queue = filled(command("a"))
    queue.away(MAC, T0, T0 + 30, hop="mesh", reason="silent", until_heard=True)
    assert queue.due(T0 + 29) == [] and queue.due(T0 + 30) == [MAC]
    assert queue.away_devices() == [(MAC, T0)]
    queue.returned(MAC)
    assert queue.due(T0) == [MAC] and queue.away_devices() == []


def test_a_device_that_asked_for_time_is_not_looked_for() -> None:
    queue = filled(command("a"))
    queue.away(MAC, T0, T0 + 30, hop="nic", reason="5.03")
    assert queue.away_devices() == []


# --- restarts


def test_after_a_restart_what_was_sent_is_not_sent_again_unless_it_may_be() -> None:
    left = [
        command("sent", state=State.SENT, events=3, attempts=1),
        command("delivered", state=State.DELIVERED, events=4, attempts=1),
        command("harmless", state=State.SENT, events=3, attempts=1, request=request(code=codes.GET)),
        command("declared", state=State.SENT, events=3, attempts=1, idempotent=True),
        command("direct", mode=Mode.DIRECT, state=State.QUEUED, events=2),
        command("waits", state=State.QUEUED, events=2),
        command("late", state=State.QUEUED, events=2, ttl_s=1),
        command("torn", state=State.ACCEPTED, events=1),
    ]
    queue = CommandQueue()
    assert dict(kinds(queue.restore(left, T0 + 5))) == {
        "sent": State.UNKNOWN,
        "delivered": State.UNKNOWN,
        "harmless": State.QUEUED,
        "declared": State.QUEUED,
        "direct": State.FAILED,
        "late": State.EXPIRED,
        "torn": State.QUEUED,
    }
    assert ids(queue) == ["harmless", "declared", "waits", "torn"]
    assert queue.next_rank() > max(each.rank for each in left)


# --- everything together

MACS = [DeviceId(f"00135005004700{n:02x}") for n in range(3)]


class AnyOrderOfThings(RuleBasedStateMachine):
    """Whatever happens in whatever order: the laws hold, and what ended stays ended."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = CommandQueue()
        self.now_s = T0
        self.count = 0
        self.known: dict[str, Command] = {}
        self.sent: dict[str, int] = {}

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            before, after = self.known.get(change.command.key.id), change.command
            if before is not None:
                assert before.state not in FINAL_STATES
                assert after.events == before.events + (change.event is not None)
            if after.state is State.SENT and change.event is not None:
                assert self.now_s < after.expires_s
                self.sent[after.key.id] = self.sent.get(after.key.id, 0) + 1
                assert self.sent[after.key.id] == after.attempts
            self.known[after.key.id] = after

    @rule(mac=st.sampled_from(MACS), ttl=st.integers(1, 20), direct=st.booleans(), older=st.booleans(), p=st.booleans())
    def add(self, mac: DeviceId, ttl: int, direct: bool, older: bool, p: bool) -> None:
        self.count += 1
        mode = Mode.DIRECT if direct else Mode.STORED
        new = command(f"c{self.count}", ttl, self.now_s, mac, mode=mode, rank=self.queue.next_rank())
        self.take(self.queue.add(new, self.now_s, is_present=p, replace_older=older))

    @rule(seconds=st.integers(0, 15))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds
        self.take(self.queue.expire(self.now_s))

    @rule(mac=st.sampled_from(MACS))
    def begin(self, mac: DeviceId) -> None:
        if mac in self.queue.due(self.now_s) and (head := self.queue.head(mac, self.now_s)) is not None:
            change = self.queue.begin(head.key, self.now_s)
            assert change is not None
            self.take([change])

    @rule(mac=st.sampled_from(MACS), how=st.sampled_from(["answered", "refused", "lost", "put_back", "acknowledged"]))
    def outcome(self, mac: DeviceId, how: str) -> None:
        if (one := self.queue.under_way(mac)) is not None:
            arguments = {"hop": "nic", "reason": "so"}
            match how:
                case "answered":
                    self.take(self.queue.answered(one.key, self.now_s, bare(codes.CHANGED, (), b"")))
                case "acknowledged":
                    self.take(self.queue.acknowledged(one.key, self.now_s))
                case _:
                    self.take(getattr(self.queue, how)(one.key, self.now_s, **arguments))

    @rule(mac=st.sampled_from(MACS), pause=st.sampled_from([5.0, math.inf]), heard=st.booleans())
    def away(self, mac: DeviceId, pause: float, heard: bool) -> None:
        self.take(self.queue.away(mac, self.now_s, self.now_s + pause, hop="mesh", reason="silent", until_heard=heard))

    @rule(mac=st.sampled_from(MACS))
    def returned(self, mac: DeviceId) -> None:
        self.queue.returned(mac)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), position=st.integers(-1, 5), cancel=st.booleans())
    def change(self, data: st.DataObject, position: int, cancel: bool) -> None:
        one = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        try:
            self.take(self.queue.cancel(one.key, self.now_s, "so") if cancel else self.queue.move(one.key, position))
        except (NoSuchCommand, NotWaiting):
            assert one.state is not State.QUEUED

    @rule()
    def restart(self) -> None:
        self.queue = CommandQueue()
        self.take(self.queue.restore([each for each in self.known.values() if not each.is_final], self.now_s))

    @invariant()
    def what_has_not_ended_is_in_the_queue(self) -> None:
        open_ones = {id for id, each in self.known.items() if not each.is_final}
        assert len(self.queue) == len(open_ones)
        for id in open_ones:
            assert self.queue.get(self.known[id].key) == self.known[id]

    @invariant()
    def who_is_due_is_found(self) -> None:
        found = self.queue.due(self.now_s)
        lines = self.queue._lines
        assert sorted(found) == sorted(
            mac
            for mac, line in lines.items()
            if line.waiting and line.under_way is None and line.ready_at_s <= self.now_s
        )
        assert [mac for mac in MACS if self.queue.is_due(mac, self.now_s)] == sorted(found)
        times = [each.ready_at_s for each in lines.values() if each.ready_at_s and not math.isinf(each.ready_at_s)]
        deadline_s = self.queue.next_deadline()
        for mac, line in lines.items():
            if line.under_way is None and line.ready_at_s in times:
                assert deadline_s is not None and deadline_s <= line.ready_at_s, mac

    @invariant()
    def waiting_is_in_the_order_of_ranks(self) -> None:
        for mac in MACS:
            ranks = [each.rank for each in self.queue.waiting(mac)]
            assert ranks == sorted(ranks)


TestAnyOrderOfThings = AnyOrderOfThings.TestCase
TestAnyOrderOfThings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
