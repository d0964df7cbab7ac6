"""A site in one process, on a loop whose clock jumps to the next timer: board, line, NIC, UDP gateway, client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiocoap
import pytest
from jumping_loop import JumpingLoop

from meshwire.coap import codes
from meshwire.coap.message import ACK, Message, decode, encode
from meshwire.coap.options import MAX_AGE, encode_uint
from meshwire.notification import Notification, parse_uplink
from meshwire.pipe import MemoryPipe, Pipe, memory_pair
from nic_sim.nic import Nic
from nic_sim.settings import NicSettings
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

T = TypeVar("T")
MAC = "001350050047dd92"
START_UNIX_S = 1_760_000_000.0


Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture
def run() -> Run[Any]:
    """Run a coroutine with the jumping clock."""

    def runner(coroutine: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=JumpingLoop) as loop:
            return loop.run(coroutine)

    return runner


def unix_time() -> float:
    """Unix seconds that go with the loop's clock."""
    return START_UNIX_S + asyncio.get_running_loop().time()


@dataclass
class Gateway(asyncio.DatagramProtocol):
    """A gateway that is nothing but a UDP socket."""

    code: int = codes.CHANGED
    max_age_s: int | None = None
    silent: bool = False
    registrations: list[tuple[str, int]] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    port: int = 0
    transport: asyncio.DatagramTransport | None = None
    _seen: set[tuple[Any, int]] = field(default_factory=set)

    async def open(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()

    def datagram_received(self, data: bytes, address: Any) -> None:
        request = decode(data)
        if self.silent or not codes.is_request(request.code):
            return
        if (address, request.mid) not in self._seen and codes.is_success(self.code):
            self._seen.add((address, request.mid))
            self._take(request, address)
        options = () if self.max_age_s is None else ((MAX_AGE, encode_uint(self.max_age_s)),)
        assert self.transport is not None
        self.transport.sendto(encode(Message(ACK, self.code, request.mid, request.token, options)), address)

    def _take(self, request: Message, address: Any) -> None:
        if request.path()[0] == "register":
            self.registrations.append(address)
            return
        self.arrivals_s.append(asyncio.get_running_loop().time())
        self.notifications.append(parse_uplink(request.path(), request.query(), request.uint(12), request.payload))


class Line:
    """A serial line that can be pulled out and put in again; each end opens its own side."""

    def __init__(self) -> None:
        self._ends: tuple[MemoryPipe, MemoryPipe] | None = None
        self._taken: set[int] = set()
        self.unplugged = False
        self.answers_left: int | None = None
        """How many more writes of the board get through; None: all."""

    def opener(self, side: int) -> Callable[[], Awaitable[Pipe]]:
        async def open_pipe() -> Pipe:
            if self.unplugged:
                raise FileNotFoundError("no such port")
            if self._ends is None or side in self._taken:
                self._ends, self._taken = memory_pair("line"), set()
            self._taken.add(side)
            return self._ends[side] if side == 0 else self._mutable(self._ends[side])

        return open_pipe

    def _mutable(self, pipe: MemoryPipe) -> MemoryPipe:
        write = pipe.write

        def write_if_heard(data: bytes) -> None:
            if self.answers_left is None:
                write(data)
            elif self.answers_left > 0:
                self.answers_left -= 1
                write(data)

        pipe.write = write_if_heard  # type: ignore[method-assign]
        return pipe

    async def unplug(self) -> None:
        self.unplugged = True
        if self._ends is not None:
            await self._ends[0].aclose()
            self._ends = None


@dataclass
class Site:
    """What a test holds in its hands."""

    nic: Nic
    board: SensorBoard
    gateway: Gateway
    line: Line
    client: aiocoap.Context
    tasks: dict[str, asyncio.Task[None]]
    remote: Any = None

    @property
    def address(self) -> str:
        host, port = self.nic.coap_address
        return f"coap://{host}:{port}"

    def message(self, code: int, path: str, **options: Any) -> Any:
        message: Any = aiocoap.Message(code=code, uri=self.address + path, **options)
        return message

    async def ask(self, code: int, path: str, **options: Any) -> Any:
        """One request to the NIC, answered within a virtual minute and a half."""
        async with asyncio.timeout(90):
            return await self.client.request(self.message(code, path, **options), handle_blockwise=False).response

    async def readings(self, count: int, within_s: float = 60.0) -> list[Notification]:
        await until(lambda: len(self.gateway.notifications) >= count, within_s)
        return self.gateway.notifications

    async def restart_board(self) -> None:
        await stop(self.tasks["board"])
        await self.line.unplug()
        self.line.unplugged = False
        self.tasks["board"] = asyncio.create_task(self.board.run())


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait, on the jumping clock, until something holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the clock jumps, and conditions are about anything
            await asyncio.sleep(max(0.02, within_s / 3000))


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def settings(profile: str, state: Path, gateway_port: int, **more: Any) -> NicSettings:
    values: dict[str, Any] = {
        "mac": MAC,
        "gateway": f"coap://127.0.0.1:{gateway_port}",
        "listen": "127.0.0.1:0",
        "observe": ("snsr/arduino/temp",),
        "profile": profile,
        "state_dir": state,
        "seed": 7,
    }
    return NicSettings.model_validate(values | more)


@asynccontextmanager
async def open_site(
    profile: str, state: Path, sensors: Sequence[str] = ("temp@5", "echo@0"), **more: Any
) -> AsyncIterator[Site]:
    """A whole site; `more` are settings of the NIC."""
    line, gateway = Line(), Gateway()
    await gateway.open()
    board = SensorBoard(profile, [SensorSpec.parse(text) for text in sensors], line.opener(1), wall_clock=unix_time)
    nic = Nic(settings(profile, state, gateway.port, **more), line.opener(0), unix_time=unix_time)
    client = await aiocoap.Context.create_client_context(transports=["udp6"])
    tasks = {"board": asyncio.create_task(board.run()), "nic": asyncio.create_task(nic.run())}
    await nic.ready.wait()
    site = Site(nic, board, gateway, line, client, tasks)
    try:
        yield site
        for name, task in tasks.items():
            assert not task.done() or task.cancelled(), f"{name} ended: {task.exception()!r}"
    finally:
        for task in reversed(site.tasks.values()):
            await stop(task)
        await client.shutdown()
        gateway.close()


@pytest.fixture
def site() -> Callable[..., Any]:
    return open_site


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
def stop_task() -> Callable[[asyncio.Task[None]], Awaitable[None]]:
    return stop


@pytest.fixture
def nic_settings() -> Callable[..., NicSettings]:
    return settings


@pytest.fixture
def gateway_factory() -> type[Gateway]:
    return Gateway
