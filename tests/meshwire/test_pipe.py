"""Pipes carry octets in order, tell a hang-up, and behave as badly as they are asked to, not worse."""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path
from typing import Any

import pytest
from descriptors import open_descriptors, opened_since
from jumping_loop import JumpingLoop
from patience import PATIENCE_S

from meshwire.pipe import DescriptorPipe, FaultPlan, FaultyPipe, Pipe, RateLimitedPipe, memory_pair, open_pty, open_tcp
from meshwire.pipe.faults import FaultyLine
from meshwire.pipe.line_rate import LineRate


async def read_exactly(pipe: Pipe, count: int, *, timeout_s: float = PATIENCE_S) -> bytes:
    data = b""
    async with asyncio.timeout(timeout_s):
        while len(data) < count:
            chunk = await pipe.read()
            assert chunk, "hung up"
            data += chunk
    return data


async def read_slowly(terminal: int, count: int) -> bytes:
    """From a descriptor that does not block; the system hands octets on when it comes to that."""
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count:
            await asyncio.sleep(0)
            try:
                data += os.read(terminal, 4096)
            except BlockingIOError:
                await asyncio.sleep(0.001)
    return data


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestMemoryPair:
    async def test_octets_cross_over_in_order(self) -> None:
        a, b = memory_pair()
        a.write(b"one")
        a.write(b"two")
        b.write(b"back")
        assert await b.read() == b"onetwo"
        assert await a.read() == b"back"

    async def test_closing_one_end_hangs_up_both_and_what_is_there_is_still_read(self) -> None:
        a, b = memory_pair()
        a.write(b"last words")
        await a.aclose()
        assert await b.read() == b"last words"
        assert await b.read() == b""
        assert await a.read() == b""
        b.write(b"into nothing")

    async def test_a_pulse_is_felt_at_the_other_end_only(self) -> None:
        a, b = memory_pair()
        felt: list[str] = []
        a.on_attention = lambda: felt.append("a")
        b.on_attention = lambda: felt.append("b")
        b.pulse_attention()
        await asyncio.sleep(0)
        assert felt == ["a"]

    async def test_drain_waits_for_a_reader_that_is_far_behind(self) -> None:
        a, b = memory_pair()
        a.write(bytes(100_000))
        waiting = asyncio.create_task(a.drain())
        await asyncio.sleep(0)
        assert not waiting.done()
        await b.read()
        await asyncio.wait_for(waiting, PATIENCE_S)

    async def test_two_readers_are_a_mistake(self) -> None:
        a, _b = memory_pair()
        first = asyncio.create_task(a.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await a.read()
        first.cancel()


class TestPty:
    async def test_every_octet_value_gets_through_both_ways(self) -> None:
        pipe = open_pty()
        slave = os.open(pipe.peer_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        every = bytes(range(256))
        pipe.write(every)
        assert await read_slowly(slave, 256) == every
        os.write(slave, every)
        assert await read_exactly(pipe, 256) == every
        os.close(slave)
        await pipe.aclose()

    async def test_it_survives_the_other_side_closing_and_opening_again(self) -> None:
        pipe = open_pty()
        for turn in range(5):
            slave = os.open(pipe.peer_path, os.O_RDWR | os.O_NOCTTY)
            os.write(slave, b"turn %d" % turn)
            assert await read_exactly(pipe, 6) == b"turn %d" % turn
            os.close(slave)
        reading = asyncio.create_task(pipe.read())
        await asyncio.sleep(0.02)
        assert not reading.done()
        reading.cancel()
        await pipe.aclose()

    async def test_more_than_the_kernel_buffers_gets_through_when_read_slowly(self) -> None:
        pipe = open_pty()
        slave = os.open(pipe.peer_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        sent = os.urandom(40_000)
        pipe.write(sent)
        assert await read_slowly(slave, len(sent)) == sent
        os.close(slave)
        await pipe.aclose()

    async def test_octets_that_nobody_reads_are_lost_and_counted_not_hoarded(self) -> None:
        pipe = open_pty()
        for _ in range(10):
            pipe.write(bytes(100_000))
        assert pipe.octets_dropped > 600_000
        await pipe.aclose()

    async def test_the_link_is_there_while_it_is_open_and_replaces_an_old_one(self, tmp_path: Path) -> None:
        link = tmp_path / "board"
        link.symlink_to("/nowhere")
        pipe = open_pty(str(link))
        assert str(link.readlink()) == pipe.peer_path
        await pipe.aclose()
        assert not link.is_symlink()
        assert names_in(tmp_path) == []

    async def test_a_link_that_another_board_has_taken_over_is_left_alone(self, tmp_path: Path) -> None:
        link = tmp_path / "board"
        first, second = open_pty(str(link)), open_pty(str(link))
        await first.aclose()
        assert str(link.readlink()) == second.peer_path
        await second.aclose()

    async def test_a_file_in_the_way_of_the_link_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("data")
        before = open_descriptors()
        with pytest.raises(FileExistsError):
            open_pty(str(tmp_path / "precious"))
        assert opened_since(before) == {}

    async def test_the_other_side_is_raw(self) -> None:
        pipe = open_pty()
        slave = os.open(pipe.peer_path, os.O_RDWR | os.O_NOCTTY)
        attributes = tty.tcgetattr(slave)
        assert not attributes[tty.LFLAG] & (tty.ECHO | tty.ICANON | tty.ISIG)
        assert not attributes[tty.IFLAG] & (tty.ICRNL | tty.IXON)
        os.close(slave)
        await pipe.aclose()


class TestDescriptor:
    async def test_an_error_of_the_device_is_a_hang_up(self) -> None:
        master, slave = os.openpty()
        closed: list[None] = []
        pipe = DescriptorPipe(master, "bare master", lambda: closed.append(os.close(master)))
        os.close(slave)  # a bare master now answers EIO
        assert await asyncio.wait_for(pipe.read(), PATIENCE_S) == b""
        await pipe.aclose()
        await pipe.aclose()
        assert len(closed) == 1


class TestTcp:
    async def test_octets_both_ways_and_the_hang_up(self) -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readexactly(4)).upper())
            writer.close()

        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        pipe = await open_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        pipe.write(b"abcd")
        await pipe.drain()
        assert await read_exactly(pipe, 4) == b"ABCD"
        assert await pipe.read() == b""
        pipe.write(b"late")
        await pipe.aclose()
        server.close()

    async def test_nobody_there(self) -> None:
        with pytest.raises(OSError):
            await open_tcp("127.0.0.1", 1)


class TestLineRate:
    """The schedule by itself: no loop, no clock."""

    def test_an_octet_arrives_when_its_stop_bit_has(self) -> None:
        line = LineRate(9600)
        line.add(b"ab", 0.0)
        assert line.due(10 / 9600 - 1e-5) == b""
        assert line.due(10 / 9600) == b"a"
        assert line.due(20 / 9600) == b"b"
        assert line.next_at() is None

    def test_a_late_look_gets_everything_and_does_not_shift_the_rest(self) -> None:
        line = LineRate(115_200)
        line.add(bytes(11_520), 0.0)
        assert len(line.due(0.25)) == 2880
        assert len(line.due(0.2503)) == 3
        assert len(line.due(1.0)) == 11_520 - 2883

    def test_idle_time_is_not_saved_up(self) -> None:
        line = LineRate(1000)
        line.add(b"x", 0.0)
        assert line.due(10.0) == b"x"
        line.add(bytes(100), 10.0)
        assert len(line.due(10.5)) == 50

    def test_many_small_writes_take_as_long_as_one_big_one(self) -> None:
        line = LineRate(38_400)
        for _ in range(384):
            line.add(bytes(10), 0.0)
        assert len(line.due(0.5)) == 1920
        assert len(line.due(1.0)) == 1920

    @pytest.mark.parametrize("baud", [300, 9600, 38_400, 115_200, 921_600])
    def test_the_last_octet_is_looked_at_on_time(self, baud: int) -> None:
        line = LineRate(baud)
        line.add(bytes(211), 5.0)
        looks = 0
        while (at := line.next_at()) is not None:
            last = at
            line.due(at)
            looks += 1
        assert last == pytest.approx(5.0 + 2110 / baud)
        assert looks <= 212

    def test_no_line_without_a_rate(self) -> None:
        with pytest.raises(ValueError, match="above 0"):
            LineRate(0)


class TestRateLimitedPipe:
    @pytest.mark.parametrize("direction", ["outgoing", "incoming"])
    def test_the_rate_is_kept_by_the_clock_of_the_loop(self, direction: str) -> None:
        async def took_s() -> float:
            a, b = memory_pair()
            limited = RateLimitedPipe(a, 921_600)
            sender, receiver = (limited, b) if direction == "outgoing" else (b, limited)
            loop = asyncio.get_running_loop()
            begin = loop.time()
            for _ in range(92):
                sender.write(bytes(100))
            await read_exactly(receiver, 9200)
            await limited.aclose()
            return loop.time() - begin

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            assert 0.0998 <= runner.run(took_s()) < 0.101

    async def test_what_is_on_the_way_arrives_after_a_hang_up(self) -> None:
        a, b = memory_pair()
        limited = RateLimitedPipe(a, 115_200)
        reading = asyncio.create_task(read_exactly(limited, 500))
        await asyncio.sleep(0)
        b.write(bytes(500))
        await asyncio.sleep(0)
        await b.aclose()
        assert len(await reading) == 500
        assert await limited.read() == b""
        await limited.aclose()

    async def test_the_wake_line_passes_through(self) -> None:
        a, b = memory_pair()
        limited = RateLimitedPipe(a, 9600)
        felt: list[str] = []
        limited.on_attention = lambda: felt.append("limited")
        b.on_attention = lambda: felt.append("b")
        b.pulse_attention()
        limited.pulse_attention()
        await asyncio.sleep(0)
        assert felt == ["limited", "b"]
        await limited.aclose()

    async def test_drain_waits_until_the_line_has_taken_it(self) -> None:
        a, _b = memory_pair()
        limited = RateLimitedPipe(a, 10_000_000)
        limited.write(bytes(80_000))
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await limited.drain()
        assert loop.time() - begin > 0.01
        await limited.aclose()

    async def test_closing_leaves_no_task(self) -> None:
        before = asyncio.all_tasks()
        a, _b = memory_pair()
        limited = RateLimitedPipe(a, 9600)
        reading = asyncio.create_task(limited.read())
        await asyncio.sleep(0)
        limited.write(b"never arrives")
        await limited.aclose()
        assert await reading == b""
        assert asyncio.all_tasks() <= before


class TestFaultyLine:
    """The bad line by itself: no loop, no clock."""

    OCTETS = 200_000

    def damage(self, plan: FaultPlan) -> tuple[FaultyLine, bytes]:
        line = FaultyLine(plan)
        got = b""
        for _ in range(self.OCTETS // 200):
            line.add(bytes(200), 0.0)
            got += line.due(1e9)
        return line, got

    def test_a_good_line_changes_nothing(self) -> None:
        line, got = self.damage(FaultPlan())
        assert got == bytes(self.OCTETS)
        assert line.counts.damaged == line.counts.dropped == line.counts.doubled == line.counts.stalls == 0

    @pytest.mark.parametrize("rate", [0.001, 0.02, 0.5])
    def test_damaged_octets_are_as_many_as_asked_and_have_one_bit_wrong(self, rate: float) -> None:
        line, got = self.damage(FaultPlan(ber=rate, seed=7))
        wrong = [octet for octet in got if octet]
        assert len(got) == self.OCTETS
        assert all(octet.bit_count() == 1 for octet in wrong)
        assert len(wrong) == line.counts.damaged
        assert len(wrong) == pytest.approx(rate * self.OCTETS, rel=0.25)
        assert len(set(wrong)) == 8

    def test_lost_and_doubled_octets_are_as_many_as_asked(self) -> None:
        line, got = self.damage(FaultPlan(drop=0.01, dup=0.02, seed=3))
        assert line.counts.dropped == pytest.approx(2000, rel=0.15)
        assert line.counts.doubled == pytest.approx(4000, rel=0.15)
        assert abs(len(got) - (self.OCTETS - line.counts.dropped + line.counts.doubled)) < 200

    def test_everything_can_be_lost(self) -> None:
        _, got = self.damage(FaultPlan(drop=1.0))
        assert got == b""

    def test_the_same_seed_gives_the_same_faults_and_another_seed_others(self) -> None:
        plan = FaultPlan(ber=0.01, drop=0.01, dup=0.01, seed=1)
        assert self.damage(plan)[1] == self.damage(plan)[1]
        assert self.damage(plan)[1] != self.damage(FaultPlan(ber=0.01, drop=0.01, dup=0.01, seed=2))[1]

    def test_how_octets_are_cut_into_writes_does_not_change_which_are_hit(self) -> None:
        octets = bytes(range(256)) * 20
        whole, single = (FaultyLine(FaultPlan(drop=0.05, seed=9)) for _ in range(2))
        whole.add(octets, 0.0)
        for octet in octets:
            single.add(bytes([octet]), 0.0)
        assert whole.due(1.0) == single.due(1.0)

    def test_a_delay_keeps_the_order_and_the_distance(self) -> None:
        line = FaultyLine(FaultPlan(delay_s=0.5))
        line.add(b"a", 0.0)
        line.add(b"b", 0.1)
        assert (line.due(0.4), line.next_at(), len(line)) == (b"", 0.5, 2)
        assert (line.due(0.5), line.next_at()) == (b"a", 0.6)
        assert line.due(0.6) == b"b"

    def test_a_stall_holds_everything_back_and_loses_nothing(self) -> None:
        line = FaultyLine(FaultPlan())
        line.add(b"before", 0.0)
        assert line.due(0.0) == b"before"
        line.stall(1.0, 2.0)
        line.add(b"after", 1.1)
        assert line.due(2.9) == b""
        assert line.due(3.0) == b"after"

    def test_stalls_come_by_themselves(self) -> None:
        line, got = self.damage(FaultPlan(stall_s=0.1, stall_rate=0.001, seed=4))
        assert line.counts.stalls == pytest.approx(200, rel=0.3)
        assert got == bytes(self.OCTETS)

    def test_the_plan_can_be_changed_on_the_way(self) -> None:
        line = FaultyLine(FaultPlan(drop=1.0))
        line.add(b"lost", 0.0)
        line.change(FaultPlan())
        line.add(b"kept", 0.0)
        assert line.due(0.0) == b"kept"

    @pytest.mark.parametrize(("cut", "gone"), [("in", {"in"}), ("out", {"out"}), ("both", {"in", "out"}), ("", set())])
    def test_a_half_open_line_loses_one_direction(self, cut: str, gone: set[str]) -> None:
        lines = {name: FaultyLine(FaultPlan(cut=cut), name) for name in ("in", "out")}
        for line in lines.values():
            line.add(b"octets", 0.0)
        assert {name for name, line in lines.items() if line.due(0.0) == b""} == gone
        assert {name for name, line in lines.items() if line.counts.dropped == 6} == gone

    @pytest.mark.parametrize(
        "wrong", [{"ber": 1.1}, {"drop": -0.1}, {"dup": float("nan")}, {"delay_s": -1.0}, {"cut": "left"}]
    )
    def test_a_plan_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            FaultPlan(**wrong)


class TestFaultyPipe:
    async def test_both_directions_are_bad_in_different_ways(self) -> None:
        a, b = memory_pair()
        faulty = FaultyPipe(a, FaultPlan(ber=0.1, seed=5))
        faulty.write(bytes(1000))
        b.write(bytes(1000))
        out, into = await read_exactly(b, 1000), await read_exactly(faulty, 1000)
        assert any(out) and any(into) and out != into
        await faulty.aclose()

    async def test_a_good_line_delivers_in_the_same_turn(self) -> None:
        a, b = memory_pair()
        faulty = FaultyPipe(a, FaultPlan())
        faulty.write(b"now")
        with pytest.raises(StopIteration) as read:  # it need not wait
            b.read().send(None)
        assert read.value.value == b"now"
        faulty.plan = FaultPlan(drop=1.0)
        faulty.write(b"never")
        b.write(b"never")
        reading = asyncio.create_task(faulty.read())
        await asyncio.sleep(0.01)
        assert not reading.done()
        await faulty.aclose()
        assert await reading == b""
