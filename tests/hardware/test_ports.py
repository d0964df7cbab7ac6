"""Every form of PORT opens, or says by a stable code why not."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import serial
import serial.rfc2217
from descriptors import open_descriptors, opened_since
from patience import PATIENCE_S

from hardware import sim_port
from hardware.errors import CATALOGUE, PortError, PortProblem
from hardware.holders import holders, lock_holder
from hardware.port_spec import (
    DevicePort,
    FaultyPort,
    PortSpec,
    PtyPort,
    SimPort,
    TcpPort,
    UrlPort,
    parse_port,
)
from hardware.ports import list_ports, open_port, peer_path
from hardware.sim_port import SimPipe
from meshwire.errors import ExitCode
from meshwire.pipe import FaultPlan, FaultyPipe, Pipe


async def read_exactly(pipe: Pipe, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count:
            chunk = await pipe.read()
            assert chunk, "hung up"
            data += chunk
    return data


async def problem_of(uri: str) -> PortError:
    with pytest.raises(PortError) as caught:
        await open_port(uri)
    return caught.value


class TestForms:
    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            ("/dev/serial/by-id/usb-1", DevicePort("/dev/serial/by-id/usb-1")),
            ("COM3", DevicePort("COM3")),
            ("pty", PtyPort(None)),
            ("pty:/run/board", PtyPort("/run/board")),
            ("socket://h:4000", TcpPort("h", 4000)),
            ("socket://[::1]:4000", TcpPort("::1", 4000)),
            ("rfc2217://h:4000", UrlPort("rfc2217://h:4000")),
            ("sim://milli-1.4.8", SimPort("milli-1.4.8", ())),
            ("sim://standard?sensor=temp&sensor=echo", SimPort("standard", (("sensor", "temp"), ("sensor", "echo")))),
            ("fault+pty", FaultyPort(PtyPort(None), FaultPlan())),
            (
                "fault+/dev/ttyUSB0?ber=0.1&drop=0.2&dup=0.3&delay_ms=40&stall_s=5&seed=6",
                FaultyPort(
                    DevicePort("/dev/ttyUSB0"), FaultPlan(ber=0.1, drop=0.2, dup=0.3, delay_s=0.04, stall_s=5.0, seed=6)
                ),
            ),
            (
                "fault+sim://standard?sensor=temp&ber=0.1",
                FaultyPort(SimPort("standard", (("sensor", "temp"),)), FaultPlan(ber=0.1)),
            ),
            ("fault+pty:/run/board?ber=&drop=", FaultyPort(PtyPort("/run/board"), FaultPlan())),
        ],
    )
    def test_read(self, text: str, spec: PortSpec) -> None:
        assert parse_port(text) == spec

    @pytest.mark.parametrize(
        "text", ["", "pty:", "socket://h", "socket://:5", "socket://h:x", "socket://h:99999", "sim://", "fault+"]
    )
    def test_not_understood(self, text: str) -> None:
        with pytest.raises(PortError) as caught:
            parse_port(text)
        assert (caught.value.code, caught.value.exit_code) == ("MW-SER-001", ExitCode.USAGE)

    @pytest.mark.parametrize("query", ["ber=2", "drop=-1", "dup=x", "delay_ms=-5", "stall_s=nan", "seed=1.5", "cut=up"])
    def test_faults_out_of_range(self, query: str) -> None:
        with pytest.raises(PortError) as caught:
            parse_port(f"fault+pty?{query}")
        assert caught.value.code == "MW-SER-009"


class TestDevices:
    async def test_a_pty_opened_by_path_is_a_serial_port(self, tmp_path: Path) -> None:
        board = await open_port(f"pty:{tmp_path / 'board'}")
        nic = await open_port(str(tmp_path / "board"), baud=115_200)
        every = bytes(range(256))
        nic.write(every)
        board.write(every)
        assert await read_exactly(board, 256) == every
        assert await read_exactly(nic, 256) == every
        await nic.aclose()
        await board.aclose()

    async def test_octets_from_before_it_was_opened_are_stale(self) -> None:
        board = await open_port("pty")
        path = peer_path(board)
        assert path is not None
        board.write(b"stale")
        nic = await open_port(path)
        board.write(b"fresh")
        assert await read_exactly(nic, 5) == b"fresh"
        await nic.aclose()
        await board.aclose()

    async def test_a_board_that_ends_hangs_up(self) -> None:
        board = await open_port("pty")
        nic = await open_port(peer_path(board) or "")
        reading = asyncio.create_task(nic.read())
        await asyncio.sleep(0)
        await board.aclose()
        assert await asyncio.wait_for(reading, PATIENCE_S) == b""
        nic.write(b"into nothing")
        await nic.drain()
        await nic.aclose()
        await nic.aclose()

    async def test_a_second_opener_is_told_who_was_first(self) -> None:
        board = await open_port("pty")
        path = peer_path(board) or ""
        nic = await open_port(path)
        problem = await problem_of(path)
        assert (problem.code, problem.exit_code) == ("MW-SER-004", ExitCode.REFUSED)
        assert f"(pid {os.getpid()})" in problem.evidence
        await nic.aclose()
        await (await open_port(path)).aclose()
        await board.aclose()

    async def test_what_can_be_wrong_with_a_path(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("data")
        (tmp_path / "dangling").symlink_to("/dev/pts/999999")
        assert (await problem_of(str(tmp_path / "missing"))).code == "MW-SER-002"
        assert (await problem_of(str(tmp_path / "dangling"))).code == "MW-SER-002"
        assert (await problem_of(str(tmp_path / "file"))).code == "MW-SER-005"
        assert (await problem_of(str(tmp_path))).code == "MW-SER-005"
        assert (await problem_of(f"pty:{tmp_path / 'file'}")).code == "MW-SER-008"
        assert (await problem_of(f"pty:{tmp_path / 'no' / 'folder'}")).code == "MW-SER-008"
        assert (tmp_path / "file").read_text() == "data"

    async def test_two_hundred_openings_leak_no_descriptor(self, tmp_path: Path) -> None:
        link = str(tmp_path / "board")
        before = open_descriptors()
        for turn in range(200):
            board = await open_port(f"pty:{link}")
            nic = await open_port(link)
            nic.write(b"%03d" % turn)
            assert await read_exactly(board, 3) == b"%03d" % turn
            for pipe in (nic, board) if turn % 2 else (board, nic):
                await pipe.aclose()
            with pytest.raises(PortError):
                await open_port(link)
        assert opened_since(before) == {}


class TestNetwork:
    async def test_socket(self) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(4))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        pipe = await open_port(f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        pipe.write(b"ping")
        assert await read_exactly(pipe, 4) == b"ping"
        assert await pipe.read() == b""
        await pipe.aclose()
        server.close()

    async def test_rfc2217(self) -> None:
        with terminal_server() as port:
            pipe = await open_port(f"rfc2217://127.0.0.1:{port}?timeout={PATIENCE_S}", baud=9600)
            every = bytes(range(256))
            pipe.write(every)
            assert await read_exactly(pipe, 256) == every
            await pipe.aclose()
            assert await pipe.read() == b""

    async def test_a_handler_of_pyserial_by_threads(self) -> None:
        before = set(threading.enumerate())
        pipe = await open_port("loop://")
        pipe.write(b"round")
        pipe.write(b"trip")
        assert await read_exactly(pipe, 9) == b"roundtrip"
        own = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("loop://")]
        assert len(own) == 2
        await pipe.drain()
        await pipe.aclose()
        pipe.write(b"late")
        assert not any(thread.is_alive() for thread in own)

    async def test_nobody_there(self) -> None:
        for uri in ("socket://127.0.0.1:1", "rfc2217://127.0.0.1:1"):
            problem = await problem_of(uri)
            assert (problem.code, problem.exit_code) == ("MW-SER-006", ExitCode.NOT_REACHABLE)

    async def test_a_handler_that_nobody_has(self) -> None:
        assert (await problem_of("carrier-pigeon://loft")).code == "MW-SER-001"


class _Echo(threading.Thread):
    """A terminal server with a loop-back plug on its port, by pyserial's own server half of RFC 2217."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def write(self, data: bytes) -> None:
        self.connection.sendall(data)

    def run(self) -> None:
        self.connection, _ = self.listener.accept()
        port = serial.serial_for_url("loop://", timeout=0)
        manager = serial.rfc2217.PortManager(port, self)
        try:
            while data := self.connection.recv(1024):
                plain = b"".join(manager.filter(data))
                self.write(b"".join(manager.escape(plain)))
        except OSError:
            pass
        self.connection.close()
        port.close()


class terminal_server:
    def __enter__(self) -> int:
        self._server = _Echo()
        self._server.start()
        return int(self._server.listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._server.listener.close()
        self._server.join(PATIENCE_S)


class TestFaults:
    async def test_a_faulty_port_is_the_port_with_faults(self) -> None:
        board = await open_port("fault+pty?drop=1")
        assert isinstance(board, FaultyPipe)
        nic = await open_port(peer_path(board) or "")
        board.write(b"lost")
        board.plan = FaultPlan()
        board.write(b"kept")
        assert await read_exactly(nic, 4) == b"kept"
        await nic.aclose()
        await board.aclose()


class TestSimulatedBoard:
    @pytest.fixture(autouse=True)
    def nothing_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A board that listens to SIGTERM need not be."""
        monkeypatch.setattr(sim_port, "_END_TIMEOUT_S", 2 * PATIENCE_S)

    @asynccontextmanager
    async def board(self, uri: str) -> AsyncIterator[SimPipe]:
        pipe = await open_port(uri)
        assert isinstance(pipe, SimPipe)
        try:
            yield pipe
        finally:
            async with asyncio.timeout(PATIENCE_S):
                await pipe.aclose()

    async def test_it_answers_and_ends_with_its_pipe(self) -> None:
        async with self.board("sim://standard?sensor=temp") as pipe:
            pipe.write(bytes.fromhex("7ea00703 03938c11 7e"))  # SNRM
            answer = await read_exactly(pipe, 9)
            assert answer[:1] == b"\x7e" and answer[5] == 0x73, "UA"
        with pytest.raises(ProcessLookupError):
            os.kill(pipe.pid, 0)

    async def test_a_profile_that_nobody_has_is_told_in_the_boards_words(self) -> None:
        problem = await problem_of("sim://nonesuch")
        assert problem.code == "MW-SER-007"
        assert "nonesuch" in problem.evidence


class TestHolders:
    @pytest.fixture
    def locked(self, tmp_path: Path) -> Iterator[str]:
        path = tmp_path / "port"
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield str(path)

    def test_the_locker_is_found(self, locked: str) -> None:
        holder = lock_holder(locked)
        assert holder is not None and holder.pid == os.getpid()
        assert str(holder) == f"{holder.command} (pid {os.getpid()})"

    def test_who_has_it_open(self, locked: str) -> None:
        assert os.getpid() in {holder.pid for holder in holders(locked)}

    def test_nobody(self, tmp_path: Path) -> None:
        assert lock_holder(str(tmp_path / "missing")) is None
        assert holders(str(tmp_path / "missing")) == ()


def test_every_problem_is_explained() -> None:
    assert set(CATALOGUE) == {problem.value for problem in PortProblem}


def test_the_list_of_ports_has_one_entry_a_device() -> None:
    devices = [port.device for port in list_ports()]
    assert devices == sorted(set(devices))
