"""Serial ports as Pipes; the only file that knows pyserial.

On POSIX a native port is opened and configured by pyserial and then read and written without blocking by the loop. What
has no descriptor of that kind (rfc2217://, other handlers, Windows) is served by two threads.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import serial
import serial.tools.list_ports

from hardware.errors import PortError, PortProblem
from hardware.holders import lock_holder
from hardware.wake_line import WakeInput, WakeLine, edge_counter
from meshwire.pipe import DescriptorPipe, Inbox, Pipe

__all__ = ["KnownPort", "SerialPipe", "ThreadedPipe", "known_ports", "open_serial"]

_THREAD_READ_TIMEOUT_S: Final = 0.1
"""How long a reader thread may overlook that its pipe was closed."""

RESET_PULSE_S: Final = 0.1
"""Long enough for the capacitor between DTR and RESET of an Arduino, and for a break of any rate from 110 baud on."""

_RESET_LINES: Final = {"dtr": ("dtr", True), "rts": ("rts", True), "break": ("break_condition", False)}
"""Attribute of pyserial's port, and its value at rest."""

_PROBLEM_BY_ERRNO: Final = {
    errno.ENOENT: PortProblem.ABSENT,
    errno.ENODEV: PortProblem.ABSENT,
    errno.ENXIO: PortProblem.ABSENT,
    errno.EIO: PortProblem.ABSENT,
    errno.EACCES: PortProblem.NOT_PERMITTED,
    errno.EPERM: PortProblem.NOT_PERMITTED,
    errno.EAGAIN: PortProblem.BUSY,
    errno.EBUSY: PortProblem.BUSY,
    errno.ENOTTY: PortProblem.NOT_SERIAL,
    errno.EINVAL: PortProblem.NOT_SERIAL,
    errno.EISDIR: PortProblem.NOT_SERIAL,
}

_FIX: Final = {
    PortProblem.ABSENT: "plug the device in, or see what is there with `meshwire ports`",
    PortProblem.NOT_PERMITTED: "join the port's group (Debian: sudo usermod -aG dialout $USER) and log in again",
    PortProblem.BUSY: "end that process, or use another port",
    PortProblem.NOT_SERIAL: "compare `meshwire ports`, and use a usual baud rate such as 38400",
    PortProblem.UNREACHABLE: "check host, port and that the server there is running",
    PortProblem.NOT_UNDERSTOOD: "give a device path, socket://HOST:PORT, rfc2217://HOST:PORT, pty[:LINK] or sim://PROFILE",
    PortProblem.OTHER: "see what the system says above",
}


# pyserial is not annotated; it is used through these two names.
_pyserial: Any = serial
_list_ports: Any = serial.tools.list_ports


@dataclass(frozen=True, slots=True)
class KnownPort:
    """A port that the system knows: its device path, what it calls itself, and its hardware identity."""

    device: str
    description: str
    hardware_id: str


def known_ports() -> tuple[KnownPort, ...]:
    """The serial ports of this machine, sorted by device path."""
    found = (KnownPort(p.device, p.description, p.hwid) for p in _list_ports.comports())
    return tuple(sorted(found, key=lambda port: port.device))


class SerialPipe(DescriptorPipe):
    """A native serial port (POSIX), opened and locked.

    Args:
        port: pyserial's open port; closed with this pipe.
        name: for logs.
        wake: the modem-control input that the board pulses.
    """

    def __init__(self, port: Any, name: str, wake: WakeInput) -> None:
        edges = edge_counter(port.fileno(), wake)
        super().__init__(port.fileno(), name, self._give_back)
        self._port = port
        self._wake_line = None if edges is None else WakeLine(edges, self._attend)

    def pulse_reset(self, line: str) -> bool:
        """Pulse DTR, RTS or a break for `RESET_PULSE_S`; False where the driver has no such line (a pty)."""
        attribute, at_rest = _RESET_LINES[line]
        try:
            setattr(self._port, attribute, not at_rest)
        except OSError:
            return False
        self._loop.call_later(RESET_PULSE_S, self._end_pulse, attribute, at_rest)
        return True

    def _end_pulse(self, attribute: str, at_rest: bool) -> None:
        with suppress(OSError):  # closed meanwhile: the driver has let the line go
            setattr(self._port, attribute, at_rest)

    def _attend(self) -> None:
        if self.on_attention is not None:
            self.on_attention()

    def _give_back(self) -> None:
        if self._wake_line is not None:
            self._wake_line.close()
        self._port.close()


class ThreadedPipe:
    """A port that can only be read by waiting for it: one thread reads, one writes.

    Args:
        port: pyserial's open port with a short read timeout; closed with this pipe.
        name: for logs.
    """

    def __init__(self, port: Any, name: str) -> None:
        self.name = name
        self.on_attention: Callable[[], None] | None = None
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox()
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=f"{name} {what}", daemon=True)
            for run, what in ((self._read_on, "reader"), (self._write_on, "writer"))
        ]
        for thread in self._threads:
            thread.start()

    async def read(self) -> bytes:
        return await self._inbox.get()

    def write(self, data: bytes) -> None:
        if not self._closing.is_set():
            self._outgoing.put(data)

    async def drain(self) -> None:
        """The writer thread's queue is not waited for: nothing here tells how full the far end is."""

    async def aclose(self) -> None:
        self._closing.set()
        self._inbox.hang_up()
        self._outgoing.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 2.0)
        with suppress(OSError):
            await asyncio.to_thread(self._port.close)

    def pulse_attention(self) -> None:
        """No wake line through a handler of pyserial."""

    def _read_on(self) -> None:
        """In a thread: until closed or hung up."""
        while not self._closing.is_set():
            try:
                data = self._port.read(max(1, self._port.in_waiting))
            except (OSError, TypeError):  # TypeError: pyserial's own, for a port closed meanwhile
                break
            if data:
                self._tell(self._inbox.put, bytes(data))
        self._tell(self._inbox.hang_up)

    def _write_on(self) -> None:
        """In a thread: until closed or hung up."""
        while (data := self._outgoing.get()) is not None:
            try:
                self._port.write(data)
            except (OSError, TypeError):
                self._tell(self._inbox.hang_up)
                return

    def _tell(self, call: Callable[..., None], *arguments: bytes) -> None:
        with suppress(RuntimeError):  # the loop has ended before this thread
            self._loop.call_soon_threadsafe(call, *arguments)


async def open_serial(address: str, *, baud: int, wake: WakeInput = WakeInput.NONE) -> Pipe:
    """Open a device path or a pyserial URL, 8N1, without flow control, locked against other processes.

    Args:
        address: what pyserial takes.
        baud: bits a second.
        wake: modem-control input of the wake line; ignored where there are none (a pty, a network port).

    Raises:
        PortError: with the code that fits.
    """
    try:
        if "://" not in address and os.name == "posix":
            return _native(address, baud, wake)
        return await _threaded(address, baud)
    except OSError as error:  # SerialException is one
        raise _told(address, error.errno, str(error)) from None
    except ValueError as error:
        raise _told(address, None, str(error)) from None


def _native(address: str, baud: int, wake: WakeInput) -> SerialPipe:
    """pyserial opens with O_NONBLOCK, so this waits for nothing."""
    port = _pyserial.Serial(address, baudrate=baud, timeout=0, exclusive=True)
    try:
        return SerialPipe(port, address, wake)
    except BaseException:
        port.close()
        raise


async def _threaded(address: str, baud: int) -> ThreadedPipe:
    """A connection over the network may take seconds, so a thread waits for it."""
    opening = asyncio.get_running_loop().run_in_executor(
        None, lambda: _pyserial.serial_for_url(address, baudrate=baud, timeout=_THREAD_READ_TIMEOUT_S)
    )
    try:
        return ThreadedPipe(await asyncio.shield(opening), address)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise


def _close_late(opening: asyncio.Future[Any]) -> None:
    """What was opened for somebody who did not wait for it."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _told(address: str, number: int | None, text: str) -> PortError:
    problem = (
        _PROBLEM_BY_ERRNO.get(number, PortProblem.OTHER) if number is not None else _problem_by_text(address, text)
    )
    evidence = os.strerror(number) if number is not None else text
    if problem is PortProblem.BUSY and (holder := lock_holder(address)) is not None:
        evidence = f"held by {holder}"
    return PortError(problem, f"cannot open the port {address}", evidence=evidence, fix=_FIX[problem])


def _problem_by_text(address: str, text: str) -> PortProblem:
    """Where pyserial gives no errno: its own checks of a path, and everything on the network."""
    if "protocol" in text and "not known" in text:
        return PortProblem.NOT_UNDERSTOOD
    if "://" in address:
        return PortProblem.UNREACHABLE
    return PortProblem.NOT_SERIAL if "configure" in text or "baud" in text else PortProblem.OTHER
