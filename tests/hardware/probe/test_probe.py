"""A probe of boards, and of what is none: all ports at the same time, as `meshwire probe A B C …` does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from hardware import probe, probe_line
from hardware.advice import causes, evidence, reason
from hardware.holders import Holder
from hardware.probe import ProbePlan, probe_port
from hardware.probe_report import Finding, PortReport, Transport
from hardware.probe_session import snrm_frame
from meshwire.hdlc.control import FrameKind, unnumbered
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import LinkParameters, encode_parameters
from meshwire.hdlc.station import DEFAULT_ADDRESS
from meshwire.pipe import Pipe, memory_pair, open_pty, open_tcp
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

Reply = Callable[[bytes], bytes]
DM = encode_frame(Frame(DEFAULT_ADDRESS, DEFAULT_ADDRESS, unnumbered(FrameKind.DM)))
UA = encode_frame(
    Frame(DEFAULT_ADDRESS, DEFAULT_ADDRESS, unnumbered(FrameKind.UA), encode_parameters(LinkParameters(255, 255, 1, 1)))
)
WRONG_RATE = bytes.fromhex("80f8001e78f8e07880")
STAND_INS: dict[str, Reply] = {
    "silent": lambda data: b"",
    "wrong-rate": lambda data: WRONG_RATE,
    "damaged": lambda data: UA[:12] + b"\x55" + UA[13:],
    "log": lambda data: b"temperature 23.4 C\r\n",
    "echo": lambda data: data,
    "refuses": lambda data: DM,
    "other-primary": lambda data: encode_frame(Frame(DEFAULT_ADDRESS, DEFAULT_ADDRESS, unnumbered(FrameKind.DISC))),
}


async def answer(pipe: Pipe, reply: Reply) -> None:
    while data := await pipe.read():
        pipe.write(reply(data))


@asynccontextmanager
async def running(work: Awaitable[None]):  # type: ignore[no-untyped-def]
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def relay(stack: AsyncExitStack) -> int:
    """A terminal server: what one of two connections sends, the other gets."""
    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        while data := await reader.read(1024):
            for other in ends:
                if other is not writer:
                    other.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


async def probe_all(folder: Path) -> dict[str, PortReport]:
    async with AsyncExitStack() as stack:
        ports = {}
        for name, reply in STAND_INS.items():
            pipe = open_pty(str(folder / name))
            stack.push_async_callback(pipe.aclose)
            await stack.enter_async_context(running(answer(pipe, reply)))
            ports[name] = str(folder / name)
        for profile in ("milli-1.4.8", "milli-1.4.5", "standard"):
            await stack.enter_async_context(running(board(profile, str(folder / profile)).run()))
            ports[profile] = str(folder / profile)
        number = await relay(stack)
        far = SensorBoard("standard", [SensorSpec("temp")], lambda: open_tcp("127.0.0.1", number))
        await stack.enter_async_context(running(far.run()))
        ports["network"] = f"socket://127.0.0.1:{number}"
        await asyncio.sleep(0)
        ports["absent"] = str(folder / "absent")
        ports["nonsense"] = "socket://nowhere"
        reports = await asyncio.gather(*(probe_port(port) for port in ports.values()))
        return dict(zip(ports, reports, strict=True))


def board(profile: str, link: str) -> SensorBoard:
    async def open_pipe() -> Pipe:
        return open_pty(link)

    return SensorBoard(profile, [SensorSpec("temp")], open_pipe)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PortReport]]:
    yield asyncio.run(probe_all(tmp_path_factory.mktemp("ports")))


class TestBoards:
    @pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5", "standard"])
    def test_the_firmware_is_named(self, reports: dict[str, PortReport], profile: str) -> None:
        found = reports[profile].board
        assert found is not None
        assert found.firmware == profile
        assert found.profile == profile.partition("-")[0]
        assert "</" in found.links
        assert reason(reports[profile]).startswith(f"chosen: {profile}")
        assert causes(reports[profile]) == ()

    def test_the_reboot_message_of_a_milli_board_is_left_in_its_slot(self, reports: dict[str, PortReport]) -> None:
        found = reports["milli-1.4.8"].board
        assert found is not None
        assert "ev=rbt" in found.pending
        assert not found.released
        assert any("left there" in line for line in evidence(reports["milli-1.4.8"]))

    def test_a_standard_board_is_released(self, reports: dict[str, PortReport]) -> None:
        found = reports["standard"].board
        assert found is not None and found.released

    def test_a_board_behind_a_terminal_server(self, reports: dict[str, PortReport]) -> None:
        report = reports["network"]
        assert report.transport is Transport.NETWORK
        assert report.board is not None and report.board.firmware == "standard"


class TestEverythingElse:
    @pytest.mark.parametrize(
        ("name", "finding"),
        [
            ("silent", Finding.SILENCE),
            ("wrong-rate", Finding.GARBAGE),
            ("damaged", Finding.DAMAGED),
            ("log", Finding.TEXT),
            ("echo", Finding.ECHO),
            ("refuses", Finding.REFUSED),
            ("other-primary", Finding.OTHER_FRAMES),
            ("absent", Finding.NOT_OPENED),
            ("nonsense", Finding.NOT_OPENED),
        ],
    )
    def test_it_is_told_apart(self, reports: dict[str, PortReport], name: str, finding: Finding) -> None:
        assert reports[name].finding is finding
        assert reports[name].board is None
        assert reason(reports[name]).startswith(f"not chosen: {finding.value}")

    def test_silence_names_the_causes_in_the_order_to_check_them(self, reports: dict[str, PortReport]) -> None:
        named = [cause.what for cause in causes(reports["silent"])]
        order = [
            "no board runs",
            "TX and RX are swapped",
            "wrong rate",
            "still booting (up to 16 s",
            "no common ground",
        ]
        places = [next(n for n, what in enumerate(named) if words in what) for words in order]
        assert places == sorted(places)
        assert "0 octets seen" in reason(reports["silent"])

    def test_the_octets_of_a_wrong_rate_are_shown(self, reports: dict[str, PortReport]) -> None:
        assert "first octets: 80 f8 00 1e" in evidence(reports["wrong-rate"])[0]
        assert "wrong rate" in causes(reports["wrong-rate"])[0].what

    def test_check_errors_are_evidence(self, reports: dict[str, PortReport]) -> None:
        assert any("1 frames with check" in line for line in evidence(reports["damaged"]))

    def test_exit_codes(self, reports: dict[str, PortReport]) -> None:
        assert reports["silent"].exit_code == 4
        assert reports["absent"].exit_code == 4
        assert reports["nonsense"].exit_code == 2


class SerialBench:
    """A serial port whose board speaks at one rate; at others both sides hear garbage. Notes when frames begin."""

    def __init__(self, board_baud: int) -> None:
        self.board_baud = board_baud
        self.tried: list[int] = []
        self.sent_at: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, port: str, *, baud: int) -> Pipe:
        near, far = memory_pair()
        self.tried.append(baud)
        self._tasks.append(asyncio.create_task(self._serve(far, baud)))
        return near

    async def _serve(self, pipe: Pipe, baud: int) -> None:
        deframer = Deframer()
        while data := await pipe.read():
            self.sent_at.append(asyncio.get_running_loop().time())
            known = deframer.feed(data) == [snrm_frame()]
            pipe.write(WRONG_RATE if baud != self.board_baud else UA if known else b"")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same procedure with a tenth of the times, for boards in memory that answer at once."""
    monkeypatch.setattr(probe_line, "ANSWER_S", 0.1)
    monkeypatch.setattr(probe_line, "QUIET_S", 0.045)
    monkeypatch.setattr(probe_line, "OCTET_GAP_S", 0.02)
    monkeypatch.setattr(probe, "LISTEN_S", 0.01)


@pytest.mark.usefixtures("hurried")
async def test_rates_are_tried_until_the_board_answers() -> None:
    bench = SerialBench(board_baud=9600)
    report = await probe_port("/dev/ttyUSB-none", ProbePlan(rates=(38400, 9600, 19200)), opener=bench.open)
    assert bench.tried == [38400, 9600]
    assert report.baud == 9600
    assert report.board is not None and report.board.firmware == "other"


def test_the_quiet_time_is_above_the_400_ms_of_a_milli_board() -> None:
    assert probe_line.QUIET_S > 0.4


@pytest.mark.usefixtures("hurried")
async def test_no_two_frames_begin_within_the_quiet_time() -> None:
    bench = SerialBench(board_baud=38400)
    await probe_port("/dev/ttyUSB-none", ProbePlan(rates=(38400,)), opener=bench.open)
    pauses = [later - earlier for earlier, later in zip(bench.sent_at, bench.sent_at[1:], strict=False)]
    assert len(pauses) >= 2
    assert min(pauses) > probe_line.QUIET_S * 0.99


async def test_a_port_that_somebody_holds_is_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "holders", lambda path: (Holder(42, "nic"),))
    bench = SerialBench(board_baud=38400)
    report = await probe_port("/dev/ttyUSB-none", opener=bench.open)
    assert report.finding is Finding.HELD
    assert bench.tried == []
    assert "nic (pid 42)" in reason(report)
    assert report.exit_code == 5


@pytest.mark.usefixtures("hurried")
async def test_waiting_outlasts_a_board_that_boots() -> None:
    boots: list[bytes] = []

    async def open_late(port: str, *, baud: int) -> Pipe:
        near, far = memory_pair()
        boots.append(b"")
        tasks.append(asyncio.create_task(answer(far, lambda data: UA if len(boots) > 1 else b"")))
        return near

    tasks: list[asyncio.Task[None]] = []
    report = await probe_port("/dev/ttyUSB-none", ProbePlan(rates=(38400,), wait_s=0.4), opener=open_late)
    assert report.board is not None
