"""The key `r` of the demo: exchange a board at the terminal where the table is.

A key is read at once (cbreak), the answer to the question as a line that the terminal lets one edit. Ctrl-C stays what
it is. POSIX terminals only.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

from gateway.lab.boards import SIMULATED, Boards
from hardware.ports import list_ports
from meshwire.errors import MeshwireError

__all__ = ["ReplaceKey"]

_KEY: Final = b"r"


class Screen(Protocol):
    """The table, which makes room for the question."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def say(self, text: str) -> None: ...


class ReplaceKey:
    """Listens to the terminal on standard input.

    Args:
        boards: what is exchanged.
        screen: where to ask.
    """

    def __init__(self, boards: Boards, screen: Screen) -> None:
        self._boards = boards
        self._screen = screen
        self._asking = False
        self._fd = sys.stdin.fileno()
        self._at_first: list[Any] = []
        self._work: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen until cancelled; ends at once where there is no terminal."""
        if not os.isatty(self._fd) or sys.platform == "win32":
            return
        import termios

        self._at_first = termios.tcgetattr(self._fd)
        loop = asyncio.get_running_loop()
        self._read_keys()
        loop.add_reader(self._fd, self._readable)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._fd)
            self._read_lines()

    def _read_keys(self) -> None:
        import tty

        tty.setcbreak(self._fd)

    def _read_lines(self) -> None:
        import termios

        termios.tcsetattr(self._fd, termios.TCSANOW, self._at_first)

    def _readable(self) -> None:
        data = b""
        with suppress(OSError):
            data = os.read(self._fd, 1024)
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
        elif self._asking:
            self._asking = False
            self._read_keys()
            self._do(self._answer(data.decode(errors="replace").split()))
        elif data[:1].lower() == _KEY and (self._work is None or self._work.done()):
            self._do(self._ask())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.ensure_future(work)

    async def _ask(self) -> None:
        found = await asyncio.to_thread(list_ports)
        self._screen.pause()
        for number, board in enumerate(self._boards.seated(), 1):
            kind = f"{board.profile}, simulated" if board.simulated else board.profile
            self._screen.say(f"  {number}  {board.mac}  {board.port} ({kind}, {board.state})")
        here = ", ".join(port.stable_name for port in found) or "none; pty links, socket:// and sim:// work too"
        self._screen.say(f"serial ports here: {here}")
        self._screen.say(f"NUMBER PORT [PROFILE] (PORT `{SIMULATED}`: the simulated board; empty line: nothing)")
        self._asking = True
        self._read_lines()

    async def _answer(self, words: list[str]) -> None:
        self._screen.say(await self._replace(words))
        self._screen.resume()

    async def _replace(self, words: list[str]) -> str:
        if not words:
            return "nothing changed"
        seated = self._boards.seated()
        if len(words) not in (2, 3) or not words[0].isdigit() or not 1 <= int(words[0]) <= len(seated):
            return f"nothing changed: {' '.join(words)!r} is not NUMBER PORT [PROFILE]"
        profile = words[2] if len(words) == 3 else None
        try:
            board = await self._boards.replace(seated[int(words[0]) - 1].mac, words[1], profile)
        except (ValueError, MeshwireError) as error:
            return f"nothing changed: {error}"
        return f"{board.mac} now has {board.port} ({board.profile})"
