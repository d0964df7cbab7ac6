"""Puts the shell together: port, tap, link, board, runner; then a script, or lines of the terminal, until the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hardware.ports import open_port
from hardware.probe import identify
from hardware.shell.board import BoardClient
from hardware.shell.commands import Command, Request, parse_line, request_message
from hardware.shell.completion import Completion, link_targets
from hardware.shell.errors import BoardSilent, DeviceAnsweredError, ShellError
from hardware.shell.output import Output
from hardware.shell.runner import Runner
from hardware.shell.tap import Direction, FrameTap, Seen, TapPipe
from hardware.wake_line import WakeInput
from meshwire.coap import codes
from meshwire.errors import ExitCode
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import MILLI, STANDARD, LinkProfile
from meshwire.link import Link, LinkState
from meshwire.link_stats import LinkStats, link_stats
from meshwire.pipe import Pipe

__all__ = ["LINK_PROFILES", "Script", "Shell", "ShellSettings"]

LINK_PROFILES: Final[dict[str, LinkProfile]] = {
    # Asking by RR before each DISC costs 0.45 s and loses no notification that waits in the board (dialect A.8).
    # Polls are the shell's own (`BoardClient.run`), so that a raw frame meets a line at rest.
    "milli": replace(MILLI, fetch_before_release=True, poll_period_s=0.0),
    "standard": STANDARD,
}

_FAREWELL_S: Final = 2.5
"""What a board is given to end its session: RR, DISC and their answers take 1.4 s."""

Script = tuple[tuple[Command, bool], ...]
ReadLine = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class ShellSettings:
    """How a shell is run.

    Args:
        port: any PORT.
        profile: a name of `LINK_PROFILES`; `auto`: ask the board.
        baud: bits a second.
        poll_s: seconds between polls while something is observed.
        wake: modem-control input that the board pulses; a pulse is answered by a poll.
        guarded: hold back what is known to crash boards.
        frames: show the live view.
        all_frames: show a standing link's empty polls too.
    """

    port: str
    profile: str = "auto"
    baud: int = 38400
    poll_s: float = 2.0
    wake: WakeInput = WakeInput.NONE
    guarded: bool = True
    frames: bool = True
    all_frames: bool = False


class Shell:
    """See the module. Made by `Shell.open`, ended by `aclose`."""

    def __init__(
        self, settings: ShellSettings, output: Output, pipe: Pipe, tap: FrameTap, profile: LinkProfile
    ) -> None:
        self._settings = settings
        self._output = output
        self._next_pipe: Pipe | None = pipe
        self._pipe = pipe
        self._tap = tap
        self._station = PrimaryStation(replace(profile, baud=settings.baud))
        self._link = Link(self._open_again, self._station, name=settings.port)
        self.board = BoardClient(self._link, self._station, poll_s=settings.poll_s)
        self.board.on_message = output.unasked
        self.completion = Completion()
        self.runner = Runner(
            self.board,
            output,
            write=lambda octets: self._pipe.write(octets),
            link_up=self._link.connect,
            link_down=self._link.disconnect,
            stats=self.stats,
            guarded=settings.guarded and self.board.per_exchange,
        )
        self._tasks = [asyncio.create_task(self._link.run()), asyncio.create_task(self.board.run())]

    @classmethod
    async def open(cls, settings: ShellSettings, output: Output) -> Shell:
        """Open the port and find out which link the board wants.

        Raises:
            PortError: the port can't be opened.
            BoardSilent: with profile `auto`, no board answered.
        """
        view = _View(settings, output)
        tap = FrameTap(asyncio.get_running_loop().time, view.show)
        pipe = TapPipe(await open_port(settings.port, baud=settings.baud, wake=settings.wake), tap)
        try:
            name = settings.profile if settings.profile != "auto" else await identify(pipe)
            if name is None:
                raise BoardSilent(
                    f"no board answers SNRM at {settings.baud} baud on {settings.port}",
                    evidence="silence" if not view.heard else f"{view.heard} frames or stretches of noise, no UA",
                    fix="`meshwire probe PORT` looks for the cause; --profile milli goes on without an answer",
                )
        except BaseException:
            await pipe.aclose()
            raise
        view.hides_polls = name == "standard" and not settings.all_frames
        return cls(settings, output, pipe, tap, LINK_PROFILES[name])

    async def aclose(self) -> None:
        """End the link in good order as far as it goes, and give the port back."""
        if self._link.status.state not in (LinkState.OPENING, LinkState.CLOSED):
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self.board.finish()
        self.board.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._next_pipe is not None:
            await self._next_pipe.aclose()

    def stats(self) -> LinkStats:
        """The counters now."""
        return link_stats(self._link, self._station, self.board.round_trips, self.board.notifications)

    async def run_script(self, script: Script) -> int:
        """Carry out a script up to its first failure that is not to be passed over; the exit code."""
        for command, forgiving in script:
            try:
                if not await self.runner.run(command):
                    break
            except ShellError as error:
                if not isinstance(error, DeviceAnsweredError) or not forgiving:
                    self._output.error(str(error), error.code)
                if not forgiving:
                    return error.exit_code
        return ExitCode.OK

    async def run_lines(self, read_line: ReadLine) -> int:
        """Carry out lines until there are no more; a failure is told, and the next line asked for."""
        while (line := await read_line()) is not None:
            try:
                command = parse_line(line)
                if command is not None and not await self.runner.run(command):
                    break
            except DeviceAnsweredError:
                pass  # the answer was shown: here that is what was asked for
            except ShellError as error:
                self._output.error(str(error), error.code)
            self.completion.learn(self.runner.used)
        return ExitCode.OK

    async def learn_paths(self) -> None:
        """Ask the board for its paths, for completion; no answer is no matter."""
        try:
            answer = await self.board.request(request_message(Request(codes.GET, "/.well-known/core")))
        except BoardSilent:
            return
        self.completion.learn(link_targets(answer.message.payload.decode(errors="replace")))

    async def _open_again(self) -> Pipe:
        """The pipe that is open already, the first time; the port anew after each loss."""
        pipe, self._next_pipe = self._next_pipe, None
        if pipe is None:
            pipe = TapPipe(
                await open_port(self._settings.port, baud=self._settings.baud, wake=self._settings.wake), self._tap
            )
        self._pipe = pipe
        return pipe


class _View:
    """The live view: which of the frames on the line are shown."""

    def __init__(self, settings: ShellSettings, output: Output) -> None:
        self.hides_polls = False
        self.heard = 0
        self._shown = settings.frames
        self._output = output

    def show(self, seen: Seen) -> None:
        self.heard += seen.direction is Direction.IN
        is_poll = isinstance(seen.item, Frame) and seen.item.control.kind is FrameKind.RR
        if self._shown and not (is_poll and self.hides_polls):
            self._output.frame(seen)
