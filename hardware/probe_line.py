"""A line that is asked one frame at a time, with silence between: all that a stranger's board may be put through.

Does: send a frame, listen until the answer is whole or the time is over, tell everything that came. Keeps the quiet
time: no two frames of ours begin within `QUIET_S`, whatever the caller does (a Milli board takes two frames in one
buffer for damage and drops both, dialect A.7). Does not: judge what came, repeat, or open the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from meshwire.hdlc.deframer import Deframer, Discarded
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.pipe import Pipe

__all__ = ["ANSWER_S", "QUIET_S", "Heard", "ProbeLine"]

QUIET_S: Final = 0.45
"""Above the 400 ms of silence after which a Milli board looks at what it got."""
ANSWER_S: Final = 1.2
"""How long the first octet of an answer may take: 450 ms, 250 ms for a slow sensor, and a margin."""
OCTET_GAP_S: Final = 0.2
"""Silence after which what came is all that comes."""
_MOST_OCTETS: Final = 4096
"""A line that never falls silent is left after so many octets."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came on the line.

    Args:
        octets: all of it, as it came.
        frames: the well-formed frames in it.
        discarded: what was no frame, with the reasons.
        delay_s: seconds from the question's end to the first octet; None for silence.
        hung_up: the line was lost meanwhile.
    """

    octets: bytes = b""
    frames: tuple[Frame, ...] = ()
    discarded: tuple[Discarded, ...] = ()
    delay_s: float | None = None
    hung_up: bool = False


class ProbeLine:
    """See the module.

    Args:
        pipe: the opened line; stays the caller's to close.
        now, sleep: the clock, so that tests may drive it.
    """

    def __init__(
        self,
        pipe: Pipe,
        *,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pipe = pipe
        self._now = now or asyncio.get_running_loop().time
        self._sleep = sleep
        self._silent_from = float("-inf")
        self.octets_seen = 0

    async def ask(self, frame: Frame) -> Heard:
        """Send one frame after the quiet time and return what comes back."""
        await self._keep_quiet()
        octets = encode_frame(frame)
        self._pipe.write(octets)
        self._silent_from = self._now()
        return await self.listen(ANSWER_S, echo=frame)

    async def listen(self, first_octet_s: float, echo: Frame | None = None) -> Heard:
        """Return what comes: until a frame with F, until the line is silent again, or after silence of `first_octet_s`.

        Args:
            first_octet_s: seconds to wait for the first octet.
            echo: our own question, after which, on a line that echoes, an answer may still come.
        """
        began = self._now()
        deframer = Deframer()
        octets = b""
        found: list[Frame | Discarded] = []
        delay_s: float | None = None
        hung_up = False
        while len(octets) < _MOST_OCTETS:
            begins = delay_s is None or found == [echo]
            data = await self._read(first_octet_s if begins else OCTET_GAP_S)
            if data is None:
                break
            if not data:
                hung_up = True
                break
            delay_s = self._now() - began if delay_s is None else delay_s
            octets += data
            found += deframer.feed(data)
            if _is_whole(found, echo) and not deframer.held_octets:
                break
        found += deframer.idle()
        self.octets_seen += len(octets)
        if octets and not _is_whole(found, echo):
            self._silent_from = self._now()  # whoever talks there is not to be talked into
        frames = tuple(item for item in found if isinstance(item, Frame))
        return Heard(octets, frames, tuple(i for i in found if isinstance(i, Discarded)), delay_s, hung_up)

    async def _read(self, timeout_s: float) -> bytes | None:
        """Octets, b"" for a line that is lost, None when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._pipe.read()
        except TimeoutError:
            return None

    async def _keep_quiet(self) -> None:
        wait_s = self._silent_from + QUIET_S - self._now()
        if wait_s > 0:
            await self._sleep(wait_s)


def _is_whole(found: list[Frame | Discarded], echo: Frame | None) -> bool:
    """Whether a frame with F has ended the answer (P/F passes the turn back)."""
    last = found[-1] if found else None
    return isinstance(last, Frame) and last.control.poll_final and last != echo
