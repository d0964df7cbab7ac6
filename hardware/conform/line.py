"""The line under the bench: octets out, octets in until silence, and every one of them as evidence."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hardware.conform.case import Exchange
from hardware.conform.errors import PortLost
from hardware.conform.seen_frame import Fault, SeenFrame, read_frames
from meshwire.hdlc.control import FrameKind
from meshwire.pipe import Pipe

__all__ = ["Line", "Turn"]

_MAX_EVIDENCE: Final = 400
"""Octet strings kept of a case; of a longer one, the last ones."""
_INSIDE_FRAME_S: Final = 0.25
"""Silence that ends an answer which did not end with a flag."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What came back: ``delay_s`` until the first octet and ``longest_gap_s`` between octets, in seconds."""

    octets: bytes
    seen: tuple[SeenFrame, ...]
    """Everything, noise included."""
    delay_s: float
    longest_gap_s: float

    @property
    def frames(self) -> tuple[SeenFrame, ...]:
        """What is between flags."""
        return tuple(frame for frame in self.seen if Fault.NOISE not in frame.faults)

    @property
    def last(self) -> SeenFrame | None:
        """The last frame, the one that should carry F."""
        return self.frames[-1] if self.frames else None

    def has(self, *kinds: FrameKind) -> bool:
        """Whether a frame of one of these kinds came."""
        return any(frame.kind in kinds for frame in self.frames)

    def __str__(self) -> str:
        return ", ".join(str(frame.control) for frame in self.frames) or "silence"


class Line:
    """One open pipe. Make it inside a running loop, whose clock is the only one used; ``aclose`` closes the pipe.

    Args:
        pipe: the board's port.
        answer_timeout_s: silence, in seconds, that means no answer.
        gap_s: silence, in seconds, that ends an answer.
    """

    def __init__(self, pipe: Pipe, *, answer_timeout_s: float, gap_s: float) -> None:
        self.slowest_s = 0.0
        """The longest turn-around so far: a slow board is polled for longer."""
        self._pipe = pipe
        self._answer_timeout_s: Final = answer_timeout_s
        self._gap_s: Final = gap_s
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._evidence: deque[Exchange] = deque(maxlen=_MAX_EVIDENCE)
        self._received = bytearray()
        self._arrival = asyncio.Event()
        self._lost = False
        self._reader = asyncio.create_task(self._read())

    def now(self) -> float:
        """Seconds of the loop's clock."""
        return self._loop.time()

    async def aclose(self) -> None:
        """Stop reading and close the pipe."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._pipe.aclose()

    # ---- evidence

    def begin_case(self) -> None:
        """Forget the evidence of the case before."""
        self._evidence.clear()
        self._began_at = self.now()

    def evidence(self) -> tuple[Exchange, ...]:
        """Every octet since ``begin_case``."""
        return tuple(self._evidence)

    def _note(self, direction: str, octets: bytes) -> None:
        self._evidence.append(Exchange(self.now() - self._began_at, direction, octets))

    # ---- octets

    async def _read(self) -> None:
        try:
            while data := await self._pipe.read():
                self._received += data
                self._arrival.set()
        finally:
            self._lost = True
            self._arrival.set()

    async def _wait_for_octets(self, seconds: float) -> bool:
        """Wait until something came; False after ``seconds`` of silence."""
        if not self._received:
            self._arrival.clear()
            if self._lost:
                raise PortLost("the port hung up", fix="plug the board in and run again")
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._arrival.wait()
            except TimeoutError:
                return False
        return bool(self._received)

    def write(self, octets: bytes) -> None:
        """Put octets on the line as they are."""
        self._note(">", octets)
        self._pipe.write(octets)

    async def collect(self, wait_s: float | None = None, *, until_final: bool = False) -> Turn:
        """Collect until the line is silent, or until a frame with F has come.

        Args:
            wait_s: how long the first octet is waited for.
            until_final: stop at a whole frame with F.
        """
        begin = last = self.now()
        data, delay_s, gap_s = b"", 0.0, 0.0
        frames: tuple[SeenFrame, ...] = ()
        patience = self._answer_timeout_s if wait_s is None else wait_s
        while await self._wait_for_octets(patience):
            now = self.now()
            if data:
                gap_s = max(gap_s, now - last)
            else:
                delay_s = now - begin
            last = now
            data += bytes(self._received)
            self._received.clear()
            if until_final and _ends_with_final(frames := read_frames(data)):
                break
            patience = self._gap_s if data[-1] == 0x7E else max(self._gap_s, _INSIDE_FRAME_S)
        if data:
            self._note("<", data)
            self.slowest_s = max(self.slowest_s, delay_s)
        return Turn(data, frames or read_frames(data), delay_s, gap_s)

    async def raw(self, *pieces: bytes, pause_s: float = 0.0, until_final: bool = False) -> Turn:
        """Send octets, in pieces with pauses between, and collect the answer."""
        if self._received:
            await self.collect(0)
        for index, piece in enumerate(pieces):
            if index:
                await asyncio.sleep(pause_s)
            self.write(piece)
        await self._pipe.drain()
        return await self.collect(until_final=until_final)


def _ends_with_final(frames: Sequence[SeenFrame]) -> bool:
    return bool(frames) and frames[-1].final and frames[-1].octets.endswith(b"\x7e")
