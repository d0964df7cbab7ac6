"""A tap leaves its line alone; a session stands between two lines; ports name a tap; the command ties it together."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_S

from hardware.capture.session import CaptureSession
from hardware.capture.tap import TappedPipe
from hardware.errors import PortError
from hardware.port_spec import DevicePort, FaultyPort, SimPort, TappedPort, parse_port
from hardware.ports import open_port, peer_path
from meshwire.capture.file import CaptureFile
from meshwire.capture.pcapng import Direction, Packet, read_packets
from meshwire.capture.record import Record, Side
from meshwire.capture.recorder import Recorder
from meshwire.hdlc.deframer import Deframer
from meshwire.pipe import Pipe, memory_pair

SNRM = bytes.fromhex("7ea00703039 38c117e".replace(" ", ""))
UA = bytes.fromhex("7ea00703037382f67e")


def read(path: Path) -> list[Packet]:
    with path.open("rb") as stream:
        return list(read_packets(stream))


async def test_octets_pass_unchanged_and_are_recorded_in_order() -> None:
    near, far = memory_pair()
    told: list[Record] = []
    tap = TappedPipe(near, Recorder([told.append]))
    tap.write(SNRM)
    assert await far.read() == SNRM
    far.write(UA)
    assert await tap.read() == UA
    far.write(b"noise")
    assert await tap.read() == b"noise"
    assert [(r.sender, r.octets) for r in told] == [
        (Side.NIC, SNRM),
        (Side.BOARD, UA),
        (Side.BOARD, b"~noise"),  # the flag before it may have been meant to open a frame as well
    ]
    await tap.aclose()
    await tap.aclose()
    assert await tap.read() == b""


async def test_wake_pulses_pass_and_are_recorded() -> None:
    near, far = memory_pair()
    told: list[Record] = []
    tap = TappedPipe(near, Recorder([told.append]))
    woken = asyncio.Event()
    tap.on_attention = woken.set
    far.pulse_attention()
    await asyncio.wait_for(woken.wait(), PATIENCE_S)
    assert [(r.sender, r.note) for r in told] == [(Side.BOARD, "wake line pulsed")]


class FullDisk(io.RawIOBase):
    """Takes the beginning of a capture and no more."""

    def __init__(self) -> None:
        self.writes = 0

    def writable(self) -> bool:
        return True

    def write(self, octets: object) -> int:
        self.writes += 1
        if self.writes > 1:
            raise OSError(28, "No space left on device")
        return memoryview(octets).nbytes  # type: ignore[arg-type]


async def test_a_recording_that_fails_leaves_the_line_alone() -> None:
    near, far = memory_pair()
    disk = FullDisk()
    tap = TappedPipe(near, Recorder([CaptureFile(disk)]))  # type: ignore[arg-type]
    for _ in range(3):
        tap.write(SNRM)
        assert await far.read() == SNRM
    assert disk.writes == 2, "given up at the first failure"


def test_a_tap_is_a_form_of_port() -> None:
    assert parse_port("tap+/dev/ttyUSB0?file=/tmp/a.pcapng") == TappedPort(DevicePort("/dev/ttyUSB0"), "/tmp/a.pcapng")
    spec = parse_port("tap+sim://standard?sensor=temp&file=a b.pcapng")
    assert spec == TappedPort(SimPort("standard", (("sensor", "temp"),)), "a b.pcapng")
    nested = parse_port("tap+fault+/dev/ttyUSB0?ber=0.5&file=x")
    assert isinstance(nested, TappedPort) and isinstance(nested.inner, FaultyPort)
    with pytest.raises(PortError, match="file=FILE"):
        parse_port("tap+/dev/ttyUSB0")


async def test_a_tapped_port_that_is_opened_again_goes_on_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "nic.pcapng"
    for _ in range(2):
        pipe = await open_port(f"tap+pty?file={file}")
        where = peer_path(pipe)
        assert where is not None
        pipe.write(SNRM)
        await pipe.aclose()
    assert [packet.octets for packet in read(file)] == [SNRM, SNRM]
    assert {packet.direction for packet in read(file)} == {Direction.OUTBOUND}


async def test_a_session_joins_both_sides_and_survives_a_lost_port() -> None:
    told: list[Record] = []
    lines = [memory_pair(), memory_pair()]
    opened = iter(lines)
    peer, nic = memory_pair()

    opened_again = asyncio.Event()

    async def open_next() -> Pipe:
        pipe = next(opened)[0]
        if pipe is lines[1][0]:
            asyncio.get_running_loop().call_soon(opened_again.set)
        return pipe

    task = asyncio.create_task(CaptureSession(open_next, Recorder([told.append]), peer=peer).run())
    async with asyncio.timeout(PATIENCE_S):
        for _, board in lines:
            nic.write(SNRM)
            while not (heard := await board.read()):
                pass
            assert heard == SNRM
            board.write(UA)
            assert await nic.read() == UA
            await board.aclose()
            if board is lines[0][1]:
                await opened_again.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [r.octets for r in told if r.octets] == [SNRM, UA, SNRM, UA]
    assert "port lost" in [r.note for r in told]
    assert [r.sender for r in told if r.octets] == [Side.NIC, Side.BOARD] * 2


MAIN = "import sys; from hardware.capture.command import capture_app; capture_app(sys.argv[1:])"


async def test_the_command_stands_between_and_writes_as_it_goes(tmp_path: Path) -> None:
    board = await open_port("pty")
    link, file = tmp_path / "line", tmp_path / "site.pcapng"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAIN, str(peer_path(board)), "-w", str(file), "--peer", f"pty:{link}", "-v"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert process.stderr is not None and process.stdout is not None
            assert str(link) in (await process.stderr.readline()).decode() or link.is_symlink()
            nic = await open_port(str(link))
            nic.write(SNRM)
            assert await board.read() == SNRM
            board.write(UA)
            assert await nic.read() == UA
            lines = [(await process.stdout.readline()).decode() for _ in range(2)]
            assert "SNRM" in lines[0] and "UA" in lines[1]
            assert [packet.octets for packet in read(file)] == [SNRM, UA], "readable while it is written"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not link.is_symlink()
    await nic.aclose()
    await board.aclose()


async def test_standard_output_carries_the_capture_and(tmp_path: Path) -> None:
    board = await open_port("pty")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAIN, str(peer_path(board)), "-w", "-"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert process.stdout is not None
            file, found = b"", list[Packet]()
            while not found:
                board.write(UA)  # again: what comes before the port is open is thrown away
                with suppress(TimeoutError):
                    file += await asyncio.wait_for(process.stdout.read(4096), 0.2)
                found = list(read_packets(io.BytesIO(file)))
            assert found[0].octets == UA
    finally:
        process.terminate()
        await process.wait()
    await board.aclose()


def test_the_frames_used_here_are_frames() -> None:
    assert len(Deframer().feed(SNRM + UA)) == 2
