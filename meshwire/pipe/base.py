"""What a Pipe is: the one interface between a link and whatever carries its octets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

__all__ = ["HIGH_WATER_OCTETS", "Pipe", "Resettable", "pulse_reset"]

HIGH_WATER_OCTETS: Final = 64 * 1024
"""`drain` waits while more than this is queued, and reading pauses while more than this is unread. A window of seven
full HDLC frames is 16 KiB at most, so no orderly peer ever meets it."""


class Pipe(Protocol):
    """Ordered octets in both directions, and a wake line where there is one.

    `on_attention` is called in the loop's thread each time the peer pulses the wake line; `None` means nobody listens.
    """

    name: str
    on_attention: Callable[[], None] | None

    async def read(self) -> bytes:
        """Wait for octets and return all there are; `b""` means hung up, for good. One reader at a time."""
        ...

    def write(self, data: bytes) -> None:
        """Queue octets; never blocks, never raises for the line's sake (a lost line shows up in `read`)."""
        ...

    async def drain(self) -> None:
        """Wait until the queue is short again; returns at once on a line that is gone."""
        ...

    async def aclose(self) -> None:
        """Give everything back (descriptors, tasks, files); may be called twice."""
        ...

    def pulse_attention(self) -> None:
        """Pulse the wake line, where there is one."""
        ...


@runtime_checkable
class Resettable(Protocol):
    """A Pipe with lines that a board's reset may be wired to."""

    def pulse_reset(self, line: str) -> bool:
        """Pulse `dtr`, `rts` or `break`; False where the port has no such line."""
        ...


def pulse_reset(pipe: Pipe, line: str) -> bool:
    """Pulse a reset line of a Pipe, also through wrappers (`inner`); False where there is none."""
    inside: object = pipe
    while inside is not None:
        if isinstance(inside, Resettable):
            return inside.pulse_reset(line)
        inside = getattr(inside, "inner", None)
    return False
