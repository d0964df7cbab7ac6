"""CoAP over a Link: requests both ways, observation, blocks, and what a lost link means for each request."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import resource
from patience import PATIENCE_S

from meshwire import coap_link
from meshwire.coap_link import LinkEndpoint, LinkFailure, Outcome, create_context
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.secondary import SecondaryStation
from meshwire.link import Link, LinkState
from meshwire.pipe import MemoryPipe, Pipe, memory_pair

ROOT = Path(__file__).resolve().parents[2]
BIG = bytes(range(256)) * 16


class Reading(resource.ObservableResource):
    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def set(self, value: int) -> None:
        self.value = value
        self.updated_state()

    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(payload=b"%d" % self.value)

    async def render_put(self, request: Any) -> Any:
        self.set(int(request.payload))
        return aiocoap.Message(code=aiocoap.CHANGED)


class Big(resource.Resource):
    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(payload=BIG)


class Where(resource.Resource):
    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(payload=request.get_request_uri().encode())


class Slow(resource.Resource):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def render_get(self, request: Any) -> Any:
        self.calls += 1
        await asyncio.sleep(3600)


class SiteOverLink:
    """A board with a site, a NIC with a client, standard stations, a memory pipe that can be cut and joined again."""

    def __init__(self) -> None:
        self.reading, self.slow = Reading(), Slow()
        self.site = resource.Site()
        self.site.add_resource(["temp"], self.reading)
        self.site.add_resource(["big"], Big())
        self.site.add_resource(["where"], Where())
        self.site.add_resource(["slow"], self.slow)
        self._waiting: deque[MemoryPipe] = deque()
        self._pipes: list[MemoryPipe] = []
        self.nic = Link(self._open, PrimaryStation(), name="board")
        self.board = Link(self._open, SecondaryStation(), name="nic", attention_on_send=True)
        self.client: aiocoap.Context
        self.server: aiocoap.Context

    async def _open(self) -> Pipe:
        if not self._waiting:
            self._waiting.extend(memory_pair())
            self._pipes = list(self._waiting)
        return self._waiting.popleft()

    async def cut(self) -> None:
        for pipe in self._pipes:
            await pipe.aclose()

    async def until_up(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.nic.status.state is not LinkState.UP:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def request(self, method: aiocoap.Code, path: str, payload: bytes = b"") -> Any:
        message = aiocoap.Message(code=method, uri=f"coap://board/{path}", payload=payload)
        async with asyncio.timeout(PATIENCE_S):
            return await self.client.request(message).response


@asynccontextmanager
async def site_over_link() -> AsyncIterator[SiteOverLink]:
    rig = SiteOverLink()
    rig.server = await create_context(rig.board, rig.site)
    rig.client = await create_context(rig.nic)
    tasks = [asyncio.create_task(link.run()) for link in (rig.nic, rig.board)]
    try:
        yield rig
    finally:
        await rig.client.shutdown()
        await rig.server.shutdown()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestRequests:
    async def test_get_and_put(self) -> None:
        async with site_over_link() as rig:
            assert (await rig.request(aiocoap.PUT, "temp", b"21")).code is aiocoap.CHANGED
            answer = await rig.request(aiocoap.GET, "temp")
            assert (answer.code, answer.payload) == (aiocoap.CONTENT, b"21")

    async def test_many_at_once(self) -> None:
        async with site_over_link() as rig:
            answers = await asyncio.gather(*(rig.request(aiocoap.GET, "temp") for _ in range(30)))
            assert {answer.payload for answer in answers} == {b"0"}

    async def test_four_kibibytes_in_blocks(self) -> None:
        async with site_over_link() as rig:
            assert (await rig.request(aiocoap.GET, "big")).payload == BIG

    async def test_a_board_with_small_frames_gets_small_blocks(self) -> None:
        async with site_over_link() as rig:
            sizes: list[int] = []
            await rig.server.shutdown()
            rig.server = await create_context(rig.board, rig.site, block_size_exponent=3)
            rig.nic.subscribe(lambda event: sizes.append(len(event.sdu)) if isinstance(event, DataReceived) else None)
            assert (await rig.request(aiocoap.GET, "big")).payload == BIG
            assert max(sizes) < 160

    async def test_observation(self) -> None:
        async with site_over_link() as rig:
            request = rig.client.request(aiocoap.Message(code=aiocoap.GET, uri="coap://board/temp", observe=0))
            async with asyncio.timeout(PATIENCE_S):
                assert (await request.response).payload == b"0"
                values = aiter(request.observation)
                for value in (20, 21, 22):
                    rig.reading.set(value)
                    assert (await anext(values)).payload == b"%d" % value

    async def test_the_other_direction_too(self) -> None:
        async with site_over_link() as rig:
            rig.client.serversite = rig.site
            message = aiocoap.Message(code=aiocoap.GET, uri="coap://nic/temp")
            async with asyncio.timeout(PATIENCE_S):
                assert (await rig.server.request(message).response).payload == b"0"

    async def test_without_a_site_nothing_is_found(self) -> None:
        async with site_over_link() as rig:
            async with asyncio.timeout(PATIENCE_S):
                answer = await rig.server.request(aiocoap.Message(code=aiocoap.GET, uri="coap://nic/x")).response
            assert answer.code is aiocoap.NOT_FOUND


class TestNames:
    async def test_a_site_can_ask_for_the_uri_of_a_request(self) -> None:
        async with site_over_link() as rig:
            assert (await rig.request(aiocoap.GET, "where")).payload == b"coap://localhost/where"

    async def test_the_name_of_the_peer_stays_off_the_line(self) -> None:
        async with site_over_link() as rig:
            seen: list[bytes] = []
            rig.board.subscribe(lambda event: seen.append(event.sdu) if isinstance(event, DataReceived) else None)
            await rig.request(aiocoap.GET, "temp")
            assert seen and b"board" not in seen[0]

    async def test_another_host_is_not_ours(self) -> None:
        async with site_over_link() as rig:
            with pytest.raises(aiocoap.error.Error):
                await rig.client.request(aiocoap.Message(code=aiocoap.GET, uri="coap://elsewhere/temp")).response

    async def test_a_request_may_carry_its_remote(self) -> None:
        async with site_over_link() as rig:
            message = aiocoap.Message(code=aiocoap.GET, uri_path=["temp"])
            message.remote = LinkEndpoint("board")
            async with asyncio.timeout(PATIENCE_S):
                assert (await rig.client.request(message).response).payload == b"0"

    def test_endpoints_of_one_name_are_one_peer(self) -> None:
        assert LinkEndpoint("a", "x") == LinkEndpoint("a", "y")
        assert len({LinkEndpoint("a"), LinkEndpoint("a"), LinkEndpoint("b")}) == 2
        assert LinkEndpoint("a") != "a"


class FakeLinkStation:
    """Swallows what is sent; tells what the test wants."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.events: deque[Event] = deque()

    def receive_data(self, data: bytes, now: float) -> None: ...
    def handle_timer(self, now: float) -> None: ...
    def pipe_lost(self, now: float) -> None: ...

    def data_to_send(self, now: float) -> bytes:
        return b""

    def next_deadline(self) -> float | None:
        return None

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def send(self, sdu: bytes, now: float) -> int:
        self.sent.append(sdu)
        return len(self.sent)


class Deaf:
    """A client whose board never answers by itself."""

    def __init__(self, *, standing: bool) -> None:
        self.station = FakeLinkStation()
        self.near, self.far = memory_pair()
        self.link = Link(self._open, self.station, name="board")
        self.standing = standing
        self.context: aiocoap.Context

    async def _open(self) -> Pipe:
        return self.near

    def request(self, code: aiocoap.Code = aiocoap.GET, **options: Any) -> Any:
        return self.context.request(aiocoap.Message(code=code, uri="coap://board/temp", **options))

    async def tell(self, *events: Event) -> None:
        self.station.events.extend(events)
        self.far.write(b"!")
        for _ in range(5):
            await asyncio.sleep(0)

    async def until_sent(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.station.sent) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)


@asynccontextmanager
async def deaf(*, standing: bool) -> AsyncIterator[Deaf]:
    rig = Deaf(standing=standing)
    rig.context = await create_context(rig.link, standing=standing)
    task = asyncio.create_task(rig.link.run())
    await asyncio.sleep(0)
    try:
        yield rig
    finally:
        await rig.context.shutdown()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def failure_of(request: Any) -> LinkFailure:
    with pytest.raises(LinkFailure) as caught:
        await asyncio.wait_for(request.response, PATIENCE_S)
    return caught.value


def answer_to(sent: bytes, payload: bytes) -> DataReceived:
    request = aiocoap.Message.decode(sent)
    answer = aiocoap.Message(_mtype=aiocoap.ACK, _mid=request.mid, code=aiocoap.CONTENT, payload=payload)
    answer.token = request.token
    return DataReceived(answer.encode())


class TestStrictness:
    """The strict codec looks at each message before aiocoap, which takes some of these."""

    @pytest.mark.parametrize(
        ("told", "answered"),
        [
            ("40011234 b474656d70 ff", "70001234"),
            ("50011234 b474656d70 ff", ""),
            ("60451234 ff", ""),
            ("49011234 010203040506070809", "70001234"),
            ("40001234 ff", "70001234"),
            ("c0011234", ""),
            ("400112", ""),
            ("41011234 99 b474656d70 c1 07", "61801234 99 ff 626c6f636b2073697a65203720697320 7265736572766564"),
            ("50011234 d10a 0f", "5080 1234 ff 626c6f636b2073697a65203720697320 7265736572766564"),
        ],
        ids=[
            "marker",
            "non-marker",
            "ack-marker",
            "token",
            "ping-with-content",
            "version",
            "short",
            "block-size",
            "non-block-size",
        ],
    )
    async def test_what_is_no_message_gets_a_reset_or_nothing(self, told: str, answered: str) -> None:
        async with deaf(standing=True) as rig:
            await rig.tell(DataReceived(bytes.fromhex(told)))
            assert b"".join(rig.station.sent).hex() == answered.replace(" ", "")


class TestFailures:
    @pytest.mark.parametrize("standing", [True, False])
    async def test_each_request_learns_its_own_outcome(self, standing: bool) -> None:
        async with deaf(standing=standing) as rig:
            first = rig.request(aiocoap.PUT, payload=b"1")
            await rig.until_sent(1)
            await rig.tell(LinkDown(DownReason.NO_ANSWER, uncertain=(1,)))
            failure = await failure_of(first)
            assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, DownReason.NO_ANSWER)
            second = rig.request(aiocoap.PUT, payload=b"2")
            await rig.until_sent(2)
            await rig.tell(LinkDown(DownReason.PEER_RESET, unsent=(2,)))
            assert (await failure_of(second)).outcome is Outcome.NOT_EXECUTED
            assert str(failure) == "link board: no answer; outcome unknown"

    async def test_after_a_failure_the_next_request_goes_out_at_once(self) -> None:
        async with deaf(standing=False) as rig:
            first, second = rig.request(), rig.request()
            await rig.until_sent(1)
            await rig.tell(LinkDown(DownReason.NO_ANSWER, uncertain=(1,)))
            await failure_of(first)
            await rig.until_sent(2)
            await rig.tell(answer_to(rig.station.sent[1], b"21"))
            assert (await asyncio.wait_for(second.response, PATIENCE_S)).payload == b"21"

    async def test_a_standing_link_ends_what_was_delivered_but_not_answered(self) -> None:
        async with site_over_link() as rig:
            pending = asyncio.create_task(rig.request(aiocoap.GET, "slow"))
            async with asyncio.timeout(PATIENCE_S):
                while not rig.slow.calls:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            await rig.cut()
            with pytest.raises(LinkFailure) as caught:
                await pending
            assert (caught.value.outcome, caught.value.reason) == (Outcome.UNKNOWN, DownReason.PIPE_LOST)
            await rig.until_up()
            assert (await rig.request(aiocoap.GET, "temp")).payload == b"0"

    async def test_a_session_per_exchange_ends_only_what_the_link_names(self) -> None:
        async with deaf(standing=False) as rig:
            request = rig.request()
            await rig.until_sent(1)
            await rig.tell(LinkDown(DownReason.RELEASED), LinkDown(DownReason.NO_ANSWER))
            await rig.tell(answer_to(rig.station.sent[0], b"21"))
            assert (await asyncio.wait_for(request.response, PATIENCE_S)).payload == b"21"

    async def test_observations_of_a_standing_link_end_with_it(self) -> None:
        async with site_over_link() as rig:
            request = rig.client.request(aiocoap.Message(code=aiocoap.GET, uri="coap://board/temp", observe=0))
            async with asyncio.timeout(PATIENCE_S):
                await request.response
                await rig.cut()
                with pytest.raises(aiocoap.error.Error):
                    await anext(aiter(request.observation))

    async def test_an_sdu_that_the_link_refuses_ends_its_request(self) -> None:
        async with site_over_link() as rig:
            message = aiocoap.Message(code=aiocoap.PUT, uri="coap://board/temp", payload=bytes(9000))
            with pytest.raises(LinkFailure, match="octets"):
                await asyncio.wait_for(rig.client.request(message, handle_blockwise=False).response, PATIENCE_S)
            assert (await rig.request(aiocoap.GET, "temp")).payload == b"0"

    async def test_coap_does_not_repeat_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(aiocoap.numbers.constants.TransportTuning, "ACK_TIMEOUT", 0.005)
        async with deaf(standing=True) as rig:
            request = rig.request()
            with pytest.raises(aiocoap.error.ConRetransmitsExceeded):
                await asyncio.wait_for(request.response, PATIENCE_S)
            assert len(rig.station.sent) == 1

    async def test_unreadable_messages_are_dropped(self) -> None:
        async with deaf(standing=True) as rig:
            request = rig.request()
            await rig.until_sent(1)
            await rig.tell(DataReceived(b"\x00"), DataReceived(b"\xff" * 40), DataReceived(b"\x41\x01\x00\x00"))
            await rig.tell(answer_to(rig.station.sent[0], b"fine"))
            assert (await asyncio.wait_for(request.response, PATIENCE_S)).payload == b"fine"


class TestPrivateCall:
    """The product stands on one private method of aiocoap: it has to be there, in the version it was tried with."""

    def test_it_exists_and_takes_a_factory(self) -> None:
        method = aiocoap.Context._append_tokenmanaged_messagemanaged_transport
        assert inspect.iscoroutinefunction(method)
        assert list(inspect.signature(method).parameters) == ["self", "message_interface_constructor"]

    def test_aiocoap_is_pinned_exactly(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert f"aiocoap=={aiocoap.meta.version}" in project["dependencies"]

    def test_it_is_called_in_one_place(self) -> None:
        packages = ("meshwire", "sensor_sim", "nic_sim", "gateway", "broker", "hardware", "bench")
        files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
        calling = [path for path in files if "._append_tokenmanaged_messagemanaged_transport(" in path.read_text()]
        assert calling == [Path(coap_link.__file__)]
