"""A Link drives its station by the contract, survives every loss of its port, and leaks nothing."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from descriptors import open_descriptors, opened_since
from patience import PATIENCE_S

from meshwire import link as link_module
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown, LinkUp
from meshwire.hdlc.parameters import LinkParameters
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.secondary import SecondaryStation
from meshwire.link import Link, LinkState
from meshwire.pipe import MemoryPipe, Pipe, memory_pair, open_pty


class FakeStation:
    """Sends every SDU as a line of text, and tells each line that comes; writes down how it is driven."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: deque[Event] = deque()
        self.deadline: float | None = None
        self.lost_with: tuple[int, ...] = ()
        self._out = b""
        self._handle = 0

    def receive_data(self, data: bytes, now: float) -> None:
        self.calls.append("receive_data")
        self.events.extend(DataReceived(line) for line in data.splitlines())

    def data_to_send(self, now: float) -> bytes:
        out, self._out = self._out, b""
        return out

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timer(self, now: float) -> None:
        assert self.deadline is not None and now >= self.deadline
        self.calls.append("handle_timer")
        self.deadline = None
        self._out += b"tick\n"

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def send(self, sdu: bytes, now: float) -> int:
        self._handle += 1
        self._out += sdu + b"\n"
        return self._handle

    def pipe_lost(self, now: float) -> None:
        self.calls.append("pipe_lost")
        self._out = b""
        self.events.append(LinkDown(DownReason.PIPE_LOST, unsent=(self._handle,)))


class FakePrimary(FakeStation):
    def connect(self, now: float) -> None:
        self.calls.append("connect")

    def disconnect(self, now: float) -> None:
        self.calls.append("disconnect")

    def poll(self, now: float) -> None:
        self.calls.append("poll")
        self._out += b"poll\n"


class Ports:
    """Hands out memory pipes and keeps their far ends; fails as often as asked."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.far: asyncio.Queue[MemoryPipe] = asyncio.Queue()

    async def open(self) -> Pipe:
        if self.failures:
            self.failures -= 1
            raise OSError("no such port")
        near, far = memory_pair("port")
        self.far.put_nowait(far)
        return near


@asynccontextmanager
async def running(*links: Link) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(link.run()) for link in links]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - anything may change it
            await asyncio.sleep(0.001)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts are written down instead of waited for."""
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(delay: float) -> None:
        pauses.append(delay)
        await real_sleep(0)

    monkeypatch.setattr(link_module.asyncio, "sleep", sleep)
    return pauses


class TestDriver:
    async def test_octets_events_and_sdus_go_where_they_belong(self) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        heard: list[Event] = []
        link.subscribe(heard.append)
        async with running(link):
            far = await ports.far.get()
            assert link.send(b"hello") == 1
            assert link.send(b"again") == 2
            assert await far.read() == b"hello\nagain\n"
            far.write(b"one\ntwo\n")
            await until(lambda: len(heard) == 2)
        assert heard[:2] == [DataReceived(b"one"), DataReceived(b"two")]

    async def test_a_sender_has_its_handle_before_it_hears_of_it(self) -> None:
        async def never() -> Pipe:
            raise OSError("gone")

        link = Link(never, FakeStation(), name="board")
        heard: list[Event] = []
        link.subscribe(heard.append)
        async with running(link):
            await until(lambda: link.status.counters.open_failures > 0)
            handle = link.send(b"into nothing")
            assert heard == []
            await asyncio.sleep(0)
            assert heard == [LinkDown(DownReason.PIPE_LOST, unsent=(handle,))]
            assert link.status.state is LinkState.OPENING

    async def test_what_is_sent_before_the_port_is_open_waits_for_it(self) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        async with running(link):
            link.send(b"early")
            far = await ports.far.get()
            assert await far.read() == b"early\n"

    async def test_one_timer_follows_the_deadline(self) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        async with running(link):
            far = await ports.far.get()
            now = asyncio.get_running_loop().time()
            station.deadline = now + 60
            link.send(b"x")
            await far.read()
            station.deadline = now + 0.02
            link.send(b"x")
            await far.read()
            assert await asyncio.wait_for(far.read(), PATIENCE_S) == b"tick\n"
            assert asyncio.get_running_loop().time() >= now + 0.02
            assert station.calls.count("handle_timer") == 1

    async def test_a_listener_that_fails_harms_nobody(self) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        heard: list[Event] = []

        def fail(_event: Event) -> None:
            raise ZeroDivisionError

        link.subscribe(fail)
        unsubscribe = link.subscribe(heard.append)
        async with running(link):
            far = await ports.far.get()
            far.write(b"one\n")
            await until(lambda: len(heard) == 1)
            unsubscribe()
            far.write(b"two\n")
            await until(lambda: link.status.counters.sdus_in == 2)
        assert heard == [DataReceived(b"one")]

    async def test_a_station_that_fails_costs_the_pipe_not_the_link(self, quick_retries: list[float]) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        real = station.receive_data
        station.receive_data = lambda data, now: 1 / 0  # type: ignore[method-assign,assignment]
        async with running(link):
            (await ports.far.get()).write(b"poison\n")
            far = await ports.far.get()
            station.receive_data = real  # type: ignore[method-assign]
            far.write(b"fine\n")
            await until(lambda: link.status.counters.sdus_in == 1)


class TestAttention:
    async def test_a_pulse_makes_a_primary_poll(self) -> None:
        ports, station = Ports(), FakePrimary()
        link = Link(ports.open, station, name="board")
        async with running(link):
            far = await ports.far.get()
            far.pulse_attention()
            assert await far.read() == b"poll\n"
            assert link.status.counters.attentions == 1

    async def test_a_secondary_may_not_poll_but_may_pulse_when_it_sends(self) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="nic", attention_on_send=True)
        pulses: list[None] = []
        async with running(link):
            far = await ports.far.get()
            far.on_attention = lambda: pulses.append(None)
            link.poll()
            link.connect()
            link.disconnect()
            link.send(b"ready")
            await far.read()
            await until(lambda: len(pulses) == 1)
        assert "poll" not in station.calls

    async def test_a_primary_is_told_to_connect_each_time_the_port_opens(self, quick_retries: list[float]) -> None:
        ports, station = Ports(), FakePrimary()
        link = Link(ports.open, station, name="board")
        async with running(link):
            for _ in range(3):
                await (await ports.far.get()).aclose()
            await ports.far.get()
            await until(lambda: station.calls.count("connect") == 4)


class TestReplug:
    async def test_pauses_double_up_to_five_seconds(self, quick_retries: list[float]) -> None:
        ports, station = Ports(failures=8), FakeStation()
        link = Link(ports.open, station, name="board")
        async with running(link):
            await ports.far.get()
        assert quick_retries[:8] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])

    async def test_a_port_that_hangs_up_at_once_is_not_hammered(self, quick_retries: list[float]) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        async with running(link):
            for _ in range(4):
                await (await ports.far.get()).aclose()
            await ports.far.get()
        assert quick_retries[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])

    async def test_a_port_that_had_stood_is_tried_again_soon(
        self, quick_retries: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link_module, "STEADY_S", 0.0)
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        async with running(link):
            for _ in range(4):
                await (await ports.far.get()).aclose()
            await ports.far.get()
        assert quick_retries[:4] == pytest.approx([0.2] * 4)

    async def test_a_loss_is_told_and_the_state_is_visible(self, quick_retries: list[float]) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        heard: list[Event] = []
        link.subscribe(heard.append)
        assert link.status.state is LinkState.CLOSED
        async with running(link):
            far = await ports.far.get()
            await until(lambda: link.status.state is LinkState.CONNECTING)
            station.events.append(LinkUp(LinkParameters()))
            far.write(b"x\n")
            await until(lambda: link.status.state is LinkState.UP)
            link.send(b"lost")
            await far.aclose()
            await ports.far.get()
            await until(lambda: link.status.state is LinkState.CONNECTING)
            assert heard[-1] == LinkDown(DownReason.PIPE_LOST, unsent=(1,))
            assert "hung up" in link.status.last_error
            assert link.status.counters.pipe_losses == 1
        assert link.status.state is LinkState.CLOSED

    @pytest.mark.parametrize(
        ("reason", "state"), [(DownReason.RELEASED, LinkState.IDLE), (DownReason.NO_ANSWER, LinkState.DOWN)]
    )
    async def test_an_orderly_end_is_idle_any_other_is_down(self, reason: DownReason, state: LinkState) -> None:
        ports, station = Ports(), FakeStation()
        link = Link(ports.open, station, name="board")
        async with running(link):
            far = await ports.far.get()
            station.events.append(LinkDown(reason))
            far.write(b"x\n")
            await until(lambda: link.status.state is state)

    async def test_two_hundred_cycles_leak_no_descriptor_and_no_task(self, quick_retries: list[float]) -> None:
        async def open_board() -> Pipe:
            pipe = open_pty()
            asyncio.get_running_loop().call_soon(pipe._hang_up)
            return pipe

        link = Link(open_board, FakeStation(), name="board")
        tasks, before = asyncio.all_tasks(), open_descriptors()
        async with running(link):
            await until(lambda: link.status.counters.pipe_losses >= 200)
            assert len(opened_since(before)) <= 2
        assert opened_since(before) == {}
        assert asyncio.all_tasks() <= tasks


def joined(primary: PrimaryStation, secondary: SecondaryStation) -> tuple[Link, Link]:
    """A NIC's and a board's link over a memory pipe."""
    near, far = memory_pair()

    def once(pipe: Pipe) -> Callable[[], Awaitable[Pipe]]:
        async def open_pipe() -> Pipe:
            return pipe

        return open_pipe

    return Link(once(near), primary, name="board"), Link(once(far), secondary, name="nic", attention_on_send=True)


class TestWithRealStations:
    async def test_sdus_both_ways(self) -> None:
        nic, board = joined(PrimaryStation(), SecondaryStation())
        at_nic: list[bytes] = []
        at_board: list[bytes] = []
        nic.subscribe(lambda event: at_nic.append(event.sdu) if isinstance(event, DataReceived) else None)
        board.subscribe(lambda event: at_board.append(event.sdu) if isinstance(event, DataReceived) else None)
        async with running(nic, board):
            await until(lambda: nic.status.state is LinkState.UP and board.status.state is LinkState.UP)
            for number in range(50):
                nic.send(b"down %d" % number)
                board.send(b"up %d" % number)
            await until(lambda: len(at_nic) == len(at_board) == 50)
        assert at_nic == [b"up %d" % number for number in range(50)]
        assert at_board == [b"down %d" % number for number in range(50)]

    @pytest.mark.parametrize("station", [PrimaryStation, SecondaryStation])
    async def test_a_megabyte_of_noise_does_no_harm(
        self, station: Callable[[], PrimaryStation | SecondaryStation]
    ) -> None:
        ports = Ports()
        driven = station()
        link = Link(ports.open, driven, name="noisy")
        events = 0

        def count(_event: Event) -> None:
            nonlocal events
            events += 1

        link.subscribe(count)
        noise = random.Random(2026)
        async with running(link):
            far = await ports.far.get()
            sent = 0
            while sent < 1_000_000:
                far.write(noise.randbytes(8192))
                sent += 8192
                await far.drain()
                await asyncio.sleep(0)
            await until(lambda: link.status.counters.octets_in == sent)
            assert link.status.counters.pipe_losses == 0
            assert driven._deframer.held_octets < 4096
            assert sum(driven.counters.discarded.values()) > 0
        assert events <= sent
