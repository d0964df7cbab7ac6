"""A board process on a symlinked pty is killed and started again: the link comes back by itself."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from patience import PATIENCE_S

from hardware.ports import open_port
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown
from meshwire.hdlc.primary import PrimaryStation
from meshwire.link import Link, LinkState
from meshwire.pipe import Pipe

BOARD = """
import asyncio, sys
from meshwire.hdlc.events import DataReceived
from meshwire.hdlc.secondary import SecondaryStation
from meshwire.link import Link
from meshwire.pipe import open_pty

async def open_pipe():
    pipe = open_pty(sys.argv[1])
    print("open", flush=True)
    return pipe

async def main():
    link = Link(open_pipe, SecondaryStation(), name="nic")
    link.subscribe(lambda event: link.send(event.sdu.upper()) if isinstance(event, DataReceived) else None)
    await link.run()

asyncio.run(main())
"""


async def start_board(link: str) -> Process:
    board = await asyncio.create_subprocess_exec(sys.executable, "-c", BOARD, link, stdout=PIPE)
    assert board.stdout is not None
    while b"open" not in (line := await asyncio.wait_for(board.stdout.readline(), PATIENCE_S)):
        assert line, "the board did not come up"
    return board


async def kill(board: Process) -> None:
    board.kill()
    await board.wait()


class TestReplug:
    async def test_a_killed_board_is_picked_up_again(self, tmp_path: Path) -> None:
        path = str(tmp_path / "board")

        async def open_pipe() -> Pipe:
            return await open_port(path)

        link = Link(open_pipe, PrimaryStation(), name="board")
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        downs: list[LinkDown] = []

        def listen(event: Event) -> None:
            match event:
                case DataReceived(sdu=sdu):
                    answers.put_nowait(sdu)
                case LinkDown():
                    downs.append(event)

        link.subscribe(listen)
        task = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(100):
                for turn in range(2):
                    board = await start_board(path)
                    while link.status.state is not LinkState.UP:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    link.send(b"turn %d" % turn)
                    assert await answers.get() == b"TURN %d" % turn
                    await kill(board)
                    while link.status.counters.pipe_losses <= turn:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    assert downs[-1].reason is DownReason.PIPE_LOST
            assert link.status.counters.pipe_losses == 2
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
