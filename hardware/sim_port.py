"""`sim://PROFILE`: a simulated board in a process of its own, reached over the pty it makes.

The board is started, not imported: components meet on the wire.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hardware.errors import PortError, PortProblem
from hardware.port_spec import SimPort
from hardware.serial_pipe import open_serial
from meshwire.pipe import Pipe

__all__ = ["SimPipe", "open_sim"]

_START_TIMEOUT_S: Final = 20.0
_END_TIMEOUT_S: Final = 3.0
_LAST_WORDS_S: Final = 1.0
_REMEMBERED_LINES: Final = 5


class SimPipe:
    """The line to a board whose process ends with the pipe.

    Args:
        line: the opened pty.
        board: the board's process.
    """

    def __init__(self, line: Pipe, board: Board) -> None:
        self.name = line.name
        self.pid = board.pid
        self._line = line
        self._board = board

    @property
    def on_attention(self) -> Callable[[], None] | None:
        return self._line.on_attention

    @on_attention.setter
    def on_attention(self, callback: Callable[[], None] | None) -> None:
        self._line.on_attention = callback

    async def read(self) -> bytes:
        return await self._line.read()

    def write(self, data: bytes) -> None:
        self._line.write(data)

    async def drain(self) -> None:
        await self._line.drain()

    async def aclose(self) -> None:
        await self._line.aclose()
        await self._board.end()

    def pulse_attention(self) -> None:
        self._line.pulse_attention()


class Board:
    """A running board process, its output kept flowing."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self.last_words: deque[str] = deque(maxlen=_REMEMBERED_LINES)
        self._process = process
        self._listeners = [asyncio.create_task(self._listen(process.stderr))]

    async def pty(self) -> str:
        """The path from its first line on stdout, `{"pty": …}`; empty when it ended, or said something else."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        self._listeners.append(asyncio.create_task(self._listen(self._process.stdout)))
        try:
            return str(json.loads(line)["pty"])
        except (ValueError, KeyError, TypeError):
            self.last_words.append(line.decode(errors="replace").strip())
            # It is mostly ending just now; asyncio loses the exit of a process that is signalled at that moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._process.wait()
            return ""

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(_END_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _listen(self, stream: asyncio.StreamReader | None) -> None:
        """A board must not stop because nobody reads what it says."""
        assert stream is not None
        with suppress(ValueError):
            while line := await stream.readline():
                self.last_words.append(line.decode(errors="replace").strip())


async def open_sim(spec: SimPort, *, baud: int) -> SimPipe:
    """Start the board and open its line.

    Raises:
        PortError: MW-SER-007 when the board does not come up.
    """
    board = await _start(spec)
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            path = await board.pty()
        if not path:
            await board.end()
            raise _failed(spec, "; ".join(filter(None, board.last_words)) or "it ended without a word")
        return SimPipe(await open_serial(path, baud=baud), board)
    except BaseException as error:
        await board.end()
        if isinstance(error, TimeoutError):
            raise _failed(spec, f"no pty after {_START_TIMEOUT_S:g} s") from None
        raise


async def _start(spec: SimPort) -> Board:
    arguments = ["-m", "sensor_sim", "--port", "pty", "--profile", spec.profile]
    for key, value in spec.options:
        arguments += [f"--{key.replace('_', '-')}", value]
    try:
        # Without Rich what it says of a wrong option is a line that can be quoted.
        environment = {**os.environ, "TYPER_USE_RICH": "0"}
        return Board(
            await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, stderr=PIPE, env=environment)
        )
    except OSError as error:
        raise _failed(spec, str(error)) from None


def _failed(spec: SimPort, evidence: str) -> PortError:
    return PortError(
        PortProblem.NO_SIMULATOR,
        f"the simulated board sim://{spec.profile} did not start",
        evidence=evidence,
        fix=f"run `meshwire sensor --port pty --profile {spec.profile}` to see all that it says",
    )
