"""TappedPipe: any Pipe, with everything that passes recorded. The line itself is left as it is.

A recording that fails (disk full, reader gone) is given up with one warning; the line goes on, unless the recording is
what the line was opened for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from meshwire.capture.file import open_capture
from meshwire.capture.record import Side
from meshwire.capture.recorder import Recorder
from meshwire.pipe import Pipe

__all__ = ["TappedPipe", "tap_to_file"]

_log = structlog.get_logger(__name__)


class TappedPipe:
    """See the module.

    Args:
        pipe: what carries the octets; closed with this one.
        recorder: told of everything.
        reader: which side this end is: what is written here was sent by it, what is read by the other.
        close: called once when the pipe is closed; closes the file.
        clock_ns: Unix time in nanoseconds.
        raises: let an OSError of the recording reach who reads or writes.
    """

    def __init__(
        self,
        pipe: Pipe,
        recorder: Recorder,
        *,
        reader: Side = Side.NIC,
        close: Callable[[], None] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        raises: bool = False,
    ) -> None:
        self.name = pipe.name
        self.inner = pipe
        self._recorder: Recorder | None = recorder
        self._reader = reader
        self._close = close
        self._clock_ns = clock_ns
        self._raises = raises
        self._on_attention: Callable[[], None] | None = None

    @property
    def on_attention(self) -> Callable[[], None] | None:
        return self._on_attention

    @on_attention.setter
    def on_attention(self, callback: Callable[[], None] | None) -> None:
        self._on_attention = callback
        self.inner.on_attention = None if callback is None else self._attend

    async def read(self) -> bytes:
        data = await self.inner.read()
        if data:
            self._record(lambda recorder, now: recorder.heard(self._reader.other, data, now))
        return data

    def write(self, data: bytes) -> None:
        # Recorded first: the answer to it may be read by another task before this one goes on.
        self._record(lambda recorder, now: recorder.heard(self._reader, data, now))
        self.inner.write(data)

    async def drain(self) -> None:
        await self.inner.drain()

    async def aclose(self) -> None:
        await self.inner.aclose()
        self._record(lambda recorder, _: recorder.finish())
        self._recorder = None
        if self._close is not None:
            self._close()
            self._close = None

    def pulse_attention(self) -> None:
        self._note(self._reader)
        self.inner.pulse_attention()

    def _attend(self) -> None:
        self._note(self._reader.other)
        if self._on_attention is not None:
            self._on_attention()

    def _note(self, sender: Side) -> None:
        self._record(lambda recorder, now: recorder.event(sender, "wake line pulsed", now))

    def _record(self, tell: Callable[[Recorder, int], None]) -> None:
        if self._recorder is None:
            return
        try:
            tell(self._recorder, self._clock_ns())
        except OSError as error:
            self._recorder = None
            if self._raises:
                raise
            _log.warning("recording given up, the line goes on", port=self.name, error=str(error))


def tap_to_file(pipe: Pipe, path: Path) -> TappedPipe:
    """Record `pipe`, the NIC's end of a line, behind what `path` already holds: a port that is opened again goes on.

    Raises:
        CaptureError: MW-CAP-001.
    """
    capture = open_capture(path, pipe.name, append=True)
    return TappedPipe(pipe, Recorder([capture]), close=capture.close)
