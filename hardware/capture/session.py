"""CaptureSession: a port, opened again when it is lost, and the other side of the line, joined octet for octet.

Does: stand between NIC and board, pass octets and wake pulses on in both directions, or only listen; tell the recorder.
Does not: understand a frame. The caller owes: a task for `run`, which ends when it is cancelled, or when the peer hangs
up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from hardware.capture.tap import TappedPipe
from meshwire.capture.errors import CaptureError, CaptureProblem
from meshwire.capture.record import Side
from meshwire.capture.recorder import Recorder
from meshwire.pipe import Pipe

__all__ = ["CaptureSession"]

_SILENCE_CHECK_S: Final = 0.1
_FIRST_RETRY_S: Final = 0.2
_LONGEST_RETRY_S: Final = 5.0

_log = structlog.get_logger(__name__)

PipeOpener = Callable[[], Awaitable[Pipe]]


class CaptureSession:
    """See the module.

    Args:
        open_port: opens the port; the first failure is the caller's, later ones are tried again after 0.2 to 5 s.
        recorder: told of everything.
        port_side: who is at the port.
        peer: the other side's line; None to listen only.
        clock_ns: Unix time in nanoseconds.
    """

    def __init__(
        self,
        open_port: PipeOpener,
        recorder: Recorder,
        *,
        port_side: Side = Side.BOARD,
        peer: Pipe | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._open_port = open_port
        self._recorder = recorder
        self._side = port_side
        self._peer = peer
        self._port: Pipe | None = None
        self._clock_ns = clock_ns

    async def run(self) -> None:
        """Capture until cancelled.

        Raises:
            PortError: the port could not be opened at first.
            CaptureError: MW-CAP-004, the peer hung up.
            OSError: a sink can take no more.
        """
        port = await self._open_port()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._live(port))  # first, so that the peer's first octets find the port
                tasks.create_task(self._watch_silence())
                if self._peer is not None:
                    self._peer.on_attention = self._attention_of_peer
                    tasks.create_task(self._pass_from_peer(self._peer))
        finally:
            self._recorder.finish()
            if self._peer is not None:
                await self._peer.aclose()

    async def _live(self, port: Pipe) -> None:
        """One opened port after the other."""
        while True:
            await self._listen(port)
            self._recorder.event(self._side, "port lost", self._clock_ns())
            port = await self._open_again()

    async def _listen(self, port: Pipe) -> None:
        # What the peer sends is recorded where it is written; closing the tap must not close the recording.
        tapped = TappedPipe(port, self._recorder, reader=self._side.other, clock_ns=self._clock_ns, raises=True)
        tapped.on_attention = self._attention_of_port
        self._port = tapped
        try:
            while data := await tapped.read():
                if self._peer is not None:
                    self._peer.write(data)
                    await self._peer.drain()
        finally:
            self._port = None
            await tapped.aclose()

    async def _open_again(self) -> Pipe:
        pause_s = _FIRST_RETRY_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
            try:
                return await self._open_port()
            except Exception as error:
                _log.warning("port not opened", error=str(error))

    async def _pass_from_peer(self, peer: Pipe) -> None:
        """Octets for a port that is lost just now are lost too, as on a wire that is cut."""
        while data := await peer.read():
            if self._port is not None:
                self._port.write(data)
                await self._port.drain()
        raise CaptureError(
            CaptureProblem.PEER_LOST, "the peer hung up", evidence=peer.name, fix="start the capture again"
        )

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(_SILENCE_CHECK_S)
            self._recorder.silence(self._clock_ns())

    def _attention_of_port(self) -> None:
        if self._peer is not None:
            self._peer.pulse_attention()

    def _attention_of_peer(self) -> None:
        if self._port is not None:
            self._port.pulse_attention()
