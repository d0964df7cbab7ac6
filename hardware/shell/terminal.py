"""The terminal: a prompt with history and completion (readline), and lines of the live view above it.

Reading a line blocks, so a thread of its own does it; it is a daemon, because nothing can wake it but the next line.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from hardware.shell.completion import Completion

try:
    import readline
except ImportError:  # Windows: lines can be typed all the same
    readline = None  # type: ignore[assignment]

__all__ = ["Terminal"]

_HISTORY_LINES: Final = 1000


class Terminal:
    """Reads command lines, writes output lines.

    Args:
        completion: what the tab key offers.
        history: file in which lines are kept; None: nowhere.
        prompt: in front of a line; nothing is prompted where standard input is no terminal.
    """

    def __init__(self, completion: Completion, history: Path | None, prompt: str) -> None:
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._prompt = prompt if self.interactive else ""
        self._history = history
        self._completion = completion
        self._asking = False
        if self.interactive:
            self._prepare()

    def use(self, completion: Completion) -> None:
        """Offer what this one knows."""
        self._completion = completion

    def write(self, line: str) -> None:
        """One line of output; the prompt and what was typed of a command are put back below it."""
        if not (self.interactive and self._asking):
            sys.stdout.write(line + "\n")
        else:
            typed = readline.get_line_buffer() if readline else ""
            sys.stdout.write(f"\r\x1b[K{line}\n{self._prompt}{typed}")
        sys.stdout.flush()

    async def read_line(self) -> str | None:
        """The next line; None at the end (Ctrl-D)."""
        loop = asyncio.get_running_loop()
        line: asyncio.Future[str | None] = loop.create_future()

        def settle(text: str | None) -> None:
            if not line.done():
                line.set_result(text)

        def ask() -> None:
            try:
                text: str | None = input(self._prompt) if self.interactive else _plain_line()
            except (EOFError, OSError, ValueError):
                text = None
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, text)

        self._asking = True
        threading.Thread(target=ask, name="command line", daemon=True).start()
        try:
            return await line
        finally:
            self._asking = False

    def close(self) -> None:
        """Keep the history."""
        if self.interactive and readline and self._history is not None:
            with suppress(OSError):
                readline.write_history_file(self._history)

    def _prepare(self) -> None:
        if not readline:
            return
        readline.set_history_length(_HISTORY_LINES)
        readline.set_completer(self._complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")
        if self._history is not None:
            with suppress(OSError):
                readline.read_history_file(self._history)

    def _complete(self, word: str, number: int) -> str | None:
        offers = self._completion.offers(readline.get_line_buffer()[: readline.get_begidx()], word)
        return offers[number] if number < len(offers) else None


def _plain_line() -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None
