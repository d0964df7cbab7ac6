"""A NIC with its board on a real pseudo-terminal, as a gateway meets them; both in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from patience import until

from hardware.ports import open_port
from meshwire.identity import DeviceId
from meshwire.pipe import Pipe
from nic_sim.nic import Nic
from nic_sim.settings import NicSettings
from sensor_sim.board import SensorBoard, pty_opener
from sensor_sim.spec import SensorSpec


@asynccontextmanager
async def nic_and_board(
    gateway_port: int,
    mac: DeviceId,
    folder: Path,
    *,
    profile: str = "standard",
    sensors: Sequence[str] = ("temp@1",),
    observe: Sequence[str] = ("snsr/arduino/temp",),
    poll_s: float = 0.2,
    parent: str | None = None,
) -> AsyncIterator[Nic]:
    """Both at work; the NIC has registered when the block begins."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    port = str(folder / f"{mac}.pty")
    opened = asyncio.Event()
    board = SensorBoard(
        profile,
        [SensorSpec.parse(text) for text in sensors],
        pty_opener(port, on_open=lambda pty: opened.set()),
        seed=7,
    )
    settings = NicSettings(
        mac=mac.value,
        serial=port,
        gateway=f"coap://127.0.0.1:{gateway_port}",
        listen="127.0.0.1:0",
        profile=profile,
        observe=tuple(observe),
        poll_s=poll_s,
        register_s=5,
        mesh_parent=parent,
        mesh_hops=None if parent is None else 1,
        state_dir=folder / f"{mac}.state",
        seed=7,
    )

    async def open_pipe() -> Pipe:
        return await open_port(port)

    nic = Nic(settings, open_pipe)
    tasks = [asyncio.create_task(board.run())]
    try:
        await until(lambda: opened.is_set() or tasks[0].done(), lambda: "the board has its pseudo-terminal")
        tasks.append(asyncio.create_task(nic.run()))
        # The NIC tells nobody but its log.
        await until(lambda: nic.uplink_report()["reachable"] or any(task.done() for task in tasks), nic.uplink_report)
        for task in tasks:
            if task.done():
                task.result()
        yield nic
    finally:
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
