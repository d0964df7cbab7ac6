"""PORT, as users write it, to Pipe; and the list of the ports that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from hardware.capture.tap import tap_to_file
from hardware.errors import PortError, PortProblem
from hardware.fault_control import open_controlled
from hardware.holders import Holder, holders
from hardware.port_spec import (
    DevicePort,
    FaultyPort,
    PortSpec,
    PtyPort,
    SimPort,
    TappedPort,
    TcpPort,
    UrlPort,
    parse_port,
)
from hardware.serial_pipe import KnownPort, known_ports, open_serial
from hardware.sim_port import open_sim
from hardware.wake_line import WakeInput
from meshwire.pipe import Pipe, PtyPipe, open_pty, open_tcp

__all__ = ["PortInfo", "list_ports", "moving_name", "open_port", "peer_path"]

_STABLE_FOLDERS: Final = ("/dev/serial/by-id", "/dev/meshwire", "/dev/serial/by-path")
"""In the order in which their names are preferred; /dev/meshwire is made by `deploy/udev`."""
_NUMBERED_IN_ORDER: Final = re.compile(r"/dev/(ttyUSB|ttyACM|cu\.usb|rfcomm)")
"""Devices that the system numbers in the order in which they were plugged in."""


@dataclass(frozen=True, slots=True)
class PortInfo:
    """One serial port of this machine.

    Args:
        device: where the system has put it this time.
        stable_name: a path that survives unplugging and restarting; the device where there is none.
        description: what the device calls itself.
        hardware_id: vendor, product and serial number, as pyserial writes them.
        holders: the processes that have it open, as far as this user may see.
        names: all names of it that last, the preferred one first.
    """

    device: str
    stable_name: str
    description: str
    hardware_id: str
    holders: tuple[Holder, ...]
    names: tuple[str, ...] = ()


async def open_port(uri: str, *, baud: int = 38400, wake: WakeInput = WakeInput.NONE) -> Pipe:
    """Open any PORT.

    A pty and a network port deliver at once; `meshwire.pipe.RateLimitedPipe` around one end gives them a line rate.

    Args:
        uri: device path, socket://, rfc2217://, pty[:LINK], sim://PROFILE?sensor=…, or fault+ or tap+ and one of these.
        baud: bits a second, for ports that have a rate.
        wake: modem-control input that the board pulses, for ports that have one.

    Raises:
        PortError: with the code that fits.
        CaptureError: the file of a tap cannot be written.
    """
    return await _open(parse_port(uri), baud, wake)


async def _open(spec: PortSpec, baud: int, wake: WakeInput) -> Pipe:
    match spec:
        case DevicePort(path=path):
            return await open_serial(path, baud=baud, wake=wake)
        case UrlPort(url=url):
            return await open_serial(url, baud=baud)
        case PtyPort(link=link):
            return _open_pty(link)
        case TcpPort(host=host, port=port):
            return await _open_tcp(host, port)
        case SimPort():
            return await open_sim(spec, baud=baud)
        case FaultyPort():
            return await _open_faulty(spec, baud, wake)
        case TappedPort(inner=inner, file=file):
            return await _open_tapped(inner, Path(file), baud, wake)
        case _:
            assert_never(spec)


def peer_path(pipe: Pipe) -> str | None:
    """Where the other side of a pty is to be opened, also through wrappers; None for other pipes."""
    inner: object = pipe
    while not isinstance(inner, PtyPipe):
        inner = getattr(inner, "inner", None)
        if inner is None:
            return None
    return inner.peer_path


def list_ports() -> tuple[PortInfo, ...]:
    """The serial ports of this machine, sorted by device path, with their stable names and who holds them."""
    stable: dict[str, list[str]] = {}
    for name, device in _stable_names():
        stable.setdefault(device, []).append(name)
    return tuple(_info(port, tuple(stable.get(port.device, ()))) for port in known_ports())


def _info(port: KnownPort, names: tuple[str, ...]) -> PortInfo:
    stable_name = names[0] if names else port.device
    return PortInfo(port.device, stable_name, port.description, port.hardware_id, holders(port.device), names)


def moving_name(configured: str, found: Sequence[PortInfo]) -> str | None:
    """Why a configured port should be named otherwise, and how; None when its name lasts.

    Args:
        configured: PORT as it stands in a configuration.
        found: the ports of this machine.
    """
    path = re.sub(r"^((fault|tap)\+)*", "", configured).partition("?")[0]
    if not _NUMBERED_IN_ORDER.match(path):
        return None
    known = next((port for port in found if port.device == path), None)
    says = f"the configuration names {path}, which may be another device after the next plug or restart"
    if known is None:
        return f"{says}, and is not there now"
    if known.stable_name == known.device:
        return f"{says}; this device has no stable name here (a udev rule can give it one)"
    return f"{says}; write {known.stable_name}"


def _stable_names() -> Iterator[tuple[str, str]]:
    """(stable name, device), the preferred ones first."""
    for folder in _STABLE_FOLDERS:
        try:
            links = sorted(Path(folder).iterdir())
        except OSError:
            continue
        yield from ((str(link), str(link.resolve())) for link in links)


def _open_pty(link: str | None) -> Pipe:
    try:
        return open_pty(link)
    except OSError as error:
        raise PortError(
            PortProblem.NO_PTY,
            f"cannot make the pseudo-terminal pty:{link}" if link else "cannot make a pseudo-terminal",
            evidence=str(error),
            fix="name a link in a folder that exists and may be written",
        ) from None


async def _open_faulty(spec: FaultyPort, baud: int, wake: WakeInput) -> Pipe:
    pipe = await _open(spec.inner, baud, wake)
    try:
        return await open_controlled(pipe, spec.plan, spec.name)
    except BaseException:
        await pipe.aclose()
        raise


async def _open_tapped(inner: PortSpec, file: Path, baud: int, wake: WakeInput) -> Pipe:
    pipe = await _open(inner, baud, wake)
    try:
        return tap_to_file(pipe, file)
    except BaseException:
        await pipe.aclose()
        raise


async def _open_tcp(host: str, port: int) -> Pipe:
    try:
        return await open_tcp(host, port)
    except OSError as error:
        raise PortError(
            PortProblem.UNREACHABLE,
            f"no connection to socket://{host}:{port}",
            evidence=str(error),
            fix="check host, port and that the server there is running",
        ) from None
