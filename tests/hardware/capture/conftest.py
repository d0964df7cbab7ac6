"""Recorded sessions with simulated boards, and tshark."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S

from hardware.capture.tap import TappedPipe
from meshwire.capture.file import open_capture
from meshwire.capture.recorder import Recorder
from meshwire.coap.codes import GET
from meshwire.coap.message import ACK, CON, Message, decode, encode
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY
from meshwire.hdlc.events import DataReceived, Event, LinkDown
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import MILLI, STANDARD
from meshwire.link import Link
from meshwire.pipe import Pipe, memory_pair
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

TEMPERATURE = (SensorSpec("temp", "22.5", 0),)


def request(mid: int, *path: str, query: str = "", observe: int | None = None) -> bytes:
    options = [(URI_PATH, segment.encode()) for segment in path]
    if query:
        options.append((URI_QUERY, query.encode()))
    if observe is not None:
        options.append((OBSERVE, bytes([observe]) if observe else b""))
    return encode(Message(CON, GET, mid, bytes([0xC0, mid]), tuple(sorted(options, key=lambda pair: pair[0]))))


async def session(profile: str, path: Path) -> None:
    """Ask, observe, be notified; every step recorded."""
    near, far = memory_pair()

    async def board_end() -> Pipe:
        return near

    async def nic_end() -> Pipe:
        capture = open_capture(path)
        return TappedPipe(far, Recorder([capture]), close=capture.close)

    board = SensorBoard(profile, TEMPERATURE, board_end)
    station = PrimaryStation(STANDARD if profile == "standard" else MILLI)
    link = Link(nic_end, station, name="board")
    heard: asyncio.Queue[Message] = asyncio.Queue()
    released = asyncio.Event()

    def listen(event: Event) -> None:
        if isinstance(event, DataReceived):
            heard.put_nowait(decode(event.sdu))
            released.clear()
        elif isinstance(event, LinkDown):
            released.set()

    link.subscribe(listen)
    tasks = [asyncio.create_task(board.run()), asyncio.create_task(link.run())]
    try:
        async with asyncio.timeout(PATIENCE_S):
            link.send(request(1, ".well-known", "core"))
            await answer_to(1, heard)
            link.send(request(2, "arduino", "temp", query="sens", observe=0))
            await answer_to(2, heard)
            if profile != "standard":
                await released.wait()  # the DISC of an exchange empties the board's slot
            assert board.push("temp")
            while (await heard.get()).uint(OBSERVE) is None:
                pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answer_to(mid: int, heard: asyncio.Queue[Message]) -> None:
    while True:
        message = await heard.get()
        if message.mtype == ACK and message.mid == mid:
            return


@pytest.fixture(scope="session")
def milli_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("milli") / "session.pcapng"
    asyncio.run(session("milli-1.4.8", path))
    return path


@pytest.fixture(scope="session")
def standard_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("standard") / "session.pcapng"
    asyncio.run(session("standard", path))
    return path


Fields = Callable[..., list[list[str]]]


@pytest.fixture(scope="session")
def tshark() -> Fields:
    """tshark(path, field, …, lua=script, where=filter): one row a packet, one column a field."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")

    def run(path: Path, *fields: str, lua: Path | None = None, where: str = "") -> list[list[str]]:
        command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]
        command += [word for field in fields for word in ("-e", field)]
        command += ["-X", f"lua_script:{lua}"] if lua else []
        command += ["-Y", where] if where else []
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    return run
