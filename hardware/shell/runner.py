"""Carries out commands, one after the other: the guard first, then the board, then what is said about it."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Final, assert_never

from hardware.probe_session import disc_frame, snrm_frame
from hardware.shell.board import Answer, BoardClient
from hardware.shell.commands import (
    HELP,
    Cancel,
    Command,
    Hex,
    Observe,
    Raw,
    Request,
    Simple,
    TimeGet,
    TimeSet,
    Wait,
    Word,
    request_message,
)
from hardware.shell.errors import DeviceAnsweredError
from hardware.shell.guard import check_frame, check_message, check_sdu
from hardware.shell.output import Output
from meshwire.coap import codes
from meshwire.coap.message import Message
from meshwire.hdlc.frame import FLAG, encode_frame
from meshwire.link_stats import LinkStats

__all__ = ["Runner"]

_TIME_TARGET: Final = "/sys/time"
_ABSOLUTE_TIME: Final = struct.Struct(">BBII")
"""Type 6, length 8, seconds, milliseconds (dialect B.3)."""
_ANSWER_S: Final = 1.2
_QUIET_S: Final = 0.45


class Runner:
    """See the module.

    Args:
        board: where requests go.
        output: where answers go.
        write: puts octets on the line, beside the link.
        link_up, link_down: the questions of a standing link.
        stats: the counters now.
        guarded: hold back what is known to crash boards.
    """

    def __init__(
        self,
        board: BoardClient,
        output: Output,
        *,
        write: Callable[[bytes], None],
        link_up: Callable[[], None],
        link_down: Callable[[], None],
        stats: Callable[[], LinkStats],
        guarded: bool,
    ) -> None:
        self.used: dict[str, None] = {}
        """Targets that were used, in order, for completion."""
        self._board = board
        self._output = output
        self._write = write
        self._link_up = link_up
        self._link_down = link_down
        self._stats = stats
        self._guarded = guarded

    async def run(self, command: Command) -> bool:
        """Carry out one command; False when the shell is to end.

        Raises:
            ShellError: it failed; the error says why.
        """
        match command:
            case Request():
                await self._request(command)
            case Observe(target=target):
                await self._observe(target)
            case Cancel(target=target):
                await self._cancel(target)
            case TimeGet():
                await self._time_get()
            case TimeSet(unix_s=unix_s):
                await self._time_set(unix_s)
            case Raw(octets=octets):
                await self._raw(octets)
            case Wait():
                await self._wait(command)
            case Hex(shown=shown):
                self._output.hex_shown = shown
            case Simple(word=word):
                return await self._simple(word)
            case _:
                assert_never(command)
        return True

    async def _simple(self, word: Word) -> bool:
        match word:
            case Word.SNRM:
                await self._link_question(encode_frame(snrm_frame()), self._link_up)
            case Word.DISC:
                await self._link_question(encode_frame(disc_frame()), self._link_down)
            case Word.POLL:
                await self._board.poll()
            case Word.STATS:
                self._output.stats(self._stats())
            case Word.HELP:
                self._output.note(HELP)
            case Word.QUIT:
                return False
            case _:
                assert_never(word)
        return True

    async def _request(self, command: Request) -> None:
        message = self._allowed(request_message(command))
        self.used[command.target] = None
        self._tell(command.target, await self._board.request(message))

    async def _observe(self, target: str) -> None:
        message = self._allowed(request_message(Request(codes.GET, target)))
        self.used[target] = None
        self._tell(target, await self._board.observe(message, target))

    async def _cancel(self, target: str | None) -> None:
        targets = list(dict.fromkeys(self._board.observations.values())) if target is None else [target]
        for one in targets:
            message = self._allowed(request_message(Request(codes.GET, one)))
            self._tell(one, await self._board.cancel(message, one))

    async def _time_get(self) -> None:
        answer = await self._board.request(request_message(Request(codes.GET, _TIME_TARGET)))
        if answer.message.code == codes.CONTENT and len(answer.message.payload) == 4:
            self._output.board_time(int.from_bytes(answer.message.payload, "big"), answer)
        else:
            self._tell(_TIME_TARGET, answer)

    async def _time_set(self, unix_s: int | None) -> None:
        seconds = int(time.time()) if unix_s is None else unix_s
        payload = _ABSOLUTE_TIME.pack(6, 8, seconds, 0)
        self._tell(_TIME_TARGET, await self._board.request(request_message(Request(codes.PUT, _TIME_TARGET, payload))))

    async def _raw(self, octets: bytes) -> None:
        if octets.startswith(FLAG):
            if self._guarded:
                check_frame(octets)
            await self._board.alone(lambda: self._write(octets), _QUIET_S, _ANSWER_S)
        else:
            if self._guarded:
                check_sdu(octets)
            await self._board.send_unmatched(octets)

    async def _link_question(self, octets: bytes, ask: Callable[[], None]) -> None:
        """On a standing link the station asks; between two sessions of the other kind the frame goes out by itself."""
        act = (lambda: self._write(octets)) if self._board.per_exchange else ask
        await self._board.alone(act, _QUIET_S, _ANSWER_S)

    async def _wait(self, command: Wait) -> None:
        ends = asyncio.get_running_loop().time() + command.seconds
        enough = None if command.notifications is None else self._board.notifications + command.notifications
        while (left_s := ends - asyncio.get_running_loop().time()) > 0:
            if enough is not None and self._board.notifications >= enough:
                return
            await asyncio.sleep(min(left_s, 0.05))

    def _allowed(self, message: Message) -> Message:
        if self._guarded:
            check_message(message)
        return message

    def _tell(self, target: str, answer: Answer) -> None:
        self._output.answer(target, answer)
        if not codes.is_success(answer.message.code):
            raise DeviceAnsweredError(
                "the board answered with an error", evidence=f"{codes.code_text(answer.message.code)} for {target}"
            )
